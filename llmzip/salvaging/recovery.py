"""Recovers the undamaged blocks of a damaged archive, and reports what is missing."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from llmzip.archive.parser import parse_start, pull
from llmzip.archive.records import TAG_END, Block, CodedBlock, EndRecord, ModelRecord, SoleBlock, StoredBlock, WholeCheck
from llmzip.errors import DamagedArchiveError, NotEnoughMemoryError, NotReproducedError, OutputLimitError
from llmzip.salvaging.items import CUT, DAMAGED, Found, Lost, Start
from llmzip.salvaging.place import Frame, Part, group_frames
from llmzip.salvaging.result import Gap, Piece, Salvaged
from llmzip.salvaging.scan import scan

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from llmzip.codec.codec import Codec
    from llmzip.options import DecodeOptions

Report = Callable[[int, int], None]  # called with the bytes of content recovered so far, and the bytes of archive read for them

_MAX_MODELS = 16  # model records tried for a block whose own is lost

# Reasons of gaps, and notes on pieces.

NOT_REPRODUCED = "not reproduced by this machine or model"
_NO_MODEL = "its model record is lost"
_CRC_WRONG = "the record's CRC was wrong, the content's is right"
_UNPROVEN = "damaged; what it may have been cannot be proven"
_START_DAMAGED = "the start of a frame, damaged"
_END_DAMAGED = "an end record, damaged"
_TRACELESS = "missing without a trace"
_MISMATCH = "the content as a whole does not match its check"


def salvage(archive: bytes, *, codec: Codec | None = None, **options: Unpack[DecodeOptions]) -> Salvaged:
    """Recover every undamaged block of a damaged archive.

    Blocks whose record has one flipped bit or a destroyed head are recovered as well.

        >>> result = llmzip.salvage(damaged)
        >>> for piece in result.pieces:
        ...     if piece.start is not None:
        ...         file.seek(piece.start)
        ...         file.write(piece.content)
        >>> [gap.reason for gap in result.gaps]
        ['damaged']

    Args:
        archive: one or more archives, one after another, or what is left of them.
        codec: a codec to use, with its options and the models it has loaded; the other options are ignored then.
        options: model, threads and device, as in `Options`.

    Raises:
        NotAnArchiveError, DamagedArchiveError, UnsupportedArchiveError: not one record is left.
        ModelUnavailableError, ModelMismatchError: the archive's model is not available.
        LLZError: the model cannot be run, or an argument is out of range.
    """
    if codec is None:
        from llmzip.codec.codec import Codec
        from llmzip.options import Options

        codec = Codec(Options.for_decoding(**options))
    result = Salvaged([], [])
    for part in recover(codec, archive):
        if isinstance(part, Gap):
            result.gaps.append(part)
        else:
            result.pieces.append(part)
    return result


def recover(codec: Codec, archive: bytes, report: Report | None = None) -> Iterator[Piece | Gap]:
    """Yield the pieces and gaps that `salvage` returns, each as soon as it is known.

    Args:
        codec: decodes the blocks.
        archive: as for `salvage`.
        report: called now and then with the bytes of content recovered so far, and the bytes of archive read for them.

    Raises:
        LLZError: as for `salvage`.
    """
    items = scan(archive)
    if all(isinstance(item, Start) or not item.record for item in items):
        _refuse(archive)
    yield from _Recovery(codec, group_frames(items), report).parts()


def recoverable(archive: bytes) -> int:
    """Return the number of blocks that are intact or repaired as records; none is decoded."""
    return sum(isinstance(item, Found) and isinstance(item.record, (Block, SoleBlock)) for item in scan(archive))


def _refuse(archive: bytes) -> None:
    """Raise the error that says why bytes without any record are not an archive that can be read. Raises LLZError."""
    pull(parse_start(True), io.BytesIO(archive))
    raise DamagedArchiveError("the archive is damaged or cut short, and nothing of it can be recovered; get another copy")


class _Recovery:
    def __init__(self, codec: Codec, found: list[Frame], report: Report | None) -> None:
        self._codec, self._frames, self._report = codec, found, report
        self._models_of_all = list(dict.fromkeys(model for frame in found for model in frame.models))[:_MAX_MODELS]
        self._blocks = self._done = 0  # number of the latest block; bytes of content recovered

    def parts(self) -> Iterator[Piece | Gap]:
        base: int | None = 0
        exact = True
        for frame in self._frames:
            after = frame.place(base, exact)
            whole = WholeCheck()
            yield from self._frame(frame, whole)
            if base is not None and _verified(frame, whole) and not frame.may_hide_frame:
                after = base + whole.size, exact
            base, exact = after

    def _frame(self, frame: Frame, whole: WholeCheck) -> Iterator[Piece | Gap]:
        late: list[Gap] = []  # parts that seem to hold no content; they are harmless if the frame's check confirms that
        held: list[Piece | Gap] = []  # all from the first doubtful block on: only the frame's check can tell whether that one is right
        doubtful: dict[int, str] = {}  # indices in `held` of doubtful blocks, and the reason to give if they are wrong
        complete = True
        for part in frame.parts:
            if part.size == 0 and not part.is_block:
                late.append(Gap(*self._place(part), _reason(part)))
                continue
            content = self._content(part, frame)
            self._blocks += 1
            piece: Piece | Gap
            if isinstance(content, str):
                piece, complete = Gap(*self._place(part, self._blocks), content), False
            else:
                piece = Piece(*self._place(part, self._blocks, len(content)), content, _repair_note(part))
                whole.update(content)
                self._done += len(content)
            if _is_doubtful(part):
                doubtful[len(held)] = _UNPROVEN if isinstance(part.item, Found) else _reason(part)
            if held or doubtful:
                held.append(piece)
            else:
                yield piece
        verified = _verified(frame, whole)
        for i, piece in enumerate(held):
            wrong = "" if verified else doubtful.get(i, "")
            yield Gap(piece.block, piece.start, piece.size, piece.exact, piece.archive, wrong) if wrong else piece
        for gap in late:
            yield replace(gap, harmless=verified and not frame.may_hide_frame)
        if not verified and not doubtful:
            yield from _unexplained(frame, complete)

    @staticmethod
    def _place(part: Part, block: int | None = None, size: int | None = None) -> tuple[int | None, int | None, int | None, bool, range]:
        return block, part.start, part.size if size is None else size, part.exact, range(part.item.start, part.item.stop)

    def _content(self, part: Part, frame: Frame) -> bytes | str:
        """Return the content of a block, or the reason why it cannot be recovered."""
        if isinstance(part.item, Start) or not isinstance(part.item.record, Block):
            return _reason(part)
        record = part.item.record
        limit, guessed = self._codec.options.max_output, isinstance(part.item, Lost) or bool(part.item.repaired)
        if limit is not None and self._done + record.size > limit:
            if guessed:
                return DAMAGED
            raise OutputLimitError(self._done + record.size, limit)
        models = self._models(part, frame) if isinstance(record, CodedBlock) else [None]
        for model in models:
            try:
                return self._codec.decode_block(record, model, self._progress(part, record.size))
            except NotReproducedError:
                continue
            except (DamagedArchiveError, NotEnoughMemoryError):
                if not guessed and isinstance(record, CodedBlock):
                    raise
                continue
        if isinstance(part.item, Lost):
            return _reason(part)
        if guessed or not isinstance(record, CodedBlock):
            return DAMAGED
        return _NO_MODEL if part.models_lost else NOT_REPRODUCED

    def _models(self, part: Part, frame: Frame) -> list[ModelRecord]:
        """Return the model records that may have been used for a coded block, the likeliest first."""
        own = [part.model] if part.model else []
        others = [*frame.models, *self._models_of_all] if part.models_lost else []
        return list(dict.fromkeys(own + others))[:_MAX_MODELS]

    def _progress(self, part: Part, size: int) -> Callable[[float, int], None]:
        def progress(share: float, stream: int) -> None:
            if self._report:
                self._report(self._done + int(share * size), part.item.start + stream)

        return progress


def _verified(frame: Frame, whole: WholeCheck) -> bool:
    """Whether the end record confirms that the content is complete and right. An end record of which only the CRC is wrong counts, too."""
    ends = [part.item.record for part in frame.parts if isinstance(part.item, Lost)]
    return any(isinstance(end, EndRecord) and whole.is_what(end) for end in (frame.end, *ends))


def _is_doubtful(part: Part) -> bool:
    """Whether a block's own checks do not prove that it was repaired rightly."""
    if isinstance(part.item, Lost):
        return isinstance(part.item.record, StoredBlock)
    return isinstance(part.item, Found) and not part.item.proven


def _repair_note(part: Part) -> str:
    return part.item.repaired if isinstance(part.item, Found) else _CRC_WRONG


def _reason(part: Part) -> str:
    """Return what is wrong with a part."""
    if isinstance(part.item, Start):
        return _START_DAMAGED
    if isinstance(part.item, Lost):
        return _END_DAMAGED if part.item.tag == TAG_END and part.item.reason == DAMAGED else part.item.reason
    return part.item.repaired or DAMAGED


def _unexplained(frame: Frame, complete: bool) -> Iterator[Gap]:
    """Yield a gap if content is missing although no part is damaged."""
    last = frame.parts[-1] if frame.parts else None
    if not frame.closed and not (last and isinstance(last.item, Lost) and last.item.stop == frame.stop):
        start = None if last is None or last.start is None or last.size is None else last.start + last.size
        yield Gap(None, start, None, start is not None and last is not None and last.exact, range(frame.stop, frame.stop), CUT)
    elif frame.end and complete:
        reason = _TRACELESS if frame.spare else _MISMATCH
        yield Gap(None, None, frame.spare if frame.spare and frame.spare > 0 else None, False, range(frame.start, frame.stop), reason)
