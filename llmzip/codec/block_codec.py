"""One block to a record and back, with the models that a process has loaded.

A `BlockCodec` knows nothing of frames: whoever cuts content into blocks, or finds records, holds one. Threads that share it take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from llmzip.archive import forms, lzma2
from llmzip.archive.forms import Transcript
from llmzip.archive.parser import Placed
from llmzip.archive.records import (
    Block,
    CodedBlock,
    FormBlock,
    ModelRecord,
    StoredBlock,
    XzBlock,
    content_check,
    encode_record,
    frame_size,
    sole_block,
)
from llmzip.codec.any_model import LoadedModel
from llmzip.codec.choosing import model_for
from llmzip.codec.cutting import is_enough, skip_model, smallest_classic
from llmzip.codec.density import is_dense
from llmzip.codec.loaded_models import LoadedModels
from llmzip.codec.observer import AnyAccount
from llmzip.codec.policy import Policy
from llmzip.codec.sampling import pays
from llmzip.codec.transcription import transcribe
from llmzip.errors import DamagedArchiveError, NotReproducedError
from llmzip.options import AUTO, Options
from llmzip.system import exact_threads

if TYPE_CHECKING:
    from llmzip.codec.any_model import Shape

_T_co = TypeVar("_T_co", covariant=True)

Progress = Callable[[float, int], None]  # share of a block that is done, from 0 to 1; bytes of its bitstream so far
Tell = Callable[[float], None]  # is told how many seconds something will take
Announce = Callable[[ModelRecord, CodedBlock, Callable[["list[Shape]", Tell], None]], None]  # is told of a coded block before it is
# decoded, and given what forecasts the time that such blocks will take

_MISMATCH = "a block's content does not match its check: the archive is damaged; get another copy"
_NO_MODEL = "a coded block comes before its model is named; get another copy"
_NOT_REPRODUCED = "noticed at the end of a block"
_FEW_SYMBOLS = 4096  # for so few the encoder tries every combination of the adapter's parts


class EncodedBlock(NamedTuple):
    """A block's record.

    Attributes:
        block: the record.
        model: the model record that must come before it; None if the block needs no model.
        instead: what takes its place if it is not alone in its frame: coding pays only in a sole block. None if coding pays.
    """

    block: CodedBlock | StoredBlock | XzBlock
    model: ModelRecord | None
    instead: StoredBlock | XzBlock | None = None


class Begun(Protocol[_T_co]):
    """A block whose encoding or decoding began before its turn."""

    def result(self, progress: Progress) -> _T_co:
        """What it gave."""
        ...


def ignore_progress(share: float, stream: int) -> None:
    """Report progress to nobody."""


def holds(encoded: EncodedBlock, assumed: ModelRecord | None, model: ModelRecord | None, added: Callable[[], int | None]) -> bool:
    """Whether a block that was encoded before its turn is what its turn would give.

    Args:
        encoded: the block, encoded as if none were held back before it.
        assumed: the model record that was taken to be in force.
        model: the one that is.
        added: about how many bytes the content adds to blocks that are held back; None if there are none.
    """
    block, own, instead = encoded
    if not isinstance(block, CodedBlock) or instead:
        return model == assumed  # blocks that are held back can only speak against the model
    if model not in (assumed, own):
        return False
    if (more := added()) is None:
        return True
    assert own is not None
    size = len(encode_record(block)) + (0 if model else len(encode_record(own)))
    return size < more and not is_enough(more, block.text if isinstance(block, FormBlock) else block.size)


class BlockCodec:
    """Encodes and decodes single blocks.

    Args:
        models: loads the models that are needed.
        policy: how the encoder decides whether the model codes a block.
    """

    def __init__(self, models: LoadedModels, policy: Policy = Policy.SMALLEST) -> None:
        self.models, self.policy = models, policy
        self._lock = exact_threads.ForkSafeLock()

    @property
    def alive(self) -> int | None:
        """How many workers compute now; None for this process alone, or if that is not known."""
        return None

    def encode(
        self,
        content: bytes,
        options: Options,
        model: ModelRecord | None = None,
        *,
        added: Callable[[bytes], int | None] = lambda content: None,
        progress: Progress = ignore_progress,
        account: AnyAccount | None = None,
        begun: Begun[EncodedBlock] | None = None,
    ) -> EncodedBlock:
        """Encode a block the way that takes fewest bytes.

        Args:
            content: the block's content.
            options: how to encode it.
            model: the model record that is in force; a coded block keeps to it. If None, a coded block brings its own.
            added: gives about how many bytes the content adds to blocks that are packed together with it; None if that does not apply.
            progress: is told how far coding is, now and then.
            account: watches the coding.
            begun: what `encoding` gave for this block.

        Raises:
            LLZError: the model cannot be had, or not be run.
        """
        transcript = transcribe(content)
        text = transcript.text if transcript else content
        plain = smallest_classic(content)
        choice = _Choice(self.models, options, text, model)
        more = added(content)
        limit = self._most_bytes(text, plain, choice, more)
        if limit or (account and account.thorough):

            def encode(report: exact_threads.Report) -> tuple[CodedBlock, ModelRecord]:
                with self._lock:
                    return _encode(choice.ready(), content, transcript, options, model, report, account)

            coded, own = exact_threads.run(encode, progress)
            if len(encode_record(coded)) + (0 if model else len(encode_record(own))) < limit:
                return EncodedBlock(coded, own)
            if limit and more is None and model is None and (sole := sole_block(own, coded)) and frame_size(sole) < frame_size(plain):
                return EncodedBlock(coded, own, plain)
        return EncodedBlock(plain, None)

    def _most_bytes(self, text: bytes, plain: StoredBlock | XzBlock, choice: _Choice, more: int | None) -> float:
        """Bytes that a coded block's records must stay below to be taken; 0 if the model need not be tried."""
        if self.policy is not Policy.SMALLEST:
            return float("inf") if self.policy is Policy.MODEL else 0
        if skip_model(text, plain):
            return 0
        limit = len(encode_record(plain))
        if more is not None:
            if is_enough(more, len(text)):
                return 0
            limit = min(limit, more)
        return limit if self._promises(text, len(plain.body()), choice) else 0

    def _promises(self, text: bytes, packed: int, choice: _Choice) -> bool:
        """Whether the model may take less than `packed` bytes for `text`. A sample is coded only where that is doubtful."""

        def sample(_: exact_threads.Report) -> bool:
            with self._lock:
                model = choice.ready()
                return model.samples and pays(model, choice.level, text, packed)

        return not is_dense(text) or exact_threads.run(sample)

    def encoding(
        self, contents: Iterator[bytes], options: Options, model: Callable[[], ModelRecord | None]
    ) -> Iterator[tuple[bytes, Begun[EncodedBlock] | None]]:  # fmt: skip
        """Yield blocks' contents in their order, each with what may have begun already, to be passed to `encode`. Here that is nothing.

        Args:
            contents: what is to be encoded.
            options: how to encode it.
            model: gives the model record that is known to be in force; None if there is none yet.
        """
        return ((content, None) for content in contents)

    def decoding(self, records: Iterator[Placed], announce: Announce | None) -> Iterator[tuple[Placed, Begun[bytes] | None]]:
        """Yield records in their order, each with what may have begun already, to be passed to `decode`. Here that is nothing."""
        return ((placed, None) for placed in records)

    def decode(
        self, record: Block, model: ModelRecord | None, progress: Progress = ignore_progress, announce: Announce | None = None,
        begun: Begun[bytes] | None = None,
    ) -> bytes:  # fmt: skip
        """Decode a block. Its content matches the block's own check.

        Args:
            record: the block.
            model: the model record in force; None if there is none.
            progress: is told how far decoding is, now and then.
            announce: is told of a coded block before it is decoded.
            begun: what `decoding` gave for this block.

        Raises:
            DamagedArchiveError: the content does not match the check.
            NotReproducedError: the content does not match the check, although the coded record is intact.
            LLZError: the model cannot be had, or not be run.
        """
        if isinstance(record, StoredBlock):
            return record.content
        if isinstance(record, XzBlock):
            content = lzma2.unpack(record.stream, record.size)
            if len(content) != record.size or content_check(content) != record.check:
                raise DamagedArchiveError(_MISMATCH)
            return content
        if model is None:
            raise DamagedArchiveError(_NO_MODEL)
        return self._decode_coded(record, model, progress, announce)

    def _decode_coded(self, record: CodedBlock, model: ModelRecord, progress: Progress, announce: Announce | None) -> bytes:
        def decode(report: exact_threads.Report) -> bytes:
            with self._lock:
                loaded = self.models.ready(model)
                if announce:
                    announce(model, record, lambda shapes, tell: tell(loaded.forecast_seconds(model, shapes)))
                return _decode(loaded, record, model, report)

        content = exact_threads.run(decode, progress)
        if content_check(content) != record.check:
            raise NotReproducedError(_NOT_REPRODUCED)
        return content


class _Choice:
    """The model that codes a block: the one that is in force in its frame, if there is one, or else the codec's own, or the best one for its text."""

    def __init__(self, models: LoadedModels, options: Options, text: bytes, model: ModelRecord | None) -> None:
        self._models, self._text, self._model = models, text, model
        self.level = options.level_settings()
        self._made: LoadedModel | None = None

    def ready(self) -> LoadedModel:
        """The model, with the present thread made ready to compute with it."""
        if self._made is None and self._model is not None and self._models.options.model == AUTO:
            self._made = self._models.named_by(self._model)
        if self._made is None:
            self._made = model_for(self._models, self.level, self._text)
        self._made.prepare()
        return self._made


def _encode(
    loaded: LoadedModel,
    content: bytes,
    transcript: Transcript | None,
    options: Options,
    model: ModelRecord | None,
    progress: Progress,
    account: AnyAccount | None,
) -> tuple[CodedBlock, ModelRecord]:
    level = options.level_settings()
    symbols = loaded.alphabet.encode(transcript.text if transcript else content)
    lanes = min(options.lanes or level.lanes(len(symbols)), len(symbols))
    candidates = [model or loaded.record(level)]
    if model is None and options.adapter is None and len(symbols) <= _FEW_SYMBOLS:  # learning may not pay on a short text
        candidates = [replace(candidates[0], adapter=adapter) for adapter in level.adapter.subsets()]
    attempts = {m.adapter: account.attempt() if account else None for m in candidates}
    coder = loaded.coder(candidates[0])
    streams = coder.encode_variants(symbols, lanes, attempts, _share(len(symbols), progress))
    tried = [(m, coded_block(content, transcript, len(symbols), lanes, stream)) for m, stream in zip(candidates, streams, strict=True)]
    chosen, block = min(tried, key=lambda t: len(t[1].stream) + (0 if sole_block(*t) else len(encode_record(t[0]))))
    if account:
        frozen = None
        if chosen.adapter.corrections and account.compares:  # what corrections gave is only known from coding without them
            frozen = account.attempt()
            coder.encode_variants(symbols, lanes, {replace(chosen.adapter, corrections=None): frozen})
        account.keep(attempts[chosen.adapter], block, loaded, frozen)
    return block, chosen


def coded_block(content: bytes, transcript: Transcript | None, symbols: int, lanes: int, stream: bytes) -> CodedBlock:
    """The coded block of `content`.

    Args:
        content: any bytes.
        transcript: the text that the symbols stand for, and its items; None if they stand for the content itself.
        symbols: how many there are.
        lanes: how many lanes they lie in.
        stream: the symbols' bitstream.
    """
    if transcript is None:
        return CodedBlock(len(content), symbols, lanes, content_check(content), stream)
    side, packed = transcript.side()
    return FormBlock(len(content), symbols, lanes, content_check(content), stream, len(transcript.text), packed, side)


def _decode(loaded: LoadedModel, record: CodedBlock, model: ModelRecord, progress: Progress) -> bytes:
    symbols = loaded.coder(model).decode(record.stream, record.symbols, record.lanes, _share(record.symbols, progress))
    if int(loaded.alphabet.lengths()[symbols].sum()) != (record.text if isinstance(record, FormBlock) else record.size):
        raise NotReproducedError(_NOT_REPRODUCED)
    content = loaded.alphabet.decode(symbols)
    if isinstance(record, FormBlock):
        content = forms.restore(forms.read_side(record.side, record.packed, record.size, record.text), content, record.size)
    return content


def _share(symbols: int, progress: Progress) -> Callable[[int, int], None]:
    """Turn counts of coded symbols into shares of the block."""
    done = 0

    def add(n: int, stream: int) -> None:
        nonlocal done
        done += n
        progress(done / symbols, stream)

    return add
