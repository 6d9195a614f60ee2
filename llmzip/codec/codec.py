"""Bytes to archives and back: cuts input into blocks, codes each the way that suits it, checks everything.

This is the level the command line and the Python interface stand on.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from llmzip.archive import forms, lzma2, parity, parser, records
from llmzip.archive.forms import Transcript
from llmzip.archive.records import (
    Block,
    CodedBlock,
    EndRecord,
    FormBlock,
    ModelRecord,
    ParityRecord,
    Record,
    StoredBlock,
    WholeCheck,
    XzBlock,
    content_check,
    encode_record,
)
from llmzip.codec.cutting import is_enough, read_blocks, skip_model, smallest_classic
from llmzip.codec.density import is_dense
from llmzip.codec.held_back import Run
from llmzip.codec.loaded_models import LoadedModel, LoadedModels
from llmzip.codec.sampling import pays
from llmzip.codec.transcription import transcribe
from llmzip.coding.lanes import default_lanes
from llmzip.errors import DamagedArchiveError, NotReproducedError, OutputLimitError
from llmzip.options import Options
from llmzip.parameters import Level
from llmzip.system import exact_threads, streams

if TYPE_CHECKING:
    from llmzip.codec.observer import Account

__all__ = ["Codec", "FrameReader", "FrameWriter", "LoadedModel", "Options", "read_blocks"]

Report = Callable[[int, int], None]  # (bytes of content done so far, bytes of archive so far)
Progress = Callable[[float, int], None]  # share of a block that is done, bytes of its bitstream so far

_MISMATCH = "a block's content does not match its check: the archive is damaged; get another copy"
_NOT_REPRODUCED = "noticed at the end of a block"
_WHOLE_MISMATCH = "the content as a whole does not match its check; get another copy"
_CHOOSE_SYMBOLS = 4096  # up to which what learns is tried in all combinations


def _ignore(share: float, stream: int) -> None:
    pass


class Codec(LoadedModels):
    """Compresses and decompresses; loads each model it needs once, when it is first needed.

    Use one codec for many texts. Threads that share one take turns, a block each.

    Attributes:
        ledger: who watches where the bits go when compressing; an `adapter.ledger.Ledger` with `Options.explain`.
        announce: is told of each coded block before it is decoded, and which model is loaded for it.
    """

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self._turn = exact_threads.Turn()
        self.ledger: Account | None = None
        self.announce: Callable[[LoadedModel, ModelRecord, CodedBlock], None] | None = None
        if self.options.explain:
            from llmzip.codec.ledger import Ledger

            self.ledger = Ledger()

    def compress(self, data: bytes) -> bytes:
        """The archive of `data`.

        Raises:
            LLZError: the model cannot be had, or not be run.
        """
        sink = io.BytesIO()
        self.compress_stream(io.BytesIO(data), sink)
        return sink.getvalue()

    def decompress(self, archive: bytes) -> bytes:
        """The content of `archive`: one frame or several, one after another.

        Raises:
            LLZError: of the kind that fits what is wrong.
        """
        sink = io.BytesIO()
        self.decompress_stream(io.BytesIO(archive), sink)
        return sink.getvalue()

    def compress_stream(self, source: BinaryIO, sink: BinaryIO, report: Report | None = None) -> None:
        """Reads `source` to its end and writes one frame, block after block.

        Args:
            source: where the content is read.
            sink: where the archive is written; flushed after every block, so that a reader at the other end of a pipe can begin. Blocks that need no
                model are held back, 16 MiB of content at most.
            report: is told how many bytes of content are done and how many of the archive they took, now and then.

        Raises:
            LLZError: the model cannot be had, or not be run; nothing is written if that is so for the first block.
        """
        writer = FrameWriter(self)
        for content in read_blocks(source, writer.block_bytes):

            def progress(share: float, stream: int, done: int = writer.content_bytes, size: int = len(content)) -> None:
                if report:
                    report(done + int(share * size), writer.archive_bytes + stream)

            streams.write(sink, writer.block(content, progress))
            streams.flush(sink)
            progress(1.0, 0)
        streams.write(sink, writer.end())
        streams.flush(sink)

    def decompress_stream(self, source: BinaryIO, sink: BinaryIO, report: Report | None = None) -> None:
        """Decodes every frame of `source`; a block is written only once its check has passed.

        Args:
            source: where the archive is read.
            sink: where the content is written; flushed after every block.
            report: is told how many bytes of content are done and how many of the archive they took, now and then.

        Raises:
            LLZError: of the kind that fits what is wrong.
        """
        total = archive = 0
        for frame in parser.read_frames(source):
            reader = FrameReader(self)
            archive += len(records.frame_start())
            for record in frame:
                size = record.size if isinstance(record, Block) else 0

                def progress(share: float, stream: int, done: int = total, before: int = archive, size: int = size) -> None:
                    if report:
                        report(done + int(share * size), before + stream)

                self._check_limit(total, record)
                content = reader.content(record, progress)
                archive += len(encode_record(record))
                if content:
                    streams.write(sink, content)
                    streams.flush(sink)
                    total += len(content)
                    if report:
                        report(total, archive)

    def _check_limit(self, done: int, record: Record) -> None:
        limit = self.options.max_output
        if limit is not None and isinstance(record, Block) and done + record.size > limit:
            raise OutputLimitError(done + record.size, limit)

    def _without_model(self, content: bytes, text: bytes) -> tuple[StoredBlock | XzBlock, bool]:
        """The smallest block that needs no model, and whether it is not worth trying the model on `text`, for which it stands."""
        plain = smallest_classic(content)
        return plain, skip_model(text, plain)

    def promises(self, level: Level, text: bytes, packed: int) -> bool:
        """Whether the model may make less of `text` than those `packed` bytes; a sample is coded only where that is doubtful.

        Raises:
            LLZError: the model cannot be had, or not be run.
        """

        def sample(_: exact_threads.Tell) -> bool:
            with self._turn:
                return pays(self._ready(), level, text, packed)

        return not is_dense(text) or exact_threads.run(sample)

    def encode_block(
        self, level: Level, content: bytes, transcript: Transcript | None, model: ModelRecord | None, progress: Progress
    ) -> tuple[ModelRecord, CodedBlock]:
        """A block, and the model record it needs: `model` if there is one already.

        Raises:
            LLZError: the model cannot be had, or not be run.
        """

        def encode(tell: exact_threads.Tell) -> tuple[ModelRecord, CodedBlock]:
            with self._turn:
                return self._encode(level, content, transcript, model, tell)

        return exact_threads.run(encode, progress)

    def _encode(
        self, level: Level, content: bytes, transcript: Transcript | None, model: ModelRecord | None, progress: Progress
    ) -> tuple[ModelRecord, CodedBlock]:
        loaded = self._ready()
        symbols = loaded.alphabet.encode(transcript.text if transcript else content)
        lanes = min(self.options.lanes or default_lanes(len(symbols), level.lane_symbols), len(symbols))
        models = [model or loaded.record(level)]
        if model is None and self.options.adapter is None and len(symbols) <= _CHOOSE_SYMBOLS:
            models = [replace(models[0], adapter=adapter) for adapter in level.adapter.subsets()]  # may not pay on a short text
        ledgers = {m.adapter: self.ledger.page() if self.ledger else None for m in models}
        streams = loaded.coder(models[0]).encode_variants(symbols, lanes, ledgers, _share(len(symbols), progress))
        model, stream = min(zip(models, streams, strict=True), key=lambda m: len(encode_record(m[0])) + len(m[1]))
        block = coded_block(content, transcript, len(symbols), lanes, stream)
        if self.ledger:
            self.ledger.keep(ledgers[model.adapter], block, loaded)
        return model, block

    def decode_block(self, record: Block, model: ModelRecord | None, progress: Progress = _ignore) -> bytes:
        """The content of a block, whose own check holds.

        Args:
            record: the block.
            model: the latest model record before it in its frame, if there is one.
            progress: is told the share that is done, 0 to 1, and the bytes of bitstream that took.

        Raises:
            DamagedArchiveError: the content does not match the check.
            NotReproducedError: nor does it match, but the coded record is intact.
            LLZError: the model cannot be had, or not be run.
        """
        if isinstance(record, StoredBlock):
            return record.content
        if isinstance(record, CodedBlock):
            return self._decode_coded(record, model, progress)
        content = lzma2.unpack(record.stream, record.size)
        if len(content) != record.size or content_check(content) != record.check:
            raise DamagedArchiveError(_MISMATCH)
        return content

    def _decode_coded(self, record: CodedBlock, model: ModelRecord | None, progress: Progress) -> bytes:
        if model is None:
            raise DamagedArchiveError("a coded block comes before its model is named; get another copy")

        def decode(tell: exact_threads.Tell) -> bytes:
            with self._turn:
                return self._decode(record, model, tell)

        content = exact_threads.run(decode, progress)
        if content_check(content) != record.check:
            raise NotReproducedError(_NOT_REPRODUCED)
        return content

    def _decode(self, record: CodedBlock, model: ModelRecord, progress: Progress) -> bytes:
        loaded = self._ready(model)
        if self.announce:
            self.announce(loaded, model, record)
        symbols = loaded.coder(model).decode(record.stream, record.symbols, record.lanes, _share(record.symbols, progress))
        if int(loaded.alphabet.lengths()[symbols].sum()) != (record.text if isinstance(record, FormBlock) else record.size):
            raise NotReproducedError(_NOT_REPRODUCED)
        content = loaded.alphabet.decode(symbols)
        if isinstance(record, FormBlock):
            content = forms.restore(forms.read_side(record.side, record.packed, record.size, record.text), content, record.size)
        return content


def coded_block(content: bytes, transcript: Transcript | None, symbols: int, lanes: int, stream: bytes) -> CodedBlock:
    """The block of `content`, whose symbols are coded as `stream`; they stand for its transcript if there is one."""
    if transcript is None:
        return CodedBlock(len(content), symbols, lanes, content_check(content), stream)
    side, packed = transcript.side()
    return FormBlock(len(content), symbols, lanes, content_check(content), stream, len(transcript.text), packed, side)


def _share(symbols: int, progress: Progress) -> Callable[[int, int], None]:
    """Turns counts of symbols into shares of the block."""
    done = 0

    def add(n: int, stream: int) -> None:
        nonlocal done
        done += n
        progress(done / symbols, stream)

    return add


class FrameWriter:
    """Makes one frame, block after block.

    Blocks that need no model are held back, up to MAX_BLOCK bytes of content, so that what repeats in them is found. What is given out
    depends on the blocks alone, and is in their order.

    Attributes:
        block_bytes: content of one block at most.
        content_bytes: content of the blocks so far.
        archive_bytes: length of what was given out so far.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec, self._level = codec, codec.options.how()
        self._whole = WholeCheck()
        self._model: ModelRecord | None = None  # as written
        self._coded = 0  # blocks
        self._run = Run(codec.options.block_bytes)  # of blocks that need no model, held back
        self._start = records.frame_start()  # goes out with the first record: if the model is missing, nothing does
        self._kept: list[bytes] = []  # what was given out, if parity is to be made of it
        self.block_bytes = self._level.block_bytes
        self.archive_bytes = 0

    @property
    def content_bytes(self) -> int:
        """Content of the blocks so far."""
        return self._whole.size

    def block(self, content: bytes, progress: Progress = _ignore) -> bytes:
        """Takes a block, and returns the records that can be given out now: those held back before and its own, or none.

        Raises:
            LLZError: the model cannot be had, or not be run; the frame cannot go on then.
        """
        self._whole.update(content)
        transcript = transcribe(content)
        text = transcript.text if transcript else content
        plain, enough = self._codec._without_model(content, text)
        size = len(encode_record(plain))
        if not enough and (more := self._run.more(content)) is not None:
            enough, size = is_enough(more, text), min(size, more)
        thorough = self._codec.ledger is not None and self._codec.ledger.thorough
        enough = enough or not self._codec.promises(self._level, text, len(plain.body()))
        if not enough or thorough:
            model, coded = self._codec.encode_block(self._level, content, transcript, self._model, progress)
            with_model = encode_record(coded) if self._model else encode_record(model) + encode_record(coded)
            if not enough and len(with_model) < size:
                self._model = model
                self._coded += 1
                return self._out(self._run.take() + with_model)
        return self._out(self._run.add(content, plain))

    def end(self) -> bytes:
        """The end record, and the parity frame if there is to be one.

        Before it comes the model record again if more than one block depends on it, lest damage to one takes all.
        """
        again = encode_record(self._model) if self._model and self._coded > 1 else b""
        last = self._out(self._run.take() + again + encode_record(self._whole.record()))
        if percent := self._codec.options.parity:
            protected = b"".join(self._kept)
            last += self._out(parity.frame(protected, parity.choose(len(protected), percent)))
        if self._codec.ledger:
            self._codec.ledger.archive += self.archive_bytes
        return last

    def _out(self, records: bytes) -> bytes:
        if not records:
            return b""
        out, self._start = self._start + records, b""
        self.archive_bytes += len(out)
        if self._codec.options.parity:
            self._kept.append(out)
        return out


class FrameReader:
    """Turns the records of one frame, in order, into its content."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._whole = WholeCheck()
        self._model: ModelRecord | None = None

    def content(self, record: Record, progress: Progress = _ignore) -> bytes:
        """The content of a block; nothing for a record of another kind.

        Raises:
            DamagedArchiveError: the block, or with the end record the whole, does not match its check.
            LLZError: the model cannot be had, or not be run.
        """
        if isinstance(record, ModelRecord):
            self._model = record
        elif isinstance(record, EndRecord):
            check_whole(self._whole, record)
        elif not isinstance(record, ParityRecord):
            content = self._codec.decode_block(record, self._model, progress)
            self._whole.update(content)
            return content
        return b""


def check_whole(whole: WholeCheck, end: EndRecord) -> None:
    """Fails if a frame's content is not what its end record says. Raises DamagedArchiveError."""
    if whole.record() != end:
        raise DamagedArchiveError(_WHOLE_MISMATCH)
