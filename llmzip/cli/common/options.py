"""Options that several commands share."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from llmzip.errors import LLZError
from llmzip.options import AUTO, MOST_JOBS, NEW
from llmzip.parameters import DEFAULT_LEVEL, LEVELS
from llmzip.system.file_names import STDIO, is_standard_output

Command = Callable[..., Any]
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def _size(_context: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    """A size in bytes, written as a number, or with K, M, G, T for powers of 1024."""
    if value is None:
        return None
    if not (match := re.fullmatch(r"(\d{1,15})([KMGT]?)(?:i?B)?", value.strip(), re.IGNORECASE)):
        raise click.BadParameter(f"{value!r} is not a size; write it like 4096, 64K or 10MiB")
    return int(match[1]) * _UNITS[match[2].upper()]


class _Workers(click.IntRange):
    """A number of workers, or "auto", which is 0."""

    name = "workers"

    def __init__(self) -> None:
        super().__init__(0, MOST_JOBS)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        return 0 if value == AUTO else super().convert(value, param, ctx)


def known_models(_context: click.Context, _option: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """For completion: models that have names, else files and folders."""
    from llmzip.models import own_names
    from llmzip.models.registry import REGISTRY

    own: list[str] = []
    with contextlib.suppress(LLZError):  # no cache is readable for this user
        own = list(own_names.listed())
    return [CompletionItem(name) for name in (*REGISTRY, *own) if name.startswith(incomplete)] or [CompletionItem(incomplete, type="file")]


def _models_to_compress_with(context: click.Context, option: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """For completion: `known_models`, and the words that stand for a choice and for a model that starts from nothing."""
    words = [CompletionItem(word) for word in (AUTO, NEW) if incomplete and word.startswith(incomplete)]
    return words or known_models(context, option, incomplete)


def named(context: click.Context, option: click.Parameter, value: Any) -> Any:
    """The models that are named; for `callback`. LLMZIP_MODEL may say auto for the commands that compress; to others that means none."""
    if value == AUTO or (isinstance(value, tuple) and AUTO in value):
        assert option.name
        if context.get_parameter_source(option.name) is not click.core.ParameterSource.ENVIRONMENT:
            raise click.BadParameter(f"{AUTO} chooses a model to compress with; name one here, or none", context, option)
        return () if isinstance(value, tuple) else None
    return value


class _ModelName(click.types.StringParamType):
    """The name of a model. A variable of the environment holds one, whatever characters it has."""

    def split_envvar_value(self, rv: str) -> list[str]:
        """All of it, as one."""
        return [rv]


def _tell(_context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    """Log messages to standard error."""
    if wanted:
        import logging

        logging.basicConfig(format="llmzip: %(message)s")
        logging.getLogger("llmzip").setLevel(logging.INFO)


class Output(click.Path):
    """A file to write. All names that mean standard output become "-"."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The name."""
        name = os.fsdecode(super().convert(value, param, ctx))
        return STDIO if is_standard_output(name) else name


def options(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several decorators as one. Help lists them in this order."""

    def apply(command: Command) -> Command:
        return functools.reduce(lambda c, decorate: decorate(c), reversed(decorators), command)

    return apply


machine = options(
    click.option(
        "-T", "--threads", type=click.IntRange(min=0), metavar="N", envvar="LLMZIP_THREADS",
        help="CPU threads; 0, the default, is all cores. The result is the same.",
    ),
    click.option(
        "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", envvar="LLMZIP_DEVICE", show_default=True,
        help="Where to compute. The result is the same.",
    ),
)  # fmt: skip
workers = click.option(
    "-j", "--workers", "--jobs", "workers", type=_Workers(), metavar="N",
    help="Processes that work side by side, on several files and on the blocks of each; they share the threads. auto: as many as there are "
    "cores, memory and blocks for. 1, or with --cluster as many as fit on it. The result is the same.",
)  # fmt: skip
_address = click.option(
    "--cluster", metavar="ADDRESS",
    help="Let a Ray cluster compute: auto, local (on this machine), HOST:PORT or ray://HOST:PORT. The result is the same.",
)  # fmt: skip
cpus = click.option(
    "--cpus-per-worker",
    "cpus",
    type=click.IntRange(1, 1024),
    default=1,
    metavar="K",
    show_default=True,
    help="CPUs of each worker of a cluster.",
)
gpus = click.option(
    "--gpus-per-worker", "gpus", type=click.FloatRange(0.0, 64.0), default=0.0, metavar="G", help="GPUs of each, or a part of one."
)
_cluster = (_address, cpus, gpus)
cluster = options(*_cluster)
cluster_to_encode = options(
    *_cluster,
    click.option(
        "--cross-check", type=click.IntRange(0, 100), default=0, metavar="PERCENT",
        help="Let another node of the cluster decode this share of the blocks.",
    ),
)  # fmt: skip
loudness = options(
    click.option("-q", "--quiet", is_flag=True, help="No progress, no messages but errors."),
    click.option("-v", "--verbose", is_flag=True, expose_value=False, callback=_tell, help="Say which kernels run, and times."),
)
files = click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path())
targets = options(
    click.option("-c", "--stdout", "to_stdout", is_flag=True, help="Write to standard output."),
    click.option("-o", "--output", metavar="OUT", type=Output(), help="Write to OUT; - is standard output."),
    click.option("-f", "--force", is_flag=True, help="Overwrite the output; write archives to a terminal."),
    click.option("-k", "--keep", is_flag=True, help="Keep FILE; the default, for scripts that say so."),
    click.option("--rm", "remove", is_flag=True, help="Delete FILE at last, if it was proven that the archive gives it back."),
)
_WHICH = "Registry ID, name given with `models add`, hf:OWNER/NAME@REVISION, or path of a .gguf file or a safetensors folder"
model = click.option(
    "--model", metavar="ID", envvar="LLMZIP_MODEL", shell_complete=_models_to_compress_with,
    help=f"{_WHICH}; {AUTO}: of the cached models, the one that makes FILE smallest; {NEW}: none, a network learns FILE from nothing.",
)  # fmt: skip
one_model = click.option("--model", metavar="ID", envvar="LLMZIP_MODEL", callback=named, shell_complete=known_models, help=f"{_WHICH}.")
several_models = click.option(
    "--model", "models", metavar="ID", envvar="LLMZIP_MODEL", type=_ModelName(), multiple=True, callback=named, shell_complete=known_models,
    help=f"{_WHICH}; several times, to see models side by side.",
)  # fmt: skip
model_place = click.option(
    "--model", metavar="PATH", envvar="LLMZIP_MODEL", type=click.Path(), callback=named,
    help="Where to find the model, if it is not in the registry.",
)  # fmt: skip
offline = click.option("--offline", is_flag=True, help="Never use the network, as with LLMZIP_OFFLINE=1: a missing model is an error.")
lanes = click.option("--lanes", type=int, metavar="N", help="Parallel streams; by default chosen from the size and level.")
block_size = click.option(
    "--block-size", "block_bytes", callback=_size, metavar="SIZE",
    help="Most content of one block, e.g. 256K; by default 1M, and 4M at -9. Smaller blocks give more --workers something to do, and make the archive larger.",
)  # fmt: skip
parity = click.option(
    "--parity", type=int, metavar="PERCENT",
    help="Add what `repair` needs to restore the archive when up to PERCENT of it is lost in one piece.",
)  # fmt: skip
max_output = click.option("--max-output", callback=_size, metavar="SIZE", help="Refuse archives that hold more, e.g. 10M.")
part = click.option(
    "--bytes",
    "limit",
    callback=_size,
    default="100000",
    metavar="SIZE",
    show_default=True,
    help="Inspect at most so much of FILE, e.g. 2M.",
)
colour = click.option(
    "--color", "--colour", "colour", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True,
    help="Colours in the output; auto is for terminals, unless NO_COLOR is set.",
)  # fmt: skip
head = click.option("--bytes", "limit", callback=_size, metavar="SIZE", help="Take only the first SIZE bytes of each file, e.g. 100K.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def levels(command: Command) -> Command:
    """Options -1 to -9; the last one given counts."""
    for level in reversed(LEVELS):
        words = {min(LEVELS): "Fastest, frozen model.", max(LEVELS): "Smallest, slow; needs more memory."}
        default = "From -1 to -9 ever smaller and slower; this is the default." if level == DEFAULT_LEVEL else None
        help_text = words.get(level) or default
        flag = click.option(
            f"-{level}", "level", flag_value=level, type=int, default=DEFAULT_LEVEL, help=help_text, hidden=help_text is None
        )
        command = flag(command)
    return command


verify = click.option("--verify", is_flag=True, help="Decode each archive again and compare before it gets its name.")
resume = click.option(
    "--resume", is_flag=True,
    help="Write to OUT.part until it is complete, and go on with what an interrupted run left there; the result is the same.",
)  # fmt: skip
corpus = options(
    click.option(
        "-r", "--recursive", is_flag=True,
        help="FILE is a folder, and so is OUT: an archive for each file, folders mirrored, and OUT/manifest.jsonl. What is done already is skipped. "
        "Both may be URLs that fsspec knows, as s3://BUCKET/FOLDER.",
    ),
    click.option("--files-from", "listed", metavar="LIST", help="The same for the files that LIST names, one a line; - is standard input."),
)  # fmt: skip
explain = click.option("--explain", is_flag=True, help="Say where the bits went, on standard error; takes a little longer.")
salvage = click.option(
    "--salvage", is_flag=True, help="Write what is left of a damaged archive, and say what is missing; exit status 1 if anything is."
)
