"""What commands print on standard error: errors, remarks, progress."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

import click

from llmzip.errors import LLZError, ParameterError
from llmzip.system.file_names import display_name

_WIDTH = 80


def report_error(name: str, error: LLZError | OSError) -> int:
    """Print one line about what went wrong with a file; return the exit code."""
    if isinstance(error, LLZError):
        say(name, str(error))
        return error.exit_code
    say(name, f"{(error.strerror or str(error)).lower()}; check the file and its folder")
    return 1


def say(name: str, what: str) -> None:
    """Print a line about the file `name` on standard error."""
    click.echo(f"llmzip: {display_name(name)}: {what}", err=True)


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


@contextlib.contextmanager
def progress(
    name: str, size: int | None, quiet: bool, workers: Callable[[], int | None] = lambda: None
) -> Iterator[Callable[[int, int], None]]:  # fmt: skip
    """A progress bar on standard error, if that is a terminal. Yield a function to call with the bytes done and written so far.

    Args:
        name: of the file.
        size: bytes that there are to do; None if that is not known.
        quiet: Whether to show none.
        workers: gives how many workers of a cluster there are now; None if there is none.
    """
    from tqdm import tqdm

    hidden = quiet or not sys.stderr.isatty()
    what = display_name(os.path.basename(name))
    with tqdm(total=size, desc=what, unit="B", unit_scale=True, disable=hidden, ncols=_columns(), file=sys.stderr) as bar:

        def report(done: int, written: int) -> None:
            alive = workers()
            words = [f"ratio {done / written:.2f}"] if written > 100 else []
            words += [] if alive is None else [f"{alive} workers"]
            if words:
                bar.set_postfix_str(", ".join(words), refresh=False)  # `update` decides when to redraw
            bar.update(max(0, done - bar.n))  # what is done side by side does not count twice

        yield report


def _columns() -> int | None:
    """Width of a bar for a terminal that does not tell its width; None for one that does."""
    with contextlib.suppress(OSError, ValueError):
        return None if os.get_terminal_size(sys.stderr.fileno()).columns else _WIDTH
    return None
