"""`completion`: what a shell needs to complete commands, options and file names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(short_help="Print what a shell needs to complete.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a completion script.

    In ~/.bashrc: eval "$(llmzip completion bash)"; the same with zsh in ~/.zshrc, after compinit; in fish's config.fish: llmzip
    completion fish | source.
    """
    made = get_completion_class(shell)
    assert made is not None
    script = made(click.get_current_context().find_root().command, {}, "llmzip", "_LLMZIP_COMPLETE").source()
    click.echo(script.replace('(string split "," ', '(string split -m 1 "," '))  # fish: descriptions have commas, too
