"""Runs one action over many files with one codec. An error in one file does not stop the others."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import click

from llmzip.cli.common.digest import Digest
from llmzip.cli.common.forecast import Contents, Forecaster, contents
from llmzip.errors import DamagedArchiveError, LLZError, NotReproducedError, OutputLimitError, ParameterError
from llmzip.system import streams
from llmzip.system.file_names import STDIO, FileError, is_stream, shown
from llmzip.system.input_files import reading
from llmzip.system.output_files import check_absent, writing

if TYPE_CHECKING:
    from llmzip.codec.codec import Codec

SUFFIX = ".llz"
_WIDTH = 80


@dataclass
class Job:
    """What to do with which files, and how.

    Attributes:
        action: "compress", "decompress" or "test".
        target: gives the name of the output for the name of a file.
        verify: If true, decode each archive and compare.
        remove: If true, delete each source at the end.
        salvage: If true, continue past damage, and write what is left.
        settings: for `codec.Options`.
    """

    action: str
    files: tuple[str, ...]
    target: Callable[[str], str]
    output: str | None = None
    to_stdout: bool = False
    force: bool = False
    remove: bool = False
    verify: bool = False
    salvage: bool = False
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The files; standard input if there are none."""
        return self.files or (STDIO,)

    def place(self, name: str) -> str:
        """The name of the output for the file `name`."""
        if self.action == "test":
            return os.devnull
        if self.to_stdout or self.output == STDIO or (self.output is None and name == STDIO):
            return STDIO
        return self.output if self.output is not None else self.target(name)


def report_error(name: str, error: LLZError | OSError) -> int:
    """Print one line about what went wrong with a file; return the exit code."""
    if isinstance(error, LLZError):
        say(name, str(error))
        return error.exit_code
    say(name, f"{(error.strerror or str(error)).lower()}; check the file and its folder")
    return 1


def say(name: str, what: str) -> None:
    """Print a line about the file `name` on standard error."""
    click.echo(f"llmzip: {shown(name)}: {what}", err=True)


def attempt(name: str, do: Callable[[], None]) -> int:
    """Do something with the file `name`; report errors and return the exit code."""
    try:
        do()
    except ParameterError as e:
        raise click.UsageError(str(e)) from e
    except LLZError as e:
        return report_error(name, e)
    except OSError as e:
        if e.filename is None:  # standard output failed, whoever wrote to it: that ends the program
            raise
        return report_error(name, e)
    return 0


def _settings(given: dict[str, Any], *names: str) -> dict[str, Any]:
    settings = {name: given[name] for name in ("model", "offline", "device", "quiet", *names)}
    return settings | {"threads": given["threads"] or None}


def compress_job(given: dict[str, Any]) -> Job:
    """What `compress` is to do, by its options."""
    same = {name: given[name] for name in ("files", "output", "to_stdout", "force", "remove", "verify")}
    return Job(
        "compress",
        target=functools.partial(_with_suffix, force=given["force"]),
        settings=_settings(given, "level", "lanes", "explain", "parity"),
        **same,
    )


def restore_job(action: str, given: dict[str, Any]) -> Job:
    """What `decompress` or `test` is to do, by its options."""
    names = ("files",) if action == "test" else ("files", "output", "to_stdout", "force", "remove", "salvage")
    return Job(action, target=_without_suffix, settings=_settings(given, "max_output"), **{name: given[name] for name in names})


def _with_suffix(name: str, force: bool) -> str:
    if name.endswith(SUFFIX) and not force:
        raise FileError(f"ends in {SUFFIX} already, and is left alone; use -f to compress it again, or -o")
    return name + SUFFIX


def _without_suffix(name: str) -> str:
    if not name.endswith(SUFFIX) or len(os.path.basename(name)) == len(SUFFIX):
        raise FileError(f"does not end in {SUFFIX}; name the output with -o, or use -c")
    return name[: -len(SUFFIX)]


@contextlib.contextmanager
def progress(name: str, size: int | None, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, if that is a terminal. Yield a function to call with the bytes done and written so far."""
    from tqdm import tqdm

    hidden = quiet or not sys.stderr.isatty()
    what = shown(os.path.basename(name))
    with tqdm(total=size, desc=what, unit="B", unit_scale=True, disable=hidden, ncols=_columns(), file=sys.stderr) as bar:

        def report(done: int, written: int) -> None:
            if written > 100:
                bar.set_postfix_str(f"ratio {done / written:.2f}", refresh=False)  # `update` decides when to redraw
            bar.update(done - bar.n)

        yield report


def _columns() -> int | None:
    """Width of a bar for a terminal that does not tell its width; None for one that does."""
    with contextlib.suppress(OSError, ValueError):
        return None if os.get_terminal_size(sys.stderr.fileno()).columns else _WIDTH
    return None


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
        announce = None if self._job.settings.get("quiet") else Forecaster(shown(name), found)
        return functools.partial(codec.decompress_stream, announce=announce)

    def file(self, name: str) -> None:
        """Do one file."""
        job, out = self._job, self._job.place(name)
        if job.action == "compress" and out == STDIO and sys.stdout.isatty() and not job.force:
            raise FileError("will not write an archive to a terminal; use -o, redirect, or -f")
        if job.remove and is_stream(out):
            raise FileError(f"is not deleted for {shown(out)}, which keeps nothing; leave out --rm, or name a file")
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
            verify(archive, f"{shown(name)}, verifying", digest, self._job.settings)
            if passing:
                archive.seek(0)
                while part := streams.read(archive, 1 << 20):
                    streams.write(sink, part)

    def _restore(self, name: str, out: str, source: BinaryIO) -> None:
        job, found, damage, beyond = self._job, _contents(name), "", ""
        like = None if STDIO in (name, out) else source
        if found is None and name != STDIO and os.path.isfile(name):  # some record is damaged
            from llmzip.cli.repair import mended

            try:
                source, damage = mended(name, source)
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
            click.echo(_table(self._codec.ledger), err=True)


def _file_size(name: str) -> int | None:
    return None if name == STDIO else os.stat(name).st_size


def _contents(name: str) -> Contents | None:
    """What the archive says it contains; None if it is damaged, as decoding will tell, or if it cannot be read twice."""
    if name == STDIO or not os.path.isfile(name):
        return None
    with open(name, "rb") as source:
        return contents(source)


def _table(ledger: Any) -> str:
    """A table of where the bits of the coded blocks went."""

    def line(what: str, size: float, of: float = 0.0) -> str:
        return f"{what:<34}{size:>14,.1f}" + (f"{100 * size / of:>+9.2f}%" if of else "")

    frozen, biased, voted = (bits / 8 for bits in (ledger.frozen, ledger.biased, ledger.voted))
    rows = [
        f"{'of ' + format(ledger.content, ',') + ' bytes, ' + format(ledger.symbols, ',') + ' symbols':<34}{'bytes':>14}",
        line("frozen model", frozen),
        line("learned: vocabulary biases", biased - frozen, frozen),
        line("learned: votes of neighbours", voted - biased, frozen),
        line("range coder and ends of lanes", ledger.stream - voted, frozen),
        line("container, blocks not coded", ledger.archive - ledger.stream, frozen),
        line("archive", ledger.archive),
    ]
    return "\n".join(rows)
