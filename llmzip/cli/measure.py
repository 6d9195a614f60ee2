"""`measure`: how many bits models take for documents."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from llmzip.cli.common import options as opt
from llmzip.cli.common.job import labels, settings_of
from llmzip.cli.common.report import attempt
from llmzip.errors import LLZError
from llmzip.system import streams
from llmzip.system.file_names import STDIO
from llmzip.system.output_files import check_absent, writing

if TYPE_CHECKING:
    from llmzip.measuring.documents import Document
    from llmzip.measuring.figures import Figure


@click.command(short_help="Bits that models take for documents.")
@click.argument("data", metavar="DATA...", nargs=-1, required=True, type=click.Path())
@click.option(
    "--field", default="text", metavar="NAME", show_default=True, help="Field of JSON lines, or column of Parquet, that has the text."
)
@click.option("--group", metavar="NAME", help="Field or column by which to sum up as well.")
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Measure N of the documents, drawn at random.")
@click.option("--seed", type=int, default=0, metavar="S", show_default=True, help="Of what is drawn at random.")
@click.option(
    "--certify", type=click.FloatRange(0, 100), default=0.0, metavar="PERCENT", help="Decode this share of the documents, and compare."
)
@click.option("--frozen", is_flag=True, help="Let nothing learn: each document under the model as it is.")
@click.option("--predictor", "predictors", multiple=True, metavar="FILE.py:NAME",
              help="Measure a predictor of your own, beside the models or alone; the file is run.")  # fmt: skip
@click.option("--differences", type=click.IntRange(min=0), default=10, metavar="N", show_default=True,
              help="With two models, list so many documents of which they differ most.")  # fmt: skip
@opt.as_json
@click.option("--csv", "csv_out", metavar="OUT", type=opt.Output(), help="Also write a line for each document as CSV.")
@click.option("-f", "--force", is_flag=True, help="Overwrite the output.")
@opt.levels
@opt.lanes
@opt.several_models
@opt.offline
@opt.machine
@opt.loudness
def measure(**given: Any) -> None:
    """Measure how many bits a model takes for each document of DATA, and with --model several times compare models.

    DATA are files, folders, JSON lines (.jsonl, .ndjson) and Parquet (.parquet). Each document is coded for itself, in one lane unless --lanes says
    more, and its bits are those of a bitstream that decodes, without any container. Documents that cannot be read are named and left out.
    """
    status = 0

    def do() -> None:
        nonlocal status
        status = _measure(given)

    code = attempt(given["data"][0] if len(given["data"]) == 1 else "DATA", do)
    sys.exit(max(status, code))


def _measure(given: dict[str, Any]) -> int:
    """The exit status: 1 if a document was left out."""
    from llmzip.measuring.predictors import figure, load
    from llmzip.measuring.report import Report
    from llmzip.models.registry import DEFAULT_MODEL

    out = given["csv_out"]
    if out is not None and out != STDIO:
        check_absent(out, given["force"])
    found, unreadable = _read(given)
    if not found:
        raise LLZError("no document can be read; name files that have text")
    models = list(dict.fromkeys(given["models"]))
    if not models and not given["predictors"]:
        models = [DEFAULT_MODEL]
    own = {name: load(name) for name in dict.fromkeys(given["predictors"])}
    certified = _certified(len(found), given)
    named = labels(models)
    settings = {
        "level": given["level"],
        "lanes": given["lanes"] or 1,
        "frozen": given["frozen"],
        "sample": given["sample"],
        "seed": given["seed"],
    }
    report = Report({}, unreadable, settings, given["seed"])
    for model in models:
        report.figures[named[model]] = _figures(model, found, certified, given)
    for name, make in own.items():
        report.figures[name] = [figure(document, make) for document in _shown(found, given)]
    click.echo(json.dumps(report.as_dict(), indent=2) if given["as_json"] else report.as_table(given["differences"]))
    if out is not None:
        with writing(out, given["force"]) as sink:
            streams.write(sink, report.as_csv().encode())
    return 1 if unreadable else 0


def _read(given: dict[str, Any]) -> tuple[list[Document], list[str]]:
    """The documents to measure, and what is said of those that cannot be read."""
    from llmzip.measuring.documents import Document, documents

    found, unreadable = list[Document](), list[str]()
    for one in documents(list(given["data"]), given["field"], given["group"]):
        if isinstance(one, Document):
            found.append(one)
        else:
            unreadable.append(str(one))
            click.echo(f"llmzip: {one}", err=True)
    if unreadable:
        click.echo(f"llmzip: documents left out: {len(unreadable):,} of {len(found) + len(unreadable):,}", err=True)
    if given["sample"] is not None and given["sample"] < len(found):
        found = [found[n] for n in sorted(_drawn(len(found), given["sample"], given["seed"]))]
    return found, unreadable


def _certified(documents: int, given: dict[str, Any]) -> set[int]:
    """Numbers of the documents to decode: the share that is asked for, at least one if it is above 0."""
    return _drawn(documents, math.ceil(documents * given["certify"] / 100), given["seed"] + 1)


def _drawn(documents: int, many: int, seed: int) -> set[int]:
    import numpy as np

    return set(np.random.default_rng(seed).choice(documents, many, replace=False).tolist())


def _figures(model: str, found: list[Document], certified: set[int], given: dict[str, Any]) -> list[Figure]:
    """What each document costs under a model, which is loaded now."""
    from llmzip.measuring.figures import Measurer
    from llmzip.options import Options
    from llmzip.parameters import FROZEN

    settings = settings_of(given, "level") | {"model": model, "lanes": given["lanes"] or 1}
    measurer = Measurer(Options(**settings, adapter=FROZEN if given["frozen"] else None))
    return [measurer.figure(document, number in certified) for number, document in enumerate(_shown(found, given))]


def _shown(found: list[Document], given: dict[str, Any]) -> Iterator[Document]:
    """The documents, with a progress bar that knows how far one is."""
    from tqdm import tqdm

    hidden = given["quiet"] or not sys.stderr.isatty()
    with tqdm(total=sum(len(d.content) for d in found), unit="B", unit_scale=True, disable=hidden, file=sys.stderr) as bar:
        for document in found:
            bar.set_postfix_str(document.name, refresh=False)
            yield document
            bar.update(len(document.content))
