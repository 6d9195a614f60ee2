"""`models`: those llmzip knows, and those it has here."""

from __future__ import annotations

import sys

import click

from llmzip.errors import LLZError


@click.group(invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> None:
    """List the models llmzip knows and those it has here."""
    if context.invoked_subcommand:
        return
    from llmzip.models import store
    from llmzip.models.registry import DEFAULT_MODEL, REGISTRY

    cached = {m.model_id: m for m in store.cached_models()}
    for model in REGISTRY.values():
        here = cached.pop(model.model_id, None)
        state = f"cached, {here.size() / 1e6:.0f} MB" if here else f"not cached, {model.download / 1e6:.0f} MB to download"
        default = ", default" if model.model_id == DEFAULT_MODEL else ""
        click.echo(f"{model.model_id}  ({state}{default}, {model.licence})")
    for other in cached.values():
        click.echo(f"{other.model_id}  (cached, {other.size() / 1e6:.0f} MB)")


@models.command("pull")
@click.argument("model_id", metavar="[ID]", required=False)
@click.option("--force", is_flag=True, help="Fetch and convert again.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def models_pull(model_id: str | None, force: bool, quiet: bool) -> None:
    """Fetch, check and convert a model, by default the default one."""
    from llmzip.models import resolve
    from llmzip.models.registry import DEFAULT_MODEL

    try:
        cached = resolve.pull(model_id or DEFAULT_MODEL, quiet, force)
    except LLZError as e:
        click.echo(f"llmzip: {e}", err=True)
        sys.exit(e.exit_code)
    if not quiet:
        click.echo(f"{cached.model_id}: weights {cached.digest.hex()} in {cached.folder}")
