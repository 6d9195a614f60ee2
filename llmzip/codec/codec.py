"""Bytes to archives and back. The command line and the Python interface stand on this level."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from llmzip.archive.damage import ArchiveReader
from llmzip.archive.parser import Placed
from llmzip.archive.records import Block, ModelRecord
from llmzip.codec.block_codec import Announce, BlockCodec, Progress, ignore_progress
from llmzip.codec.cutting import read_blocks
from llmzip.codec.frame_reader import FrameReader
from llmzip.codec.frame_writer import FrameWriter
from llmzip.codec.ledger import Ledger
from llmzip.codec.loaded_models import LoadedModels
from llmzip.codec.observer import AnyAccount
from llmzip.errors import OutputLimitError
from llmzip.options import Options
from llmzip.system import streams

if TYPE_CHECKING:
    from llmzip.codec.executors import Executor

_T = TypeVar("_T")

Report = Callable[[int, int], None]  # (bytes of content done so far, bytes of archive so far)


class Codec:
    """Compresses and decompresses; loads each model it needs once, when it is first needed.

    Use one codec for many texts. Threads that share one take turns, a block each.

    Args:
        options: how to compute and encode; the default options if None.
        blocks: encodes and decodes single blocks, with the models it has loaded; made from the options if None. Codecs may share one.

    Attributes:
        options: as given.
        blocks: as given.
        ledger: where the bits of coded blocks went; None without `Options.explain`.
    """

    def __init__(self, options: Options | None = None, *, blocks: BlockCodec | None = None) -> None:
        self.options = options or Options()
        self.blocks = blocks or BlockCodec(LoadedModels(self.options))
        self.ledger = Ledger() if self.options.explain else None

    def compress(self, data: bytes, *, executor: Executor | None = None) -> bytes:
        """The archive of `data`.

        Args:
            data: any bytes.
            executor: as for `compress_stream`.

        Raises:
            LLZError: the model cannot be had, or not be run.
        """
        sink = io.BytesIO()
        self.compress_stream(io.BytesIO(data), sink, executor=executor)
        return sink.getvalue()

    def decompress(self, archive: bytes, *, executor: Executor | None = None) -> bytes:
        """The content of `archive`: one frame or several, one after another.

        A damaged archive that has parity is repaired, and a warning says so.

        Args:
            archive: one or more archives, one after another.
            executor: as for `compress_stream`.

        Raises:
            LLZError: of the kind that fits what is wrong.
        """
        sink = io.BytesIO()
        self.decompress_stream(io.BytesIO(archive), sink, executor=executor)
        return sink.getvalue()

    def compress_stream(
        self, source: BinaryIO, sink: BinaryIO, report: Report | None = None, account: AnyAccount | None = None,
        *, executor: Executor | None = None,
    ) -> None:  # fmt: skip
        """Read `source` to its end and write one frame, block after block.

        Args:
            source: where the content is read.
            sink: where the archive is written. It is flushed after every block, so that a reader at the other end of a pipe can begin.
                Blocks that need no model are held back, 16 MiB of content at most. So is the first block until there is another.
            report: is told how many bytes of content are done and how many bytes of archive they took, now and then.
            account: watches the coding; the ledger if None.
            executor: computes the blocks, in the way of `concurrent.futures.Executor`; this process if None. The archive does not depend on it.
                Each worker uses `Options.threads` threads, one if that is None.

        Raises:
            LLZError: the model cannot be had, or not be run. Nothing is written if that is so for the first block.
        """
        computing = self._computing(executor)
        self._write(FrameWriter(computing, self.options, self.ledger if account is None else account), computing, source, sink, report)

    def resume_stream(self, source: BinaryIO, part: BinaryIO, report: Report | None = None) -> None:
        """Go on with an archive that an earlier run left unfinished. The bytes become those that `compress_stream` gives.

        Args:
            source: the same content, from its start; seekable.
            part: what `compress_stream` or this wrote before it was interrupted, or nothing; open for reading and writing, seekable.
            report: as for `compress_stream`.

        Raises:
            LLZError: `part` is of other content or other settings, or the model cannot be had, or not be run.
        """
        from llmzip.codec import resuming

        writer = FrameWriter(self.blocks, self.options, self.ledger)
        resuming.go_on(part, source, writer, self.blocks.models, self.options)
        self._write(writer, self.blocks, source, part, report)

    def _write(self, writer: FrameWriter, computing: BlockCodec, source: BinaryIO, sink: BinaryIO, report: Report | None) -> None:
        """Read a source to its end, and write what is missing of a frame."""
        with _closing(computing.encoding(read_blocks(source, writer.block_bytes), self.options, lambda: writer.model)) as blocks:
            for content, begun in blocks:

                def progress(share: float, stream: int, done: int = writer.content_bytes, size: int = len(content)) -> None:
                    if report:
                        report(done + int(share * size), writer.archive_bytes + stream)

                if first := writer.before_next():
                    streams.write(sink, first)
                    streams.flush(sink)
                streams.write(sink, writer.block(content, progress, begun))
                streams.flush(sink)
                progress(1.0, 0)
        streams.write(sink, writer.end())
        streams.flush(sink)

    def decompress_stream(
        self, source: BinaryIO, sink: BinaryIO, report: Report | None = None, announce: Announce | None = None,
        *, executor: Executor | None = None,
    ) -> None:  # fmt: skip
        """Decode every frame of `source`. A block is written only once its check has passed.

        A damaged archive that has parity is repaired, and a warning says so, if the source is seekable.

        Args:
            source: where the archive is read.
            sink: where the content is written; flushed after every block.
            report: is told how many bytes of content are done and how many bytes of archive they took, now and then.
            announce: is told of each coded block before it is decoded: the model record, the block, and what forecasts the time.
            executor: as for `compress_stream`.

        Raises:
            LLZError: of the kind that fits what is wrong.
        """
        computing = self._computing(executor)
        total, reader = 0, FrameReader(computing, announce)
        with _closing(computing.decoding(self._limited(ArchiveReader(source)), announce)) as records:
            for placed, begun in records:
                span, size = placed.span, placed.record.size if isinstance(placed.record, Block) else 0

                def progress(share: float, stream: int, done: int = total, before: int = span.start, size: int = size) -> None:
                    if report:
                        report(done + int(share * size), before + stream)

                content = reader.content(placed, progress, begun)
                if content:
                    streams.write(sink, content)
                    streams.flush(sink)
                    total += len(content)
                    if report:
                        report(total, span.stop)

    def decode_block(self, record: Block, model: ModelRecord | None, progress: Progress = ignore_progress) -> bytes:
        """Decode one block; see `BlockCodec.decode`."""
        return self.blocks.decode(record, model, progress)

    def _computing(self, executor: Executor | None) -> BlockCodec:
        """What encodes and decodes blocks with an executor, or without."""
        if executor is None:
            return self.blocks
        from llmzip.codec import executors

        return executors.workers(executor, replace(self.options, threads=self.options.threads or 1), self.blocks.policy)

    def _limited(self, records: ArchiveReader) -> Iterator[Placed]:
        """The records; raises OutputLimitError before the one that holds too much."""
        total, limit = 0, self.options.max_output
        for placed in records:
            if isinstance(placed.record, Block):
                total += placed.record.size
                if limit is not None and total > limit:
                    raise OutputLimitError(total, limit)
            yield placed


@contextlib.contextmanager
def _closing(blocks: Iterator[_T]) -> Iterator[Iterator[_T]]:
    """An iterator that is told when nobody wants more of it, so that it ends what it has begun."""
    try:
        yield blocks
    finally:
        if isinstance(blocks, Generator):
            blocks.close()
