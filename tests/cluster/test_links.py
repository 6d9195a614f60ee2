"""A link between two machines is cut: network namespaces, where the system allows them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmzip.codec.codec import Codec
from tests.support.clusters import complaints, until
from tests.support.codecs import TEXT
from tests.support.links import linked, why_not

pytest.importorskip("ray", reason="llmzip[ray] is not installed")
_WHY_NOT = why_not()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT)]


def test_the_link_to_the_other_machine(codec: Codec, tiny_folder: Path, tmp_path: Path) -> None:
    """What the other one did is done by this one; the bytes are the same, and nothing else is written."""
    env = os.environ | {"LLMZIP_CACHE": str(tmp_path / "cache"), "LLMZIP_MODEL": str(tiny_folder)}
    llmzip = [sys.executable, "-m", "llmzip"]
    (tmp_path / "a").write_bytes(TEXT[:6000])
    alone = subprocess.run([*llmzip, "compress", "-c", "--block-size", "500", "a"], cwd=tmp_path, env=env, capture_output=True, check=True)
    with linked() as made:
        made.start(dict.fromkeys(("one", "two"), tmp_path / "cache"))
        command = [*made.inside("one"), *llmzip, "compress", "-c", "--cluster", made.address, "--workers", "2", "--block-size", "500", "a"]
        driver = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until(lambda: driver.poll() is not None or len(made.workers()) == 2)
        made.cut()
        archive, said = driver.communicate(timeout=120)
    assert (driver.returncode, complaints(said.decode().splitlines())) == (0, [])
    assert archive == alone.stdout
