"""Going on with an archive that an earlier run left unfinished. The bytes become those that one run would have given."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

from llmzip.archive.parser import Placed, read_records
from llmzip.archive.records import Block, CodedBlock, EndRecord, ModelRecord, StoredBlock, WholeCheck, content_check
from llmzip.codec.cutting import read_blocks
from llmzip.codec.frame_writer import Done, FrameWriter
from llmzip.codec.loaded_models import LoadedModels
from llmzip.errors import DamagedArchiveError, LLZError, NotAnArchiveError
from llmzip.options import AUTO, Options


class OtherPartError(LLZError):
    """What an earlier run left is of other content, or was made with other settings."""

    def __init__(self) -> None:
        super().__init__(
            "what an earlier run left is of other content, another model or other settings; repeat those, or delete the .part file"
        )


def go_on(part: BinaryIO, source: BinaryIO, writer: FrameWriter, models: LoadedModels, options: Options) -> None:
    """Bring a frame writer to where an earlier run was: behind the last coded block that is whole. What needs no model is quickly done again.

    Args:
        part: what the earlier run wrote. It is cut off there, and its position is its end.
        source: the content, from its start. Its position is behind that block's content afterwards; both files must be seekable.
        writer: a new one.
        models: they know the model that encodes.
        options: how to encode.

    Raises:
        OtherPartError: it does not fit.
        LLZError: the model cannot be had.
    """
    begin = source.tell()
    part.seek(0)
    done = _replayed(part, read_blocks(source, writer.block_bytes), models, options)
    source.seek(begin + done.whole.size)
    part.truncate(done.archive_bytes)
    part.seek(0)
    writer.go_on(done, part.read(done.archive_bytes) if options.parity else b"")
    part.seek(0, 2)


def _replayed(part: BinaryIO, blocks: Iterator[bytes], models: LoadedModels, options: Options) -> Done:
    """What was done, as far as it fits the content."""
    done, since = Done(WholeCheck(), None, 0, 0), list[bytes]()  # contents of blocks since the last coded one
    for placed in _whole_records(part):
        record = placed.record
        if isinstance(record, ModelRecord) and not _is_own(record, models, options):
            raise OtherPartError
        if isinstance(record, EndRecord) and not record.check:
            return Done(WholeCheck(), None, 0, 0)  # a sole block cannot be gone on with
        if not isinstance(record, Block):
            continue
        content = b"".join(_of_size(blocks, record.size))
        check = content_check(record.content) if isinstance(record, StoredBlock) else record.check
        if content_check(content) != check:
            raise OtherPartError
        since.append(content)
        if isinstance(record, CodedBlock):
            if record.lanes != min(options.lanes or options.level_settings().lanes(record.symbols), record.symbols):
                raise OtherPartError
            for one in since:
                done.whole.update(one)
            since = []
            done = Done(done.whole, placed.model, done.coded + 1, placed.span.stop)
    return done


def _whole_records(part: BinaryIO) -> Iterator[Placed]:
    """The records up to one that is not whole."""
    try:
        yield from read_records(part)
    except (DamagedArchiveError, NotAnArchiveError):
        return


def _of_size(blocks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Blocks of this size together. Those that need no model may have become one."""
    while size > 0:
        content = next(chain(blocks, [b""]))
        if not content:
            raise OtherPartError
        size -= len(content)
        yield content
    if size:
        raise OtherPartError


def _is_own(record: ModelRecord, models: LoadedModels, options: Options) -> bool:
    """Whether these options could have given this model record."""
    level = options.level_settings()
    adapters = [level.adapter] if options.adapter else level.adapter.subsets()
    if record.span != level.span or record.adapter not in adapters:
        return False
    return options.model == AUTO or models.own_digests() == (record.digest, record.tokenizer)
