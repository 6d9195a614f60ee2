"""Coded content: the range decoder, symbols, messages and whole archives, with a tiny model."""

from __future__ import annotations

import io
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np

import llmzip
from llmzip.archive import lzma2
from llmzip.archive import records as rec
from llmzip.archive.parser import read_records
from llmzip.codec.any_model import LoadedModel
from llmzip.codec.block_codec import BlockCodec, coded_block
from llmzip.codec.codec import Codec
from llmzip.codec.loaded_models import LoadedModels, PretrainedModel
from llmzip.codec.transcription import transcribe
from llmzip.entropy.compiled_range_coder import CompiledRangeDecoder
from llmzip.entropy.frequencies import TOTAL
from llmzip.entropy.range_coder import RangeDecoder
from llmzip.errors import DamagedArchiveError, LLZError, ModelMismatchError, ModelUnavailableError, NotEnoughMemoryError, NotReproducedError
from llmzip.message.message_codec import MAX_BYTES, MessageCodec, check_byte
from llmzip.models.convert import IntegerModel, convert
from llmzip.models.sources import load_float_model
from llmzip.options import Options
from llmzip.parameters import FROZEN, AdapterParameters, AttentionSpan, BiasParameters, NeighbourParameters
from llmzip.salvaging.scan import scan
from tests.support import tiny
from tests.support.fuzzing import containers, mutation

UNREADABLE = (NotReproducedError, ModelMismatchError, ModelUnavailableError, NotEnoughMemoryError)  # what becomes of a coded block


def tiny_model() -> IntegerModel:
    """The tiny model of the tests."""
    with tempfile.TemporaryDirectory() as folder:
        return convert(load_float_model(tiny.write_folder(Path(folder))))


def codec_of(model: IntegerModel, name: str = "local:tiny") -> Codec:
    """A codec that has this model, and fetches no other."""
    options = Options(offline=True)
    return Codec(options, blocks=BlockCodec(LoadedModels(options, PretrainedModel(name, model, options))))


def range_decoder(data: bytes) -> str:
    """Any stream decodes to some symbols until a target rejects it, by both decoders alike, and the state keeps its bounds."""
    rng, lanes = Random(data), 1 + len(data) % 5
    decoders = RangeDecoder(lanes, data), CompiledRangeDecoder(lanes, data)
    for step in range(300):
        active = lanes if step < 250 else max(1, lanes - 1)
        targets, other = (d.targets(active) for d in decoders)
        assert (targets == other).all()
        assert (targets >= 0).all()
        if (targets >= TOTAL).any():
            return "out of step"
        widest = [1, 1000, TOTAL // 2, TOTAL]
        low = np.array([max(0, t - rng.randrange(rng.choice(widest))) for t in targets.tolist()])
        high = np.array([min(TOTAL, t + 1 + rng.randrange(rng.choice(widest))) for t in targets.tolist()])
        for d in decoders:
            d.advance(low, high - low)
            assert (d.range >= 1 << 31).all()
            assert (d.range < 1 << 32).all()
            assert (d._code >= 0).all()
            assert (d._code < 1 << 32).all()
    return "decoded"


def random_streams(rng: Random) -> Iterator[bytes]:
    """Bytes of all lengths, few of some values."""
    while True:
        n = rng.choice((0, 1, 3, 4, 5, 20, 100, 300))
        yield rng.choice((rng.randbytes(n), bytes(n), b"\xff" * n, bytes(rng.choices((0, 255, 128), k=n))))


class Symbols:
    """Whatever bytes there are come back; whatever symbols there are stand for bytes."""

    def __init__(self, model: IntegerModel) -> None:
        from llmzip.coding.alphabet import Alphabet

        self._alphabet = Alphabet(model.tokenizer)

    def __call__(self, data: bytes) -> str:
        symbols = self._alphabet.encode(data)
        assert self._alphabet.decode(symbols) == data
        assert int(self._alphabet.lengths()[symbols].sum()) == len(data)
        assert ((symbols >= 0) & (symbols < self._alphabet.size)).all()
        anything = np.frombuffer(data, np.uint8).astype(np.int32) % self._alphabet.size
        assert len(self._alphabet.decode(anything)) == self._alphabet.lengths()[anything].sum()
        return "restored"


def texts(rng: Random) -> Iterator[bytes]:
    """Text with damage, of many scripts, and what looks like tokens with a meaning."""
    good = [
        "the thing and the other ",
        "Käse 漢字 🙂👩‍👩‍👧 \u2028\ufeff\U0010ffff",
        "<|im_start|><|endoftext|>",
        "\r\n\r\n\n \t  ",
        "12345,6",
    ]
    while True:
        yield mutation.blind(rng, "".join(rng.choices(good, k=rng.randrange(1, 8))).encode())


class Messages:
    """Any bytes are some text with the right check, or a damaged message."""

    def __init__(self, model: IntegerModel) -> None:
        self._model = PretrainedModel("local:tiny", model, Options())
        self._codec = MessageCodec(models=LoadedModels(Options(), self._model))

    def __call__(self, messages: list[bytes]) -> str:
        found = self._codec.decode(messages)
        for message, text in zip(messages, found, strict=True):
            assert isinstance(text, llmzip.DamagedMessageError) or check_byte(self._model, text) == message[:1]
        return "all damaged" if all(isinstance(t, llmzip.DamagedMessageError) for t in found) else "some texts"

    def inputs(self, rng: Random) -> Iterator[list[bytes]]:
        """Groups of 32: real ones damaged, and rubbish."""
        good = self._codec.encode([b"the thing and the other", b"", b"a", "Käse\xff".encode("latin-1"), b"and " * 20])
        while True:
            yield [self._some(rng, good) for _ in range(32)]

    @staticmethod
    def _some(rng: Random, good: list[bytes]) -> bytes:
        if rng.random() < 0.5:
            return mutation.blind(rng, rng.choice(good))[:400]
        n = rng.choice((0, 1, 2, 5, 30)) if rng.random() < 0.999 else MAX_BYTES + rng.randrange(2)
        return rng.choice((rng.randbytes(n), bytes(n), b"\xff" * n))


class Archives:
    """Decodes archives in three ways: whole; as a file; in pieces. All must agree, and with what the records say.

    Args:
        every: how many archives to decode only whole for each one decoded in all ways.
    """

    def __init__(self, codec: Codec, every: int = 8) -> None:
        self.codec, self._every, self._count = codec, every, 0

    def __call__(self, data: bytes) -> str:
        written, error = self._whole(data)
        _explain(data, written, error)
        self._count += 1
        if self._count % self._every == 0:
            self._as_file(data, written, error)
            self._in_pieces(data, written, error)
        return type(error).__name__ if error else "decoded"

    def _whole(self, data: bytes) -> tuple[list[bytes], LLZError | None]:
        sink = _Sink()
        try:
            self.codec.decompress_stream(io.BytesIO(data), sink)
        except LLZError as e:
            return sink.written, e
        return sink.written, None

    def _as_file(self, data: bytes, written: list[bytes], error: LLZError | None) -> None:
        found = bytearray()
        try:
            with llmzip.LLZFile(io.BytesIO(data), codec=self.codec) as f:
                while part := f.read1():
                    found += part
        except LLZError as e:
            assert type(e) is type(error), f"as a file it is {e!r}"
        else:
            assert error is None, "as a file there is no error"
        assert found == b"".join(written), "as a file there is other content"

    def _in_pieces(self, data: bytes, written: list[bytes], error: LLZError | None) -> None:
        """Frame by frame, from pieces of one size."""
        found, rest, step = bytearray(), data, 1 + zlib.crc32(data) % 50
        d = llmzip.Decompressor(codec=self.codec)
        try:
            while True:
                while rest and not d.eof:
                    found += d.decompress(rest[:step])
                    rest = rest[step:]
                if not d.eof or not (rest := d.unused_data + rest).strip(b"\0"):
                    break
                d = llmzip.Decompressor(codec=self.codec)
        except LLZError as e:
            late = isinstance(e, llmzip.NotAnArchiveError) and isinstance(error, DamagedArchiveError)  # after the first frame
            assert late or type(e) is type(error), f"in pieces it is {e!r}"
            assert b"".join(written).startswith(found), "in pieces there is other content"
        else:
            assert found == b"".join(written), "in pieces there is other content"
            assert error is None or not d.eof, "in pieces there is no error"


class Salvages:
    """Salvage accounts for every byte, finds at least what decoding finds, and no more than there is."""

    def __init__(self, codec: Codec) -> None:
        self._archives = Archives(codec)

    def __call__(self, data: bytes) -> str:
        items = scan(data)
        starts, stops = [item.start for item in items], [0, *(item.stop for item in items)]
        assert starts == stops[:-1], "there are holes"
        assert not data[stops[-1] :].strip(b"\0"), "the end is missing"  # zeros may follow a frame
        written, error = self._archives._whole(data)
        try:
            found = llmzip.salvage(data, codec=self._archives.codec)
        except LLZError as e:
            assert error, "salvage fails where decoding does not"
            return type(e).__name__
        assert found.content.startswith(b"".join(written)), "salvage finds less than decoding"
        if error is None:
            assert found.complete, "salvage misses something"
            assert found.content == b"".join(written), "salvage finds more than there is"
        return "complete" if found.complete else "salvaged"


class _Sink(io.BytesIO):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.written.append(data)
        return len(data)


def _explain(data: bytes, written: list[bytes], error: LLZError | None) -> None:
    """Goes through the records as the specification says: nothing but what passed its checks may be out, and the error must fit."""
    left, whole = list(written), rec.WholeCheck()
    try:
        for record, _, model, _ in read_records(io.BytesIO(data)):
            if isinstance(record, rec.EndRecord):
                if not whole.is_what(record):
                    assert isinstance(error, DamagedArchiveError), "the end does not match"
                    return
                whole = rec.WholeCheck()
            elif isinstance(record, (rec.ModelRecord, rec.ParityRecord)):
                pass
            elif isinstance(record, rec.CodedBlock) and model is None:
                assert isinstance(error, DamagedArchiveError), "there is no model"
                return
            elif isinstance(record, rec.CodedBlock) and not left:
                assert isinstance(error, UNREADABLE), "the block was lost"
                return
            else:
                content = _content(record, left)
                if content is None:
                    assert isinstance(error, DamagedArchiveError), "the block does not unpack"
                    return
                whole.update(content)
    except containers.REFUSED as e:
        assert type(e) is type(error), f"the records say {e!r}"
    else:
        assert error is None, "nothing is wrong"
    finally:
        assert not left, "there is content that no record accounts for"


def _content(record: rec.Block, left: list[bytes]) -> bytes | None:
    """What a block holds, taken off what was written; None if its check cannot hold."""
    if isinstance(record, rec.StoredBlock):
        content = record.content
    elif isinstance(record, rec.XzBlock):
        try:
            content = lzma2.unpack(record.stream, record.size)
        except DamagedArchiveError:
            return None
        if zlib.crc32(content) != record.check:
            return None
    else:
        content = left[0]
        assert (len(content), zlib.crc32(content)) == (record.size, record.check), "a block was let out that does not match"
    if content:
        assert left.pop(0) == content
    return content


def block(model: LoadedModel, record: rec.ModelRecord, content: bytes, lanes: int) -> rec.CodedBlock:
    """`content` coded, whether that is the shortest way or not."""
    symbols = model.alphabet.encode(content)
    stream = model.coder(record).encode(symbols, lanes)
    return rec.CodedBlock(len(content), len(symbols), lanes, rec.content_check(content), stream)


def archive(*frames: list[rec.Record]) -> bytes:
    """Frames of these records and the end records that fit."""
    out = b""
    for frame in frames:
        whole = rec.WholeCheck()
        for record in frame:
            if isinstance(record, rec.Block):
                whole.update(_plain(record))
        out += rec.frame_start() + b"".join(map(rec.encode_record, [*frame, whole.record()]))
    return out


def _frame(content: bytes, records: list[rec.Record]) -> bytes:
    whole = rec.WholeCheck()
    whole.update(content)
    return rec.frame_start() + b"".join(map(rec.encode_record, [*records, whole.record()]))


TEXT = b"The thing and the other were in the harbour, and there they stayed: rain on the roof, a lamp, the bell.\n" * 4


def _plain(record: rec.Block) -> bytes:
    """The content of a block, which is a part of TEXT if it is coded."""
    if isinstance(record, rec.StoredBlock):
        return record.content
    return lzma2.unpack(record.stream, record.size) if isinstance(record, rec.XzBlock) else TEXT[: record.size]


def seeds(model: LoadedModel) -> list[bytes]:
    """Small archives that have everything the format has."""
    plain = replace(model.record(), span=AttentionSpan(64), adapter=FROZEN)
    both = replace(plain, adapter=AdapterParameters(8, BiasParameters(46, 3), NeighbourParameters(4, 86)))
    near, far = replace(plain, span=AttentionSpan(1, 16)), replace(both, span=AttentionSpan(16, local=False))

    def coded(record: rec.ModelRecord, size: int, lanes: int = 1) -> rec.CodedBlock:
        return block(model, record, TEXT[:size], lanes)

    def formed(record: rec.ModelRecord, content: bytes) -> rec.CodedBlock:
        transcript = transcribe(content)
        assert transcript
        symbols = model.alphabet.encode(transcript.text)
        return coded_block(content, transcript, len(symbols), 2, model.coder(record).encode(symbols, 2))

    wide, gaps = TEXT[:40].decode().encode("utf-16-be"), TEXT[:20] + bytes(30) + TEXT[20:40] + bytes(9)
    stored, packed = rec.StoredBlock(bytes(range(40))), rec.XzBlock(120, rec.content_check(bytes(120)), lzma2.pack(bytes(120)))
    return [
        archive([plain, coded(plain, 70)]),
        archive([both, coded(both, 90), coded(both, 60, 3), both]),
        archive([stored, far, coded(far, 100, 2), packed]),
        archive([near, coded(near, 104), both, coded(both, 40)], [packed], [plain, coded(plain, 30, 5)]),
        archive([both, coded(both, 200, 8), rec.StoredBlock(b"")]),
        _frame(wide + gaps, [plain, formed(plain, wide), formed(plain, gaps)]),
        archive([near, coded(near, 400, 2)]),  # so long that keys move
    ]


def archives(rng: Random, model: LoadedModel) -> Iterator[bytes]:
    """Archives with right checks of records, and anything wrong inside."""
    good = [mutation.frames(a) for a in seeds(model)]
    while True:
        yield mutation.rechecked(rng, rng.choice(good), _change)


def damaged(rng: Random, model: LoadedModel) -> Iterator[bytes]:
    """Archives to be salvaged."""
    good = seeds(model)
    changed = archives(rng, model)
    while True:
        data = rng.choice(good) if rng.random() < 0.6 else next(changed)
        for _ in range(rng.choice((0, 1, 1, 2, 5))):
            data = mutation.blind(rng, data, good)
        yield data


def _change(rng: Random, old: rec.AnyRecord) -> bytes:
    if isinstance(old, rec.ModelRecord) and rng.random() < 0.7:
        return rec.encode_record(_model(rng, old))
    if isinstance(old, rec.CodedBlock) and rng.random() < 0.9:
        return rec.encode_record(_coded(rng, old))
    return rng.choice((mutation.other_body, mutation.other_field))(rng, old)


def _model(rng: Random, old: rec.ModelRecord) -> rec.ModelRecord:
    """Other parameters, all in range."""
    some = mutation.learning(rng, (1, 2, 15, 60, 255))
    neighbours = some.neighbours and replace(some.neighbours, capacity_bits=rng.choice((4, 8, 14, 20)))
    adapter = replace(some, round_symbols=rng.choice((1, 2, 31, 33, 4096)), neighbours=neighbours)
    window, sinks = rng.choice((1, 2, 15, 16, 17, 64, 1280, 8160)), rng.choice((0, 1, 4, 15, 16))
    return replace(old, adapter=adapter, span=AttentionSpan(window, sinks, rng.random() < 0.5))


def _coded(rng: Random, old: rec.CodedBlock) -> rec.CodedBlock:
    """Another stream, or other counts, not many more."""
    kind = rng.random()
    if kind < 0.6:
        return replace(old, stream=mutation.blind(rng, old.stream))
    symbols = rng.choice((old.symbols + 1, max(1, old.symbols - 1), 1, 2 * old.symbols, rng.randrange(1, 600)))
    size = max(symbols, rng.choice((old.size, old.size + 1, symbols, 3000)))
    if kind < 0.602:
        symbols, size = 1 << 24, 1 << 24  # as many as can be: a wrong target will end it
    lanes = min(symbols, rng.choice((old.lanes, 1, 2, 7, 33, 4096)))
    return replace(old, size=size, symbols=symbols, lanes=lanes, check=old.check ^ (rng.random() < 0.1))
