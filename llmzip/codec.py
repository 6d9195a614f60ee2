"""Bytes to archives and back: cuts input into blocks, codes each the way that suits it, checks everything.

This is the level the command line and the Python interface stand on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, BinaryIO

from llmzip import classic, container
from llmzip.container import (
    MAX_LANES,
    CodedBlock,
    EndRecord,
    ModelRecord,
    StoredBlock,
    WholeCheck,
    XzBlock,
    content_check,
    encode_record,
)
from llmzip.errors import DamagedArchiveError, ModelMismatchError, ModelUnavailableError, ParameterError
from llmzip.lanes import default_lanes
from llmzip.parameters import DEFAULT_LEVEL, LEVELS, SINKS, AdapterParameters, Level

if TYPE_CHECKING:
    from llmzip.adapter.ledger import Ledger
    from llmzip.blockcoder import BlockCoder
    from llmzip.engine.transformer import Transformer
    from llmzip.models.convert import IntegerModel
    from llmzip.symbols import Alphabet

Report = Callable[[int, int], None]  # (bytes of content done so far, bytes of archive so far)

_log = logging.getLogger(__name__)

_XZ_IS_ENOUGH = 25  # where xz shrinks this much, the model's gain is not worth its time
_BINARY_SHARE = 0.2  # of bytes that are not UTF-8, beyond which a block is not text
_MISMATCH = "a block's content does not match its check: the archive is damaged, or this machine cannot reproduce it; get another copy"
_CHOOSE_SYMBOLS = 4096  # up to which what learns is tried in all combinations
_CUT_SEARCH = 4096  # how far back from a block's end a line's end is looked for


@dataclass(frozen=True)
class Options:
    """How to compute and, for encoding, how to cut and predict; only `level`, `lanes` and `block_bytes` shape an archive.

    Attributes:
        level: 1 (fast) to 9 (small).
        model: registry ID, `hf:OWNER/NAME@REVISION` or path; for decoding only a place to look, checked by digest.
        lanes: streams coded in parallel; chosen from the size and level if None.
        block_bytes: content of one block at most; chosen by the level if None.
        threads: CPU threads; all cores if None.
        device: "auto", "cpu" or "cuda".
        kernel, ops: insist on a matrix product or on the operations between (see `engine.build`).
        rows: tokens the encoder feeds at once, default if None.
        quiet: no progress bars for downloads and conversion.
        adapter: what learns while coding, for experiments; chosen by the level if None.
        explain: keep account of where the bits of coded blocks go, in `Codec.ledger`.
        offline: never use the network, not even for a model that is not cached; so does the environment's LLMZIP_OFFLINE.
    """

    model: str | None = None
    level: int = DEFAULT_LEVEL
    lanes: int | None = None
    block_bytes: int | None = None
    threads: int | None = None
    device: str = "auto"
    kernel: str | None = None
    ops: str | None = None
    rows: int | None = None
    quiet: bool = True
    adapter: AdapterParameters | None = None
    explain: bool = False
    offline: bool = False

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ParameterError(f"the level must lie between {min(LEVELS)} and {max(LEVELS)}, not {self.level}")
        if self.lanes is not None and not 1 <= self.lanes <= MAX_LANES:
            raise ParameterError(f"lanes must lie between 1 and {MAX_LANES}, not {self.lanes}")
        if self.threads is not None and not 1 <= self.threads <= 1024:
            raise ParameterError(f"threads must lie between 1 and 1024, not {self.threads}")
        if self.block_bytes is not None and not 1 <= self.block_bytes <= container.MAX_BLOCK:
            raise ParameterError(f"block size must lie between 1 and {container.MAX_BLOCK} bytes, not {self.block_bytes}")

    def how(self) -> Level:
        """The level, with what was asked for instead."""
        level = LEVELS[self.level]
        return replace(level, adapter=self.adapter or level.adapter, block_bytes=self.block_bytes or level.block_bytes)


class LoadedModel:
    """A model ready to code with: its identity, alphabet and engine."""

    def __init__(self, model_id: str, model: IntegerModel, options: Options) -> None:
        from llmzip import engine
        from llmzip.adapter import probe
        from llmzip.symbols import Alphabet

        self.model_id, self._options = model_id, options
        self.digest = model.digest()[: container.DIGEST_BYTES]
        self.tokenizer = model.tokenizer.hash[: container.TOKENIZER_BYTES]
        self.alphabet: Alphabet = Alphabet(model.tokenizer)
        self.transformer: Transformer = engine.build(model, options.device, options.threads, options.kernel, options.ops)
        probe.prove(self.transformer.threads)

    def record(self, level: Level = LEVELS[DEFAULT_LEVEL]) -> ModelRecord:
        """The archive's record of this model, predicting as `level` says."""
        return ModelRecord(self.model_id, self.digest, self.tokenizer, level.window, SINKS, level.adapter, level.near)

    def coder(self, record: ModelRecord) -> BlockCoder:
        """A coder with the parameters of `record`."""
        from llmzip.blockcoder import BlockCoder

        return BlockCoder(
            self.transformer,
            self.alphabet.size,
            record.window,
            record.sinks,
            record.adapter,
            record.near,
            threads=self.transformer.threads,
            rows=self._options.rows,
        )


class Codec:
    """Compresses and decompresses; loads each model it needs once, when it is first needed."""

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        self._loaded: dict[bytes, LoadedModel] = {}  # by digest
        self._own: LoadedModel | None = None
        self.ledger: Ledger | None = None
        if self.options.explain:
            from llmzip.adapter.ledger import Ledger

            self.ledger = Ledger()

    def compress(self, data: bytes) -> bytes:
        """The archive of `data`."""
        import io

        sink = io.BytesIO()
        self.compress_stream(io.BytesIO(data), sink)
        return sink.getvalue()

    def decompress(self, archive: bytes) -> bytes:
        """The content of `archive`. Raises LLZError."""
        import io

        sink = io.BytesIO()
        self.decompress_stream(io.BytesIO(archive), sink)
        return sink.getvalue()

    def compress_stream(self, source: BinaryIO, sink: BinaryIO, report: Report | None = None) -> None:
        """Reads `source` to its end and writes one frame, block after block."""
        whole, written = WholeCheck(), 0
        level = self.options.how()
        written_model: ModelRecord | None = None
        pending = container.frame_start()  # goes out with the first record: if the model is missing, nothing does

        def write(data: bytes) -> None:
            nonlocal written, pending
            written += sink.write(pending + data)
            sink.flush()  # a reader at the other end of a pipe can begin
            pending = b""

        for content in read_blocks(source, level.block_bytes):
            done = whole.size

            def progress(share: float, done: int = done, size: int = len(content)) -> None:
                if report:
                    report(done + int(share * size), written)

            whole.update(content)
            plain, enough = self._without_model(content)
            if enough:
                write(encode_record(plain))
            else:
                model, coded = self._encode_block(level, content, written_model, progress)
                record = encode_record(coded) if written_model else encode_record(model) + encode_record(coded)
                if len(record) < len(encode_record(plain)):
                    write(record)
                    written_model = model
                else:
                    write(encode_record(plain))
            progress(1.0)
        write(encode_record(whole.record()))
        if self.ledger:
            self.ledger.archive += written

    def decompress_stream(self, source: BinaryIO, sink: BinaryIO, report: Report | None = None) -> None:
        """Decodes every frame of `source`; a block is written only once its check has passed.

        Raises:
            LLZError: of the kind that fits what is wrong.
        """
        total = 0
        for frame in container.read_frames(source):
            whole = WholeCheck()
            model: ModelRecord | None = None
            for record in frame:
                if isinstance(record, ModelRecord):
                    model = record
                elif isinstance(record, EndRecord):
                    if record != whole.record():
                        raise DamagedArchiveError("the content as a whole does not match its check; get another copy")
                else:

                    def progress(share: float, done: int = total, size: int = record.size) -> None:
                        if report:
                            report(done + int(share * size), 0)

                    content = self._decode(record, model, progress)
                    whole.update(content)
                    sink.write(content)
                    sink.flush()
                    total += len(content)

    def _without_model(self, content: bytes) -> tuple[StoredBlock | XzBlock, bool]:
        """The smallest block that needs no model, and whether it is not worth trying the model."""
        plain = _smallest_classic(content)
        return plain, _skip_model(content, plain)

    def _encode_block(
        self, level: Level, content: bytes, model: ModelRecord | None, progress: Callable[[float], None]
    ) -> tuple[ModelRecord, CodedBlock]:
        """A block, and the model record it needs: `model` if there is one already."""
        loaded = self._own_model()
        symbols = loaded.alphabet.encode(content)
        lanes = min(self.options.lanes or default_lanes(len(symbols), level.lane_symbols), len(symbols))
        models = [model or loaded.record(level)]
        if model is None and self.options.adapter is None and len(symbols) <= _CHOOSE_SYMBOLS:
            models = [replace(models[0], adapter=adapter) for adapter in level.adapter.subsets()]  # may not pay on a short text
        ledgers = {m.adapter: self.ledger.page() if self.ledger else None for m in models}
        streams = loaded.coder(models[0]).encode_variants(symbols, lanes, ledgers, _share(len(symbols), progress))
        model, stream = min(zip(models, streams, strict=True), key=lambda m: len(encode_record(m[0])) + len(m[1]))
        if self.ledger and (page := ledgers[model.adapter]):
            self.ledger.add(page)
            self.ledger.count(len(content), len(symbols), len(stream))
        return model, CodedBlock(len(content), len(symbols), lanes, content_check(content), stream)

    def _decode(self, record: container.Block, model: ModelRecord | None, progress: Callable[[float], None]) -> bytes:
        if isinstance(record, StoredBlock):
            return record.content
        if isinstance(record, XzBlock):
            content = classic.unpack(record.stream, record.size)
        elif model is None:
            raise DamagedArchiveError("a coded block comes before its model is named; get another copy")
        else:
            loaded = self._model_for(model)
            symbols = loaded.coder(model).decode(record.stream, record.symbols, record.lanes, _share(record.symbols, progress))
            if int(loaded.alphabet.lengths()[symbols].sum()) != record.size:
                raise DamagedArchiveError(_MISMATCH)
            content = loaded.alphabet.decode(symbols)
        if len(content) != record.size or content_check(content) != record.check:
            raise DamagedArchiveError(_MISMATCH)
        return content

    def _load(self, model_id: str, read: Callable[[], IntegerModel]) -> LoadedModel:
        """Reads a model and builds its engine; logs what took how long."""
        times = [time.perf_counter()]

        def done() -> None:
            times.append(time.perf_counter())

        import numba  # noqa: F401  counted apart
        import torch  # noqa: F401

        done()
        model = read()
        done()
        loaded = LoadedModel(model_id, model, self.options)
        done()
        seconds = tuple(after - before for before, after in pairwise(times))
        _log.info(f"{model_id}: libraries imported in %.2f s, model read in %.2f s, engine ready in %.2f s", *seconds)
        return loaded

    def _own_model(self) -> LoadedModel:
        if self._own is None:
            from llmzip.models import resolve
            from llmzip.models.registry import DEFAULT_MODEL

            name = self.options.model or DEFAULT_MODEL
            self._own = self._load(resolve.archive_id(name), lambda: resolve.load(name, self.options.quiet, self.options.offline))
            self._loaded[self._own.digest] = self._own
        return self._own

    def _model_for(self, record: ModelRecord) -> LoadedModel:
        """The model an archive asks for, checked by its digests."""
        if record.digest not in self._loaded:
            from llmzip.models import resolve

            try:
                how = (self.options.quiet, self.options.offline)
                self._loaded[record.digest] = self._load(
                    record.model_id, lambda: resolve.load_for_archive(record.model_id, record.digest, *how)
                )
            except ModelUnavailableError:
                if not self.options.model:
                    raise
                self._own_model()  # the place the user points to
        loaded = self._loaded.get(record.digest) or self._own
        if loaded is None or (loaded.digest, loaded.tokenizer) != (record.digest, record.tokenizer):
            have = "other files" if loaded is None else f"weights {loaded.digest.hex()}, tokenizer {loaded.tokenizer.hex()}"
            raise ModelMismatchError(
                f"the archive needs model {record.model_id} with weights {record.digest.hex()} and tokenizer {record.tokenizer.hex()}, "
                f"but here are {have}; get the model it was made with"
            )
        return loaded


def _share(symbols: int, progress: Callable[[float], None]) -> Callable[[int], None]:
    """Turns counts of symbols into shares of the block."""
    done = 0

    def add(n: int) -> None:
        nonlocal done
        done += n
        progress(done / symbols)

    return add


def _smallest_classic(content: bytes) -> StoredBlock | XzBlock:
    packed = XzBlock(len(content), content_check(content), classic.pack(content))
    return packed if len(packed.body()) < len(content) else StoredBlock(content)


def _skip_model(content: bytes, plain: StoredBlock | XzBlock) -> bool:
    """Whether the model is no help, decided without loading it: very repetitive input, and binary."""
    if isinstance(plain, XzBlock) and len(plain.stream) * _XZ_IS_ENOUGH < len(content):
        return True
    invalid = sum(0xDC80 <= ord(c) <= 0xDCFF for c in content.decode("utf-8", "surrogateescape") if c > "\x7f")
    return invalid > _BINARY_SHARE * len(content)


def read_blocks(source: BinaryIO, size: int) -> Iterator[bytes]:
    """Cuts a stream into blocks of at most `size` bytes, at a line's end or at least between characters if it can."""
    rest = b""
    while True:
        data = rest + b"".join(_read_up_to(source, size - len(rest)))
        if not data:
            return
        if len(data) < size:
            yield data
            return
        cut = data.rfind(b"\n", max(0, size - _CUT_SEARCH)) + 1
        if not cut:
            cut = next((i for i in range(size - 1, max(size - 4, 0), -1) if data[i] & 0xC0 != 0x80), size)
            if data[cut : cut + 1] < b"\xc0":
                cut = size
        yield data[:cut]
        rest = data[cut:]


def _read_up_to(source: BinaryIO, n: int) -> Iterator[bytes]:
    """At most n bytes, in pieces, ending early only at the end of the stream."""
    while n > 0 and (part := source.read(n)):
        n -= len(part)
        yield part
