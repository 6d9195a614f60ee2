"""`bench`: llmzip beside the other compressors on this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from llmzip.cli.common import options as opt
from llmzip.cli.common.job import settings_of
from llmzip.cli.common.report import report_error
from llmzip.errors import InexactMachineError, LLZError
from llmzip.parameters import DEFAULT_LEVEL, LEVELS
from llmzip.system import streams
from llmzip.system.file_names import STDIO, FileError, display_name
from llmzip.system.input_files import reading
from llmzip.system.output_files import check_absent, writing

if TYPE_CHECKING:
    from llmzip.benchmark.competitors import Contender
    from llmzip.benchmark.report import Report


def _levels(_context: click.Context, _option: click.Parameter, value: str) -> list[int]:
    """Levels, written like 1,6,9."""
    chosen = value.split(",")
    if not all(c.strip().isdecimal() and int(c) in LEVELS for c in chosen):
        raise click.BadParameter(f"{value!r} does not name levels from {min(LEVELS)} to {max(LEVELS)}; write them like 1,6,9")
    return sorted({int(c) for c in chosen})


def _picture(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """The name of a picture; its suffix says what kind it is."""
    if value is not None and not value.lower().endswith((".svg", ".png")):
        raise click.BadParameter(f"{value!r} ends neither in .svg nor in .png")
    return value


@click.command(short_help="Compare with the compressors that are here.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path())
@click.option("--levels", callback=_levels, default=str(DEFAULT_LEVEL), metavar="N,...", show_default=True, help="Levels of llmzip.")
@opt.head
@click.option("--csv", "csv_out", metavar="OUT", type=opt.Output(), help="Also write what was measured as CSV.")
@click.option("--plot", metavar="OUT", type=opt.Output(), callback=_picture,
              help="Also draw size against speed, to OUT.svg or, with matplotlib, OUT.png.")  # fmt: skip
@opt.as_json
@click.option("-f", "--force", is_flag=True, help="Overwrite the outputs.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=600.0, metavar="SECONDS", show_default=True,
              help="What other programs may take each way.")  # fmt: skip
@opt.several_models
@opt.offline
@opt.machine
@opt.loudness
def bench(**given: Any) -> None:
    """Compare llmzip with the compressors that are here: size, speed both ways, and when its model has paid for itself.

    With --model several times, compare the models with each other as well. Each contender compresses every FILE as a whole and restores it; what does not give back the same bytes is not listed.
    """
    try:
        _check_outputs(given)
    except LLZError as e:
        click.echo(f"llmzip: {e}", err=True)
        sys.exit(e.exit_code)
    status, contents = _read(given["files"], given["limit"])
    if not contents:
        sys.exit(status)
    try:
        report = _Bench(given).run(contents)
        click.echo(json.dumps(report.as_dict(), indent=2) if given["as_json"] else report.as_table())
        _write(report, given)
    except LLZError as e:
        click.echo(f"llmzip: {e}", err=True)
        sys.exit(e.exit_code)
    sys.exit(status)


def _check_outputs(given: dict[str, Any]) -> None:
    """Raise FileError for outputs that cannot be written, before minutes of work."""
    for out in (given["csv_out"], given["plot"]):
        if out is not None and out != STDIO:
            check_absent(out, given["force"])
            if not os.path.isdir(os.path.dirname(out) or "."):
                raise FileError(f"{display_name(out)} cannot be written (no such folder); check the folder")
    if (given["plot"] or "").lower().endswith(".png") and importlib.util.find_spec("matplotlib") is None:
        raise FileError(f"{display_name(given['plot'])} needs matplotlib; run: pip install 'llmzip[plot]', or name a .svg file")


def _read(names: tuple[str, ...], limit: int | None) -> tuple[int, dict[str, bytes]]:
    """The exit status, and the contents of the files."""
    status, contents = 0, {}
    for name in dict.fromkeys(names):
        try:
            with reading(name) as source:
                content = streams.read_all(source) if limit is None else streams.read_all(source, limit)
            if not content:
                raise FileError("is empty; name a file with content")
            contents[display_name(name)] = content
        except (LLZError, OSError) as e:
            status = max(status, report_error(name, e))
    return status, contents


class _Bench:
    """All contenders. Models come one after the other, so that the memory needs room for one."""

    def __init__(self, given: dict[str, Any]) -> None:
        """Look for competitors, and say which are missing."""
        from llmzip.benchmark.competitors import find
        from llmzip.benchmark.report import Report

        self._given, self._failed = given, set[str]()
        self._others, absent = find(given["timeout"])
        if absent and not given["quiet"]:
            click.echo(f"llmzip: not here, so not compared: {', '.join(absent)}", err=True)
        self._report = Report({}, given["threads"] or os.cpu_count() or 1)

    def run(self, contents: dict[str, bytes]) -> Report:
        """Measure everything. A competitor that fails is named, and left out from then on."""
        from tqdm import tqdm

        from llmzip.cli.common.job import labels
        from llmzip.models.registry import DEFAULT_MODEL

        models = list(dict.fromkeys(self._given["models"])) or [DEFAULT_MODEL]
        hidden = self._given["quiet"] or not sys.stderr.isatty()
        with tqdm(total=len(contents) * (len(models) * len(self._given["levels"]) + len(self._others)),
                  unit="run", disable=hidden, file=sys.stderr) as bar:  # fmt: skip
            for name, label in labels(models).items():
                self._measure(self._ours(name, label if len(models) > 1 else ""), contents, bar)
            self._measure(self._others, contents, bar)
        self._report.rows.sort(key=lambda row: list(contents).index(row.file))
        return self._report

    def _ours(self, model: str, label: str) -> list[Contender]:
        """llmzip with a model, which is loaded now, at each level."""
        from llmzip.benchmark.measure import llmzip_at, warm_up
        from llmzip.benchmark.report import ModelCost
        from llmzip.codec.codec import Codec
        from llmzip.models import resolve
        from llmzip.models.registry import REGISTRY
        from llmzip.options import Options

        codec = Codec(Options(**settings_of(self._given) | {"model": model}))
        start, cached = warm_up(codec), resolve.find_cached(model)  # None for what starts from nothing
        download = REGISTRY[model].download if model in REGISTRY else None
        cost = ModelCost(label or resolve.archive_id(model), download, cached.size() if cached else 0, start)
        contenders = [llmzip_at(codec, level, label) for level in self._given["levels"]]
        self._report.ours |= {contender.name: cost for contender in contenders}
        return contenders

    def _measure(self, contenders: list[Contender], contents: dict[str, bytes], bar: Any) -> None:
        from llmzip.benchmark.competitors import CompetitorError
        from llmzip.benchmark.measure import measure

        for file, content in contents.items():
            for contender in contenders:
                bar.set_postfix_str(f"{contender.name}, {file}")
                bar.update()
                if contender.name in self._failed:
                    continue
                try:
                    self._report.rows.append(measure(contender, file, content))
                except CompetitorError as e:
                    if contender.name in self._report.ours:
                        raise InexactMachineError(f"{file}: with {contender.name} {e}; please report this") from e
                    self._failed.add(contender.name)
                    click.echo(f"llmzip: {contender.name} is left out: {file}: {e}", err=True)


def _write(report: Report, given: dict[str, Any]) -> None:
    from llmzip.benchmark import plot

    if given["csv_out"] is not None:
        with writing(given["csv_out"], given["force"]) as sink:
            streams.write(sink, report.as_csv().encode())
    if given["plot"] is not None:
        rows, files = report.totals(), list(dict.fromkeys(r.file for r in report.rows))
        what = os.path.basename(files[0]) if len(files) == 1 else f"{len(files)} files"
        title = f"{what}, {rows[0].content:,} bytes: size and speed"
        with writing(given["plot"], given["force"]) as sink:
            if given["plot"].lower().endswith(".png"):
                streams.write(sink, plot.png(rows, list(report.ours), title))
            else:
                streams.write(sink, plot.svg(rows, list(report.ours), title).encode())
