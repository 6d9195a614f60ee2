"""The command line: parses, calls the library, reports."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import click

from llmzip import __version__, container
from llmzip.container import CodedBlock, EndRecord, ModelRecord, StoredBlock, XzBlock
from llmzip.errors import LLZError, ParameterError
from llmzip.files import STDIO, FileError, check_absent, reading, writing
from llmzip.parameters import DEFAULT_LEVEL, LEVELS, AdapterParameters

SUFFIX = ".llz"
_VERSION = f"%(prog)s %(version)s (format {container.FORMAT_VERSION}, arithmetic {container.ARITHMETIC_VERSION})"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", "-V", prog_name="llmzip", message=_VERSION)
def main() -> None:
    """Compress text with a language model, losslessly; archives decode on every machine."""
    for name in ("SIGTERM", "SIGHUP"):  # unwind, so that temporary files go
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: sys.exit(1))


def _tell(_context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    """Log messages to standard error."""
    if wanted:
        import logging

        logging.basicConfig(format="llmzip: %(message)s")
        logging.getLogger("llmzip").setLevel(logging.INFO)


def _machine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.argument("files", metavar="[FILE]...", nargs=-1),
        click.option("-q", "--quiet", is_flag=True, help="No progress, no messages but errors."),
        click.option("-v", "--verbose", is_flag=True, expose_value=False, callback=_tell, help="Say which kernels run, and times."),
        click.option(
            "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", envvar="LLMZIP_DEVICE",
            show_default=True, help="Where to compute; the result is the same.",
        ),
        click.option(
            "--threads", type=int, metavar="N", envvar="LLMZIP_THREADS",
            help="CPU threads, by default all cores; the result is the same.",
        ),
        click.option("-f", "--force", is_flag=True, help="Overwrite the output; write archives to a terminal."),
        click.option("-c", "--stdout", "to_stdout", is_flag=True, help="Write to standard output."),
        click.option("-o", "--output", metavar="OUT", help="Write to OUT; - is standard output."),
    ):  # fmt: skip
        command = option(command)
    return command


def _levels(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options -1 to -9; the last one given counts."""
    for level in LEVELS:
        words = {min(LEVELS): "Fastest, frozen model.", max(LEVELS): "Smallest, slow; needs more memory."}
        default = f"From there to here ever smaller and slower; the default is -{DEFAULT_LEVEL}." if level == DEFAULT_LEVEL else None
        help_text = words.get(level) or default
        flag = click.option(
            f"-{level}", "level", flag_value=level, type=int, default=DEFAULT_LEVEL, help=help_text, hidden=help_text is None
        )
        command = flag(command)
    return command


@main.command()
@_machine_options
@click.option(
    "--model", metavar="ID", envvar="LLMZIP_MODEL",
    help="Registry ID, hf:OWNER/NAME@REVISION, or path of a .gguf file or a safetensors folder.",
)  # fmt: skip
@click.option("--lanes", type=int, metavar="N", help="Parallel streams; by default chosen from the size and level.")
@_levels
@click.option("--explain", is_flag=True, help="Say where the bits went, on standard error; takes a little longer.")
def compress(
    files: tuple[str, ...], output: str | None, to_stdout: bool, force: bool, threads: int | None, device: str,
    quiet: bool, model: str | None, lanes: int | None, level: int, explain: bool,
) -> None:  # fmt: skip
    """Compress each FILE to FILE.llz and keep it; with no FILE, or -, standard input to standard output."""

    def target(name: str) -> str:
        return name + SUFFIX

    settings = {
        "model": model, "lanes": lanes, "level": level, "threads": threads, "device": device, "quiet": quiet, "explain": explain,
    }  # fmt: skip
    _run("compress", files, output, to_stdout, force, target, settings)


@main.command()
@_machine_options
@click.option("--model", metavar="PATH", envvar="LLMZIP_MODEL", help="Where to find the model, if it is not in the registry.")
def decompress(
    files: tuple[str, ...], output: str | None, to_stdout: bool, force: bool, threads: int | None, device: str,
    quiet: bool, model: str | None,
) -> None:  # fmt: skip
    """Restore FILE from each FILE.llz and keep the archive; with no FILE, or -, standard input to standard output."""

    def target(name: str) -> str:
        if not name.endswith(SUFFIX) or len(os.path.basename(name)) == len(SUFFIX):
            raise FileError(f"does not end in {SUFFIX}; name the output with -o, or use -c")
        return name[: -len(SUFFIX)]

    settings = {"model": model, "threads": threads, "device": device, "quiet": quiet}
    _run("decompress", files, output, to_stdout, force, target, settings)


def _run(
    action: str, files: tuple[str, ...], output: str | None, to_stdout: bool, force: bool,
    target: Callable[[str], str], settings: dict[str, Any],
) -> None:  # fmt: skip
    """Runs `action` over the files with one codec; an error in one does not stop the others."""
    names = files or (STDIO,)
    if output is not None and len(names) > 1:
        raise click.UsageError("-o takes one FILE; use -c, or run once per file.")
    status = 0
    codec = None
    for name in names:
        try:
            if to_stdout or output == STDIO or (output is None and name == STDIO):
                out = STDIO
            else:
                out = output if output is not None else target(name)
                check_absent(out, force)
            if action == "compress" and out == STDIO and sys.stdout.isatty() and not force:
                raise FileError("will not write an archive to a terminal; use -o, redirect, or -f")
            with reading(name) as source:
                if codec is None:
                    from llmzip.codec import Codec, Options

                    codec = Codec(Options(**settings))
                with writing(out, force, None if name == STDIO or out == STDIO else name) as sink:
                    _stream(action, codec, name, source, sink, settings["quiet"])
        except ParameterError as e:
            raise click.UsageError(str(e)) from e
        except LLZError as e:
            status = max(status, e.exit_code)
            click.echo(f"llmzip: {'standard input' if name == STDIO else name}: {e}", err=True)
        except BrokenPipeError:  # the reader has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except KeyboardInterrupt:
            click.echo("llmzip: interrupted", err=True)
            sys.exit(130)
        except OSError as e:
            status = max(status, 1)
            click.echo(f"llmzip: {name}: {(e.strerror or str(e)).lower()}; check the file and its folder", err=True)
    if codec is not None and codec.ledger is not None:
        click.echo(_explain(codec.ledger), err=True)
    sys.exit(status)


def _explain(ledger: Any) -> str:
    """Where the bits of the coded blocks went, as a table."""

    def line(what: str, size: float, of: float = 0.0) -> str:
        return f"{what:<34}{size:>14,.1f}" + (f"{100 * size / of:>+9.2f}%" if of else "")

    frozen, biased, voted = (bits / 8 for bits in (ledger.frozen, ledger.biased, ledger.voted))
    rows = [
        f"{'of ' + format(ledger.content, ',') + ' bytes, ' + format(ledger.symbols, ',') + ' symbols':<34}{'bytes':>14}",
        line("frozen model", frozen),
        line("learned: vocabulary biases", biased - frozen, frozen),
        line("learned: votes of neighbours", voted - biased, frozen),
        line("range coder and ends of lanes", ledger.stream - voted, frozen),
        line("container, blocks not coded", ledger.archive - ledger.stream, frozen),
        line("archive", ledger.archive),
    ]
    return "\n".join(rows)


def _stream(action: str, codec: Any, name: str, source: BinaryIO, sink: BinaryIO, quiet: bool) -> None:
    from tqdm import tqdm

    size = None
    if name != STDIO:
        size = os.stat(name).st_size if action == "compress" else _content_size(name)
    hidden = quiet or not sys.stderr.isatty()
    with tqdm(total=size, desc=os.path.basename(name), unit="B", unit_scale=True, disable=hidden, file=sys.stderr) as bar:

        def report(done: int, written: int) -> None:
            bar.update(done - bar.n)
            if written > 100:
                bar.set_postfix_str(f"ratio {done / written:.2f}")

        if action == "compress":
            codec.compress_stream(source, sink, report)
        else:
            codec.decompress_stream(source, sink, report)


def _content_size(name: str) -> int | None:
    """What the archive says it holds; None if it is damaged (decoding will tell)."""
    try:
        with open(name, "rb") as source:
            return sum(r.size for frame in container.read_frames(source) for r in frame if isinstance(r, EndRecord))
    except (OSError, LLZError):
        return None


@main.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
def info(files: tuple[str, ...]) -> None:
    """Print what each archive says of itself: model, hashes, sizes, lanes, ratio."""
    status = 0
    for name in files:
        try:
            with reading(name) as source:
                lines = _describe(source)
            click.echo("\n".join([f"{name}:", *(f"  {key + ':':<14}{value}" for key, value in lines)]))
        except LLZError as e:
            status = max(status, e.exit_code)
            click.echo(f"llmzip: {name}: {e}", err=True)
    sys.exit(status)


def _learned(a: AdapterParameters) -> str:
    parts = []
    if a.bias:
        parts.append(f"biases (rate {a.bias.rate}/16, prior {a.bias.prior})")
    if a.neighbours:
        parts.append(f"neighbours (of {1 << a.neighbours.capacity_bits}, sharpness {a.neighbours.sharpness})")
    return f"{', '.join(parts)}; every {a.round_symbols} symbols" if parts else "nothing"


def _describe(source: BinaryIO) -> list[tuple[str, str]]:
    frames = coded = stored = packed = size = symbols = 0
    lanes: list[int] = []
    models: list[ModelRecord] = []
    archive = 0
    for frame in container.read_frames(source):
        frames += 1
        archive += len(container.frame_start())
        for record in frame:
            archive += len(container.encode_record(record))
            if isinstance(record, ModelRecord):
                models.append(record)
            elif isinstance(record, CodedBlock):
                coded, symbols = coded + 1, symbols + record.symbols
                lanes.append(record.lanes)
            elif isinstance(record, StoredBlock):
                stored += 1
            elif isinstance(record, XzBlock):
                packed += 1
            else:
                size += record.size
    lines = [("format", f"version {container.FORMAT_VERSION}, {frames} frame{'s' if frames != 1 else ''}")]
    for m in dict.fromkeys(models):
        lines += [
            ("model", m.model_id),
            ("weights", m.digest.hex()),
            ("tokenizer", m.tokenizer.hex()),
            ("parameters", f"arithmetic {m.arithmetic}, window {m.window}{'' if m.near else ' for all heads'}, sinks {m.sinks}"),
            ("learned", _learned(m.adapter)),
        ]
    lines += [
        ("blocks", f"{coded} coded, {packed} xz, {stored} stored"),
        ("lanes", ", ".join(map(str, lanes[:8])) + (", ..." if len(lanes) > 8 else "") or "-"),
        ("symbols", str(symbols)),
        ("content", f"{size} bytes"),
        ("archive", f"{archive} bytes"),
    ]
    if size:
        lines.append(("ratio", f"{size / archive:.3f} ({8 * archive / size:.4f} bits per byte)"))
    return lines


@main.group(invoke_without_command=True)
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
