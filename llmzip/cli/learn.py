"""`learn`: what a text costs along its way, under models that learn and models that do not."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from llmzip.cli.common import options as opt
from llmzip.cli.common.job import labels, settings_of
from llmzip.cli.common.report import attempt, progress
from llmzip.system import streams
from llmzip.system.file_names import STDIO, FileError, display_name
from llmzip.system.input_files import reading
from llmzip.system.output_files import check_absent, writing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from llmzip.measuring.curves import Curve

_OTHERS = ("gzip", "xz")
_QUARTERS = 4


def _picture(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.lower().endswith((".svg", ".png")):
        raise click.BadParameter(f"{value!r} ends neither in .svg nor in .png")
    return value


@click.command(short_help="What a text costs along its way.")
@click.argument("file", required=False, default=STDIO, type=click.Path())
@opt.levels
@opt.head
@click.option(
    "--parts", type=click.IntRange(2, 10_000), default=40, metavar="N", show_default=True, help="Cut the text into so many parts."
)
@click.option("--csv", "csv_out", metavar="OUT", type=opt.Output(), help="Also write each part's bits, and the bits up to its end, as CSV.")
@click.option(
    "--plot", metavar="OUT", type=opt.Output(), callback=_picture, help="Also draw the curves, to OUT.svg or, with matplotlib, OUT.png."
)
@click.option("-f", "--force", is_flag=True, help="Overwrite the outputs.")
@opt.several_models
@opt.offline
@opt.machine
@opt.loudness
def learn(file: str, **given: Any) -> None:
    """Show what FILE, a text, costs along its way: under each model as it is, under the same while it learns from the text, and by gzip and xz.

    The area under a curve of bits per byte is the size of the archive, so learning is what the curve falls by. One lane is used, so that all of the text
    before a place is known there.
    """
    sys.exit(attempt(file, lambda: _learn(file, given)))


def _learn(file: str, given: dict[str, Any]) -> None:
    for out in (given["csv_out"], given["plot"]):
        if out is not None and out != STDIO:
            check_absent(out, given["force"])
    if (given["plot"] or "").lower().endswith(".png") and importlib.util.find_spec("matplotlib") is None:
        raise FileError(f"{display_name(given['plot'])} needs matplotlib; run: pip install 'llmzip[plot]', or name a .svg file")
    with reading(file) as source:
        content = streams.read_all(source) if given["limit"] is None else streams.read_all(source, given["limit"])
    if len(content) < _QUARTERS:
        raise FileError("is too short to show how it goes on; name a longer file")
    from llmzip.measuring import curves as lib
    from llmzip.measuring import picture

    at = lib.positions(len(content), given["parts"])
    curves = [*_of_models(file, content, given), *_of_others(content, at)]
    click.echo("\n".join(_table(curves, len(content))))
    title = f"{os.path.basename(display_name(file))}, {len(content):,} bytes"
    if given["csv_out"] is not None:
        with writing(given["csv_out"], given["force"]) as sink:
            streams.write(sink, _as_csv(curves, at).encode())
    if given["plot"] is not None:
        with writing(given["plot"], given["force"]) as sink:
            drawn = picture.png(curves, at, title) if given["plot"].lower().endswith(".png") else picture.svg(curves, at, title).encode()
            streams.write(sink, drawn)


def _of_models(file: str, content: bytes, given: dict[str, Any]) -> list[Curve]:
    """Two curves of each model: as it is, and learning. A model that starts from nothing has one."""
    from llmzip.codec.codec import Codec
    from llmzip.measuring.curves import of_model, of_new
    from llmzip.models.registry import DEFAULT_MODEL
    from llmzip.options import Options, is_new
    from llmzip.parameters import FROZEN, LEVELS

    models = list(dict.fromkeys(given["models"])) or [DEFAULT_MODEL]
    curves = []
    for model, label in labels(models).items():
        if is_new(model):
            with progress(file, len(content), given["quiet"]) as report:
                curves.append(of_new(content, label, report))
            continue
        ways = {"frozen": FROZEN, "learning": None} if LEVELS[given["level"]].adapter != FROZEN else {"frozen": FROZEN}
        for way, adapter in ways.items():
            settings = settings_of(given, "level") | {"model": model, "lanes": 1, "adapter": adapter}
            with progress(file, len(content), given["quiet"]) as report:
                curves.append(of_model(Codec(Options(**settings)), content, f"{label}, {way}", report))
    return curves


def _of_others(content: bytes, at: NDArray[np.int64]) -> list[Curve]:
    from llmzip.benchmark.competitors import find
    from llmzip.measuring.curves import of_compressor

    return [of_compressor(c.compress, content, c.name, at) for c in find()[0] if c.name.startswith(_OTHERS)]


def _table(curves: list[Curve], size: int) -> list[str]:
    """Lines: bits per byte of each quarter, the archive, and from where on each curve has spent less than those of other compressors."""
    from llmzip.measuring.curves import overtakes, positions

    quarters, fine = positions(size, _QUARTERS), positions(size, 1000)
    width = max(len(curve.name) for curve in curves)
    lines = [
        f"{'bits/byte by quarter':{width}} "
        + " ".join(f"{'to ' + format(end, ','):>12}" for end in quarters[1:].tolist())
        + f" {'archive':>12}"
    ]
    lines += [f"{c.name:{width}} " + " ".join(f"{r:12.4f}" for r in c.rates(quarters)) + f" {c.archive:12,}" for c in curves]
    smallest = min(curves, key=lambda curve: curve.archive)
    passed = [(c, overtakes(smallest, c, fine)) for c in curves if c is not smallest]
    lines += ["", f"{smallest.name} has spent least; for good"]
    lines += [f"  less than {c.name}: from byte {position:,} on" for c, position in passed if position is not None]
    return lines


def _as_csv(curves: list[Curve], at: NDArray[np.int64]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["curve", "from", "to", "bits", "bits_per_byte", "bits_so_far"])
    for curve in curves:
        spent, rates = curve.spent(at), curve.rates(at)
        for n in range(len(at) - 1):
            writer.writerow([curve.name, at[n], at[n + 1], f"{spent[n + 1] - spent[n]:.3f}", f"{rates[n]:.6f}", f"{spent[n + 1]:.3f}"])
    return out.getvalue()
