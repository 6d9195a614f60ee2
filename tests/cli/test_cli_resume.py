"""`--resume`: an interrupted run leaves OUT.part, and the next one goes on with it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_cli import Run, fails, run, work  # noqa: F401  fixtures
from tests.support.clusters import until
from tests.support.codecs import TEXT

SIZE = ["--block-size", "1000"]


@pytest.mark.slow
def test_cut_and_resumed(run: Run, work: Path) -> None:  # noqa: F811
    (work / "a").write_bytes(TEXT[:4000])
    whole = run("compress", "-c", *SIZE, "a").stdout
    for cut in (0, len(whole) // 2, len(whole) - 1):
        (work / "a.llz.part").write_bytes(whole[:cut])
        result = run("compress", "--resume", "-f", *SIZE, "a")
        assert (result.returncode, result.stderr) == (0, b"")
        assert (work / "a.llz").read_bytes() == whole
        assert sorted(os.listdir(work)) == ["a", "a.llz"]
    (work / "a.llz.part").write_bytes(whole[:-1])
    fails(run("compress", "--resume", *SIZE, "a"), 1, "exists already")
    fails(run("compress", "--resume", "-f", "-9", *SIZE, "a"), 1, "a: ", "other settings", ".part")
    assert (work / "a.llz.part").read_bytes() == whole[:-1]
    fails(run("--resume", stdin=b"a"), 1, "cannot be resumed")
    assert run("compress", "--resume", "--rm", "a").returncode == 2


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_interrupted(kind: signal.Signals, run: Run, work: Path, tiny_folder: Path) -> None:  # noqa: F811
    content = b"\n".join(bytes(random.Random(i).choices(b"abcdefgh ", k=2000)) for i in range(60))
    (work / "a").write_bytes(content)
    assert run(stdin=TEXT[:100]).returncode == 0  # converts the model
    env = os.environ | {"LLMZIP_CACHE": str(work.parent / "cache"), "LLMZIP_MODEL": str(tiny_folder)}
    process = subprocess.Popen(
        [sys.executable, "-m", "llmzip", "--resume", "--block-size", "2K", "a"], cwd=work, env=env, stderr=subprocess.DEVNULL
    )
    part = work / "a.llz.part"
    until(lambda: process.poll() is not None or (part.exists() and part.stat().st_size > 3000))
    process.send_signal(kind)
    process.wait()
    assert process.returncode == -kind
    assert not (work / "a.llz").exists()
    assert part.stat().st_size > 3000
    assert run("--resume", "--block-size", "2K", "a").returncode == 0
    assert (work / "a.llz").read_bytes() == run("-c", "--block-size", "2K", "a").stdout
    assert not part.exists()
