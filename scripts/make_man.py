"""Makes the manual page docs/llmzip.1 from the commands' help, or checks that it is current.

    python scripts/make_man.py [--check]

Read it with: man -l docs/llmzip.1
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from llmzip import __version__
from llmzip.cli import main as llmzip
from llmzip.cli.classic import classic

PAGE = Path(__file__).parent.parent / "docs" / "llmzip.1"

_ENVIRONMENT = {
    "LLMZIP_MODEL": "The model to compress with, or where to find one; as --model.",
    "LLMZIP_CACHE": "Where converted models are kept, instead of the platform's folder for caches. A folder that can only be read will do if the models are "
    "there.",
    "NUMBA_CACHE_DIR": "Where compiled code is kept, instead of beside the program or in the platform's folder for caches.",
    "LLMZIP_DEVICE": "Where to compute: auto, cpu or cuda; as --device.",
    "LLMZIP_THREADS": "CPU threads; as --threads.",
    "LLMZIP_AMX": "If 0, products never use AMX, the tiles of some Intel processors. Archives are the same.",
    "LLMZIP_OFFLINE": "If set, and not to 0, the network is never used; as --offline.",
    "NO_COLOR": "If set, nothing is coloured.",
}
_STATUS = {
    "0": "All done.",
    "1": "An error: a file cannot be read or written, an archive is damaged.",
    "2": "Wrong usage.",
    "3": "The model is missing or another one, or this machine cannot reproduce the archive.",
    "130, 143, ...": "As the shell gives it for a program that a signal ended, here by Ctrl-C or kill; 141 if the reader of standard output left.",
}
_FILES = {
    ".llmzip-*": "What is being written, beside what it will be. It goes when the program ends; only after kill -9 or a power cut may one stay, "
    "which may be deleted.",
    "OUT.part": "What --resume has written so far.",
    "OUT/manifest.jsonl": "What compress -r and --files-from have done: a line of JSON for each file.",
}


def roff(text: str) -> str:
    """Text, escaped so that roff shows it unchanged."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line[:1] in (".", "'") else line for line in text.splitlines())


def terms(pairs: dict[str, str]) -> list[str]:
    """A list of terms and what they mean."""
    return [line for term, meaning in pairs.items() for line in (".TP", f".B {roff(term)}", roff(meaning))]


def options(command: click.Command, context: click.Context) -> list[str]:
    """The options of a command."""
    records = [r for p in command.get_params(context) if isinstance(p, click.Option) and (r := p.get_help_record(context))]
    return terms({term: " ".join(meaning.split()) for term, meaning in records})


def section(command: click.Command, name: str, parent: click.Context | None) -> list[str]:
    """A command, and the commands inside it."""
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f".SS {roff(context.command_path)} {roff(usage)}", roff(" ".join((command.help or "").split())), *options(command, context)]
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            if found is not None and not found.hidden:
                lines += section(found, inner, context)
    return lines


def page() -> str:
    """The whole page."""
    context = click.Context(llmzip, info_name="llmzip")
    assert isinstance(llmzip, click.Group)
    lines = [
        f'.TH LLMZIP 1 "" "llmzip {__version__}" "User Commands"',
        ".SH NAME",
        "llmzip \\- compress text with a language model, losslessly",
        ".SH SYNOPSIS",
        ".B llmzip",
        "[\\-d|\\-t|\\-l] [OPTIONS] [FILE]...",
        ".br",
        ".B llmzip",
        "COMMAND [ARGS]...",
        ".SH DESCRIPTION",
        roff(" ".join((llmzip.help or "").split())),
        roff(
            "Without a command, FILE is compressed to FILE.llz and kept; -d restores it. With no FILE, or when it is -, standard input goes to standard output."
        ),
        roff("A file named like a command is written ./NAME."),
        ".SH OPTIONS",
        *options(classic, click.Context(classic, info_name="llmzip")),
        *options(llmzip, context),
        ".SH COMMANDS",
    ]
    for name in llmzip.list_commands(context):
        command = llmzip.get_command(context, name)
        assert command is not None
        lines += section(command, name, context)
    lines += [".SH ENVIRONMENT", *terms(_ENVIRONMENT), ".SH EXIT STATUS", *terms(_STATUS)]
    lines += [".SH FILES", *terms(_FILES)]
    lines += [".SH SEE ALSO", "gzip(1), xz(1), zstd(1), tar(1)"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Writes the page, or checks that it is current."""
    if "--check" in sys.argv:
        if PAGE.read_text("ascii") != page():
            raise SystemExit(f"{PAGE} is not current; run scripts/make_man.py")
    else:
        PAGE.write_text(page(), "ascii")


if __name__ == "__main__":
    main()
