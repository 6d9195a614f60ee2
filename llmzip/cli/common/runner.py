"""Runs a job over many files with one codec. An error in one file does not stop the others."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, NoReturn

import click

from llmzip.cli.common.digest import Digest
from llmzip.cli.common.forecast import Contents, Forecaster, contents
from llmzip.cli.common.job import Job
from llmzip.cli.common.report import attempt, progress, say
from llmzip.errors import DamagedArchiveError, LLZError, NotReproducedError, OutputLimitError
from llmzip.system import streams
from llmzip.system.file_names import STDIO, FileError, display_name, is_stream
from llmzip.system.input_files import reading
from llmzip.system.output_files import check_absent, writing

if TYPE_CHECKING:
    from llmzip.codec.codec import Codec


def run(job: Job) -> NoReturn:
    """Do the job, and exit."""
    if job.output is not None and len(job.names) > 1:
        raise click.UsageError("-o takes one FILE; use -c, or run once per file.")
    if job.remove and (job.to_stdout or STDIO in (*job.names, job.output)):
        raise click.UsageError("--rm needs files on both sides; leave it out, or leave out -c and -.")
    runner = _Runner(job)
    status = 0
    for name in job.names:
        status = max(status, attempt(name, functools.partial(runner.file, name)))
    runner.explain()
    sys.exit(status)


class _Runner:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._codec: Codec | None = None

    def _make_codec(self) -> Codec:
        if self._codec is None:
            from llmzip.codec.codec import Codec
            from llmzip.options import Options

            self._codec = Codec(Options(**self._job.settings))
        return self._codec

    def _decoder(self, name: str, found: Contents | None) -> Callable[..., None]:
        """A function that decodes an archive, and says beforehand if that will take long."""
        codec = self._make_codec()
        announce = None if self._job.settings.get("quiet") else Forecaster(display_name(name), found)
        return functools.partial(codec.decompress_stream, announce=announce)

    def file(self, name: str) -> None:
        """Do one file."""
        job, out = self._job, self._job.place(name)
        if job.action == "compress" and out == STDIO and sys.stdout.isatty() and not job.force:
            raise FileError("will not write an archive to a terminal; use -o, redirect, or -f")
        if job.remove and is_stream(out):
            raise FileError(f"is not deleted for {display_name(out)}, which keeps nothing; leave out --rm, or name a file")
        with reading(name) as source:
            before = None if name == STDIO else os.fstat(source.fileno())
            if before and os.path.exists(out) and os.path.samestat(before, os.stat(out)):
                raise FileError("would be overwritten by its own output; name another one with -o")
            if job.action == "compress":
                check_absent(out, job.force)
                self._compress(name, out, source)
            else:
                self._restore(name, out, source)
        if job.remove and before is not None:
            after = os.stat(name)
            if (before.st_ino, before.st_size, before.st_mtime_ns) != (after.st_ino, after.st_size, after.st_mtime_ns):
                raise FileError("changed while it was read, so it was not deleted; run again")
            os.unlink(name)

    def _compress(self, name: str, out: str, source: BinaryIO) -> None:
        codec, like = self._make_codec(), None if STDIO in (name, out) else source
        if not (self._job.verify or self._job.remove):
            with writing(out, self._job.force, like) as sink:
                self._stream(codec.compress_stream, name, _file_size(name), source, sink)
            return
        from llmzip.cli.common.verify import verify

        digest, passing = Digest(source), out == STDIO or is_stream(out)  # such an output cannot be read again
        with writing(out, self._job.force, like) as sink, tempfile.TemporaryFile() if passing else contextlib.nullcontext(sink) as archive:
            self._stream(codec.compress_stream, name, _file_size(name), digest, archive)  # type: ignore[arg-type]
            verify(archive, f"{display_name(name)}, verifying", digest, self._job.settings)
            if passing:
                archive.seek(0)
                while part := streams.read(archive, 1 << 20):
                    streams.write(sink, part)

    def _restore(self, name: str, out: str, source: BinaryIO) -> None:
        job, found, damage, beyond = self._job, _contents(name), "", ""
        like = None if STDIO in (name, out) else source
        if found is None and name != STDIO and os.path.isfile(name):  # some record is damaged
            from llmzip.cli.common.repair import repaired

            try:
                source, damage = repaired(name, source)
            except DamagedArchiveError as e:
                if not job.salvage and job.action != "test":
                    raise self._advised(e, name, source) from None
                beyond = str(e)
            found = contents(source) if damage else None
            source.seek(0)
        size = None if found is None else found.size
        limit = job.settings.get("max_output")
        if limit is not None and size is not None and size > limit:
            raise OutputLimitError(size, limit)  # before decoding anything
        if job.action == "test":
            self._test(name, found, source, damage, beyond)
            return
        check_absent(out, job.force)
        decode, salvage = self._decoder(name, found), None
        if job.salvage:
            from llmzip.cli.common.salvage import Salvage

            decode = salvage = Salvage(name, self._make_codec())
        try:
            with writing(out, job.force, like) as sink:
                self._stream(decode, name, size, source, sink)
        except (DamagedArchiveError, NotReproducedError) as e:
            raise self._advised(e, name, source) from None
        if damage and not job.settings.get("quiet"):
            say(name, damage)
        if salvage:
            salvage.end()

    def _test(self, name: str, found: Contents | None, source: BinaryIO, damage: str, beyond: str) -> None:
        """Check an archive. `damage`: what parity repaired; `beyond`: why repair failed."""
        decode = self._decoder(name, found)
        if found is not None or damage:  # all records are intact
            try:
                self._stream(decode, name, found and found.size, source, Digest())  # type: ignore[arg-type]
            except (DamagedArchiveError, NotReproducedError):
                source.seek(0)  # to find out which block is wrong
            else:
                if damage:
                    raise DamagedArchiveError(damage)
                return
        from llmzip.cli.common.salvage import check

        with progress(name, None, bool(self._job.settings.get("quiet"))) as report:
            check(name, self._make_codec(), source, report, beyond)

    def _advised(self, error: LLZError, name: str, source: BinaryIO) -> LLZError:
        """The error, with advice to use --salvage if that would help."""
        if self._job.salvage or name == STDIO or not source.seekable():
            return error
        from llmzip.cli.common.salvage import advised

        return advised(error, source)

    def _stream(self, code: Callable[..., None], name: str, size: int | None, source: BinaryIO, sink: BinaryIO) -> None:
        with progress(name, size, bool(self._job.settings.get("quiet"))) as report:
            try:
                code(source, sink, report)
            except DamagedArchiveError as e:
                if name != STDIO:
                    raise
                raise DamagedArchiveError(f"{e}, or, if it was made with --parity, save it to a file and run: llmzip repair FILE") from e

    def explain(self) -> None:
        """Print where the bits went, if that was asked for."""
        if self._codec is not None and self._codec.ledger is not None:
            from llmzip.cli.common.explain import table

            click.echo(table(self._codec.ledger), err=True)


def _file_size(name: str) -> int | None:
    return None if name == STDIO else os.stat(name).st_size


def _contents(name: str) -> Contents | None:
    """What the archive says it contains; None if it is damaged, as decoding will tell, or if it cannot be read twice."""
    if name == STDIO or not os.path.isfile(name):
        return None
    with open(name, "rb") as source:
        return contents(source)
