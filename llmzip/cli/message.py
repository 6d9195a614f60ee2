"""`message`: short texts in as few characters as possible, without a container."""

from __future__ import annotations

import os
import re
import sys
from typing import Any, BinaryIO

import click

from llmzip.cli.common import options as opt
from llmzip.cli.common.report import report_error
from llmzip.errors import DamagedMessageError, LLZError, ParameterError
from llmzip.message import text_forms
from llmzip.system import streams
from llmzip.system.file_names import STDIO
from llmzip.system.input_files import reading
from llmzip.system.output_files import writing


class _Message(click.Command):
    """When decoding, an argument that begins with a dash and is no option is a message: base64url may begin with one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if any(a == "--decode" or (self._is_option(a) and re.match("-n*d", a)) for a in args):
            args = [a if self._is_option(a) else f" {a}" for a in args]  # white space in messages is ignored
        return super().parse_args(ctx, args)

    def _is_option(self, arg: str) -> bool:
        long = {name for p in self.params for name in p.opts} | {"--", "--help"}
        return not arg.startswith("-") or arg.partition("=")[0] in long or bool(re.fullmatch(r"-[dn]*(h|T\d*)?", arg))


@click.command(cls=_Message, short_help="Short texts in as few characters as can be.")
@click.argument("text", nargs=-1)
@click.option("-d", "--decode", is_flag=True, help="From message to text.")
@click.option(
    "--format",
    "form",
    type=click.Choice([*text_forms.TEXT_FORMS, "raw"]),
    default="base64url",
    show_default=True,
    help="How the message is written; raw is bytes.",
)
@click.option("--lines", is_flag=True, help="A message on each line of standard input, or a TEXT each.")
@click.option("-n", "--exact", is_flag=True, help="Take and write line breaks at the end as they are.")
@opt.one_model
@opt.offline
@opt.machine
def message(text: tuple[str, ...], decode: bool, form: str, lines: bool, exact: bool, **given: Any) -> None:
    """Print a short form of TEXT, or of standard input; with -d the text again, or an error if a character is wrong.

    Both sides need the same model. A line break at the end of standard input is not part of the message.
    """
    if form == "raw" and lines:
        raise click.UsageError("raw messages have no lines; choose another --format.")
    if form == "raw" and not decode and sys.stdout.isatty():
        raise click.UsageError("will not write raw bytes to a terminal; redirect, or choose another --format.")
    given["threads"] = given["threads"] or None
    try:
        inputs = _inputs(text, lines, exact, raw=decode and form == "raw")
        with writing(STDIO, force=False) as sink:
            status = _decode(inputs, sink, form, lines, exact, given) if decode else _encode(inputs, sink, form, given)
    except ParameterError as e:
        raise click.UsageError(str(e)) from e
    except LLZError as e:
        status = report_error("message", e)
    sys.exit(status)


def _inputs(text: tuple[str, ...], lines: bool, exact: bool, raw: bool) -> list[bytes]:
    if text:
        words = [os.fsencode(t) for t in text]
        return words if lines else [b" ".join(words)]
    with reading(STDIO) as source:
        data = streams.read_all(source)
    if lines:
        found = [line.removesuffix(b"\r") for line in data.split(b"\n")]
        return found if found[-1] else found[:-1]
    if raw or exact:
        return [data]
    return [data.removesuffix(b"\n").removesuffix(b"\r")]


def _encode(texts: list[bytes], sink: BinaryIO, form: str, given: dict[str, Any]) -> int:
    from llmzip.message.message_codec import MessageCodec
    from llmzip.options import Options

    for made in MessageCodec(Options(quiet=False, **given)).encode(texts):
        streams.write(sink, made if form == "raw" else text_forms.write(made, form).encode() + b"\n")
    return 0


def _decode(inputs: list[bytes], sink: BinaryIO, form: str, lines: bool, exact: bool, given: dict[str, Any]) -> int:
    from llmzip.message.message_codec import MessageCodec
    from llmzip.options import Options

    messages = [data if form == "raw" else _read(data, form) for data in inputs]
    good = [m for m in messages if not isinstance(m, LLZError)]
    texts = iter(MessageCodec(Options(quiet=False, **given)).decode(good) if good else [])
    status = 0
    for number, m in enumerate(messages, 1):
        text: bytes | DamagedMessageError = m if isinstance(m, DamagedMessageError) else next(texts)
        if lines and isinstance(text, bytes) and b"\n" in text:
            text = DamagedMessageError()
        if isinstance(text, DamagedMessageError):
            status = report_error(f"line {number}" if lines else "message", text)
        else:
            streams.write(sink, text if exact and not lines else text + b"\n")
            continue
        if lines:
            streams.write(sink, b"\n")  # so that the other lines keep their numbers
    return status


def _read(data: bytes, form: str) -> bytes | DamagedMessageError:
    try:
        return text_forms.read(data.decode("ascii", "replace"), form)
    except DamagedMessageError as e:
        return e
