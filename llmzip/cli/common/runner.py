"""Runs a job over many files, with models that are loaded once. An error in one file does not stop the others."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import click

from llmzip.cli.common import corpus
from llmzip.cli.common.computers import computers
from llmzip.cli.common.digest import Digest
from llmzip.cli.common.forecast import Contents, Forecaster, contents
from llmzip.cli.common.job import Job
from llmzip.cli.common.report import attempt, progress, say
from llmzip.errors import DamagedArchiveError, LLZError, NotReproducedError, OutputLimitError
from llmzip.parameters import DEFAULT_LEVEL, LEVELS
from llmzip.system import streams
from llmzip.system.file_names import STDIO, FileError, display_name, is_stream
from llmzip.system.input_files import reading
from llmzip.system.output_files import check_absent, going_on, writing

if TYPE_CHECKING:
    from llmzip.codec.block_codec import BlockCodec
    from llmzip.codec.codec import Codec
    from llmzip.options import Options


def run(job: Job) -> NoReturn:
    """Do the job, and exit."""
    if job.output is not None and len(job.names) > 1:
        raise click.UsageError("-o takes one FILE; use -c, or run once per file.")
    if job.remove and (job.to_stdout or STDIO in (*job.names, job.output)):
        raise click.UsageError("--rm needs files on both sides; leave it out, or leave out -c and -.")
    if job.resume and (job.verify or job.remove):
        raise click.UsageError("--resume does not go with --verify or --rm; test the archive at last: llmzip -t")
    with computers(job) as (most, block_codec):
        workers, at_once = _side_by_side(job, most)
        runner = _Runner(job, functools.partial(block_codec, workers), at_once)
        status = _each(job.names, runner.file, at_once)
        runner.explain()
    sys.exit(status)


def run_corpus(job: Job, root: str | None, listed: str | None) -> NoReturn:
    """Compress the files of a folder, or those of a list, and exit."""
    if job.verify or job.remove or job.resume or job.to_stdout:
        raise click.UsageError("-r and --files-from do not go with -c, --verify, --rm or --resume; what is done is skipped anyway.")
    status = 0

    def all_files() -> None:
        nonlocal status
        assert job.output
        sources = corpus.sources(root, listed, job.output)
        with computers(job) as (most, block_codec), corpus.opened(job.output, job.force) as made:
            runner = _Runner(job, functools.partial(block_codec, most), most)

            def one(name: str) -> None:
                made.compress(sources[name], runner.compress)

            status = _each(tuple(sources), one, min(most, max(1, len(sources))))
            runner.explain()

    failed = attempt(root or listed or "", all_files)
    sys.exit(max(status, failed))


def _each(names: tuple[str, ...], do: Callable[[str], None], at_once: int) -> int:
    """Do something with each file, several at once; report errors and return the exit code."""

    def one(name: str) -> int:
        return attempt(name, functools.partial(do, name))

    if at_once == 1:
        return max([one(name) for name in names], default=0)
    with ThreadPoolExecutor(at_once) as threads:
        return max(threads.map(one, names), default=0)


def _side_by_side(job: Job, most: int) -> tuple[int, int]:
    """How many workers can be of use, and how many files can be done at once. For each worker there is a block, as far as they can be counted."""
    if most == 1:
        return 1, 1
    in_order = job.to_stdout or STDIO in (*job.names, job.output)
    blocks = 0
    for name in job.names:
        of_file = _blocks(job, name, most)
        blocks = max(blocks, of_file) if in_order else blocks + of_file
        if blocks >= most:
            break
    workers = min(blocks, most)
    return workers, 1 if in_order else min(workers, len(job.names))


def _blocks(job: Job, name: str, most: int) -> int:
    """About how many blocks a file has; `most` where that is not known. Whether it can be read is found out later."""
    with contextlib.suppress(OSError):
        if job.action != "compress" and (found := _contents(name)):
            return max(1, len(found.coded))
        if os.path.isfile(name):
            block_bytes = job.settings.get("block_bytes") or LEVELS[job.settings.get("level", DEFAULT_LEVEL)].block_bytes
            return max(1, -(-os.path.getsize(name) // block_bytes))
        if name == STDIO or is_stream(name):
            return most
    return 1


class _Runner:
    """Does the files of a job.

    Args:
        job: what to do.
        block_codec: makes what encodes and decodes the blocks.
        at_once: files that are done at the same time, by threads that share this runner.
    """

    def __init__(self, job: Job, block_codec: Callable[[Options], BlockCodec], at_once: int) -> None:
        self._job, self._block_codec, self._at_once = job, block_codec, at_once
        self._making = threading.Lock()
        self._blocks: BlockCodec | None = None
        self._codecs: list[Codec] = []

    def _make_codec(self) -> Codec:
        """A codec for one file. All share the models, or the processes."""
        from llmzip.codec.codec import Codec
        from llmzip.options import Options

        options = Options(**self._job.settings)
        with self._making:
            self._blocks = self._blocks or self._block_codec(options)
            codec = Codec(options, blocks=self._blocks)
            self._codecs.append(codec)
        return codec

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

    def compress(self, name: str, size: int | None, source: BinaryIO, sink: BinaryIO) -> None:
        """Write the archive of a source that was opened elsewhere."""
        self._stream(self._make_codec().compress_stream, name, size, source, sink)

    def _compress(self, name: str, out: str, source: BinaryIO) -> None:
        codec, like = self._make_codec(), None if STDIO in (name, out) else source
        if self._job.resume:
            if STDIO in (name, out) or is_stream(name) or is_stream(out):
                raise FileError("cannot be resumed, as that takes files on both sides; leave out --resume, or name files")
            with going_on(out, self._job.force, like) as part:
                self._stream(codec.resume_stream, name, _file_size(name), source, part)
            return
        if not (self._job.verify or self._job.remove):
            with writing(out, self._job.force, like) as sink:
                self._stream(codec.compress_stream, name, _file_size(name), source, sink)
            return
        from llmzip.cli.common.verify import verify

        digest, passing = Digest(source), out == STDIO or is_stream(out)  # such an output cannot be read again
        with writing(out, self._job.force, like) as sink, tempfile.TemporaryFile() if passing else contextlib.nullcontext(sink) as archive:
            self._stream(codec.compress_stream, name, _file_size(name), digest, archive)  # type: ignore[arg-type]
            verify(archive, f"{display_name(name)}, verifying", digest, self._verify_settings())
            if passing:
                archive.seek(0)
                while some := streams.read(archive, 1 << 20):
                    streams.write(sink, some)

    def _verify_settings(self) -> dict[str, Any]:
        """Settings of the process that verifies a file: its share of the threads."""
        if self._at_once == 1:
            return self._job.settings
        from llmzip.system.exact_threads import default_threads

        return self._job.settings | {"threads": max(1, (self._job.settings["threads"] or default_threads()) // self._at_once)}

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
        with progress(name, size, bool(self._job.settings.get("quiet")), lambda: self._blocks.alive if self._blocks else None) as report:
            try:
                code(source, sink, report)
            except DamagedArchiveError as e:
                if name != STDIO:
                    raise
                raise DamagedArchiveError(f"{e}, or, if it was made with --parity, save it to a file and run: llmzip repair FILE") from e

    def explain(self) -> None:
        """Print where the bits went, if that was asked for."""
        ledgers = [codec.ledger for codec in self._codecs if codec.ledger is not None]
        if ledgers:
            from llmzip.cli.common.explain import table

            for other in ledgers[1:]:
                ledgers[0].add(other)
            click.echo(table(ledgers[0]), err=True)


def _file_size(name: str) -> int | None:
    return None if name == STDIO else os.stat(name).st_size


def _contents(name: str) -> Contents | None:
    """What the archive says it contains; None if it is damaged, as decoding will tell, or if it cannot be read twice."""
    if name == STDIO or not os.path.isfile(name):
        return None
    with open(name, "rb") as source:
        return contents(source)
