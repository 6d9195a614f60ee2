"""`--verify`: another process decodes the archive. It shares nothing but files with the process that made it.

Otherwise a fault in the memory or the settings of a process would go unnoticed, as the same process would decode what it coded.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from llmzip.cli.common.digest import Digest
from llmzip.errors import InexactMachineError, LLZError
from llmzip.system.temporary import temporary

_ENDING = 2.0  # seconds that the process may take to end
# It must not import from the folder it runs in.
_PROGRAM = """
import signal, sys
for name in ("SIGINT", "SIGPIPE"):
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
sys.path[:] = [place for place in sys.path if place]
from llmzip.cli.common.verify import answer
answer()
"""


class UnverifiedError(LLZError):
    """The process that verifies failed, and has said why."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("could not be verified, so nothing was written")
        self.exit_code = exit_code


def verify(archive: BinaryIO, name: str, content: Digest, settings: dict[str, Any]) -> None:
    """Let another process decode an archive, and compare.

    Args:
        archive: an open file with a descriptor; it is read from its start.
        name: its name in messages.
        content: digest of the content that it should have.
        settings: arguments for `options.Options`.

    Raises:
        UnverifiedError: it could not be decoded.
        InexactMachineError: it holds something else.
    """
    archive.flush()
    os.lseek(archive.fileno(), 0, os.SEEK_SET)
    places = os.pathsep.join(os.path.abspath(place) for place in sys.path if place)
    task = {"name": name, "size": content.size, "settings": settings}

    def start(passed: Sequence[int]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", _PROGRAM, json.dumps(task | {"life": passed})]
        environment = os.environ | {"PYTHONPATH": places}
        return subprocess.Popen(command, stdin=archive.fileno(), stdout=subprocess.PIPE, env=environment, pass_fds=passed)  # noqa: S603

    with _life() as passed, temporary(functools.partial(start, passed), _end) as process:
        said, _ = process.communicate()
    if process.returncode:
        raise UnverifiedError(process.returncode if process.returncode > 0 else 1)
    if json.loads(said.splitlines()[-1]) != content.stated():
        raise InexactMachineError("what the archive gives back is not what went in; nothing was written, please report this")


@contextlib.contextmanager
def _life() -> Iterator[Sequence[int]]:
    """A descriptor for the other process that reaches its end when this process ends, in whatever way; none on systems without pipes to pass on."""
    if os.name != "posix":
        yield ()
        return
    reader, writer = os.pipe()
    try:
        yield (reader,)
    finally:
        os.close(reader)
        os.close(writer)


def _end_with(life: int) -> None:
    """End this process when the one that waits for its answer is gone."""
    os.read(life, 1)
    os._exit(1)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait(_ENDING)
    if process.stdout:
        process.stdout.close()


def answer() -> None:
    """The other process: decode standard input as the argument says, print the digest of the result, and exit."""
    from llmzip.cli.common.forecast import Forecaster, contents
    from llmzip.cli.common.report import progress, report_error
    from llmzip.codec.codec import Codec
    from llmzip.options import Options

    task = json.loads(sys.argv[1])
    for life in task["life"]:
        threading.Thread(target=_end_with, args=(life,), daemon=True).start()
    settings, archive, back = task["settings"], sys.stdin.buffer, Digest()
    quiet = bool(settings.get("quiet"))
    try:
        found = contents(archive)
        archive.seek(0)
        codec = Codec(Options(**settings))
        announce = None if quiet else Forecaster(task["name"], found)
        with progress(task["name"], task["size"], quiet) as report:
            codec.decompress_stream(archive, back, report, announce)  # type: ignore[arg-type]  # all it needs
    except (LLZError, OSError) as e:
        sys.exit(report_error(task["name"], e))
    print(json.dumps(back.stated()))
