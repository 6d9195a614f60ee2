"""`llmzip` itself: finds the command, or treats its arguments as gzip and xz would."""

from __future__ import annotations

import contextlib
import importlib
import signal
import sys
from collections.abc import Iterator
from typing import Any

import click
from click.shell_completion import CompletionItem

from llmzip import __version__
from llmzip.archive import records
from llmzip.system import signals
from llmzip.system.file_names import display_name

_COMMANDS = {
    "compress": "compress:compress",
    "decompress": "decompress:decompress",
    "test": "test:test",
    "repair": "repair:repair",
    "list": "list:list_archives",
    "info": "info:info",
    "message": "message:message",
    "inspect": "inspect:inspect",
    "models": "models:models",
    "bench": "bench:bench",
    "measure": "measure:measure",
    "learn": "learn:learn",
    "cluster": "cluster:cluster",
    "warmup": "warmup:warmup",
    "completion": "completion:completion",
}
_CLASSIC = "classic:classic"
_NO_MEMORY = ("allocate memory", "out of memory")  # in torch's words
_VERSION = f"%(prog)s %(version)s (format {records.FORMAT_VERSION}, arithmetic {records.ARITHMETIC_VERSION})"


@contextlib.contextmanager
def _last_resort() -> Iterator[None]:
    """End the program for errors that no command handles: of standard output, wherever it is written, and lack of memory."""
    try:
        yield
    except BrokenPipeError:  # the reader has closed the pipe
        if hasattr(signal, "SIGPIPE"):
            signals.die_of(signal.SIGPIPE)  # as programs end that do not handle this
        sys.exit(1)
    except OSError as e:
        click.echo(
            f"llmzip: {display_name(str(e.filename)) if e.filename else 'standard output'}: {(e.strerror or str(e)).lower()}", err=True
        )
        sys.exit(1)
    except (MemoryError, RuntimeError) as e:
        if not isinstance(e, MemoryError) and not any(words in str(e) for words in _NO_MEMORY):
            raise
        click.echo("llmzip: not enough memory; free some, or use fewer --lanes or a lower level", err=True)
        sys.exit(1)
    except (ImportError, SystemError) as e:  # libraries take hundreds of megabytes
        click.echo(f"llmzip: a library cannot be loaded ({e}); free memory, or install llmzip again", err=True)
        sys.exit(1)


class _Commands(click.Group):
    """Imports the module of a command when it is needed. Anything that is no command is for the classic command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = _CLASSIC if cmd_name == "classic" else _COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(importlib.import_module(f"llmzip.cli.{module}"), attribute)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return ("" if name == "classic" else name), command, rest  # messages must not show a name that nobody typed

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete commands, or else options and files of the classic command."""
        found = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            classic = self.get_command(ctx, "classic")
            assert classic is not None
            more = classic.shell_complete(click.Context(classic, parent=ctx), incomplete)
            return [*found, *(item for item in more if item.value not in {own.value for own in found})]
        return found or [CompletionItem(incomplete, type="file")]

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _last_resort():  # help is written here
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _last_resort():
            return super().invoke(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = [name for p in self.get_params(ctx) for name in p.opts]
        if not args and ctx.resilient_parsing:  # completing a command's name
            return super().parse_args(ctx, args)
        if not args and sys.stdin.isatty():
            args = ["--help"]
        if not args or (args[0] not in _COMMANDS and args[0] not in own):
            args = ["classic", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    subcommand_metavar="COMMAND [ARGS]...  or as gzip: [-d|-t|-l] [OPTIONS] [FILE]...",
    epilog="Without a command: -d decompresses, -t tests, -l lists, else FILE is compressed; no FILE, or -, is standard input. "
    "Exit status: 0 done, 1 error, 2 usage, 3 the model is missing or this machine cannot reproduce the archive.",
)
@click.version_option(__version__, "--version", "-V", prog_name="llmzip", message=_VERSION)
def main() -> None:
    """Compress text with a language model, losslessly; archives decode on every machine."""
