"""`repair`: archives that were made with parity, repaired."""

from __future__ import annotations

import functools
import sys

import click

from llmzip.archive import damage
from llmzip.archive.parity.repair import RepairResult, repair_archive
from llmzip.archive.parity.repair import repair as repaired_archive
from llmzip.cli.common import options as opt
from llmzip.cli.common.job import SUFFIX
from llmzip.cli.common.report import attempt, say
from llmzip.system import streams
from llmzip.system.file_names import STDIO, FileError, display_name
from llmzip.system.input_files import reading
from llmzip.system.output_files import writing


@click.command(short_help="Repair archives that were made with --parity.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path())
@click.option("-c", "--stdout", "to_stdout", is_flag=True, help="Write to standard output.")
@click.option(
    "-o", "--output", metavar="OUT", type=opt.Output(), help="Write to OUT, which may be FILE itself with -f; - is standard output."
)
@click.option("-f", "--force", is_flag=True, help="Overwrite the output; write archives to a terminal.")
@click.option("-q", "--quiet", is_flag=True, help="No messages but errors.")
def repair(files: tuple[str, ...], to_stdout: bool, output: str | None, force: bool, quiet: bool) -> None:
    """Repair each damaged archive FILE.llz that was made with --parity, to FILE.repaired.llz; what is whole is left alone."""
    if output is not None and len(files) > 1:
        raise click.UsageError("-o takes one FILE; use -c, or run once per file.")
    status = 0
    for name in files:
        named = STDIO if to_stdout or (output is None and name == STDIO) else output
        status = max(status, attempt(name, functools.partial(_repair, name, named, force, quiet)))
    sys.exit(status)


def _repair(name: str, out: str | None, force: bool, quiet: bool) -> None:
    """Write the repaired archive to `out`. If that is None, write it only if something was repaired, to a name made from `name`."""
    if out == STDIO and sys.stdout.isatty() and not force:
        raise FileError("will not write an archive to a terminal; use -o, redirect, or -f")
    with reading(name) as source:
        archive = streams.read_all(source)
        result = repair_archive(archive)
        repaired = result.archive if result else repaired_archive(archive)
        changed = repaired != archive
        if out is None and changed:
            out = name.removesuffix(SUFFIX) + f".repaired{SUFFIX}"
        if out is not None:
            with writing(out, force, None if STDIO in (name, out) else source) as sink:
                streams.write(sink, repaired)
    if not quiet:
        say(name, _done(result, changed, out))


def _done(result: RepairResult | None, changed: bool, out: str | None) -> str:
    if result is None or not changed:
        return "is whole" + ("" if result else ", and has no parity")
    where = "" if out == STDIO else f"; the repaired archive is {display_name(str(out))}"
    return (f"{damage.LOST}, and is left out" if result.lost else f"was damaged; {damage.extent(result)}") + where
