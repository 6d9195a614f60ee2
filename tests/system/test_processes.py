"""Forks, pools, threads and ends of processes: nothing hangs, nothing dies, nothing is lost in silence."""

from __future__ import annotations

import copy
import importlib
import inspect
import os
import pickle
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import llmzip
from llmzip.codec.codec import Codec
from llmzip.errors import LLZError
from tests.support.codecs import TEXT

pytestmark = pytest.mark.slow

CONTENT = TEXT[:1500]


def run(program: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A program of its own, which must end in time."""
    command = [sys.executable, "-W", "always", "-c", program, *arguments]
    return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=240, check=False)


# Each begins with a codec and a content.
_START = f"""
import os, signal, sys, threading
import llmzip
from llmzip.codec import Codec, Options
CONTENT = {CONTENT!r}
signal.alarm(200)
codec = Codec(Options(model=sys.argv[1], threads=2))

def child(work):
    pid = os.fork()
    if not pid:
        signal.alarm(100)
        try:
            work()
        except BaseException as e:
            print(repr(e), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]

def both_ways():
    assert codec.decompress(codec.compress(CONTENT)) == CONTENT
"""

FORKS = {
    "of a process that computed": "both_ways(); assert child(both_ways) == 0; both_ways()",
    "of a fork": """
def again():
    both_ways()
    assert child(both_ways) == 0
both_ways()
assert child(again) == 0
""",
    "of a process that did not": "assert child(both_ways) == 0; both_ways()",
    "while a thread computes": """
both_ways()
busy = threading.Thread(target=lambda: [both_ways() for _ in range(3)])
busy.start()
assert [child(both_ways) for _ in range(3)] == [0, 0, 0]
busy.join()
""",
    "of a process that used torch": """
import torch
torch.ones(1 << 22).sum()
assert child(both_ways) == 0
""",
    "of a process that used numba": """
import numba, numpy as np
@numba.njit(parallel=True)
def double(x):
    for i in numba.prange(len(x)):
        x[i] *= 2
double(np.ones(1000))
assert child(both_ways) == 0
""",
    "by a pool": """
import multiprocessing
archive = codec.compress(CONTENT)
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map_async(codec_free, [archive] * 4).get(100) == [CONTENT] * 4
""",
}
_POOL = """
def codec_free(archive):
    return codec.decompress(archive)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
@pytest.mark.parametrize("name", FORKS)
def test_forks(name: str, tiny_folder: Path) -> None:
    result = run(_START + _POOL + FORKS[name], str(tiny_folder))
    assert result.returncode == 0, result.stderr


def errors() -> Iterator[LLZError]:
    """One of each class, wherever in the package it is."""
    for module in pkgutil.walk_packages(llmzip.__path__, "llmzip."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    kinds = [LLZError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    for kind in dict.fromkeys(kinds):
        if kind.__module__.startswith("llmzip"):
            wanted = list(inspect.signature(kind.__init__).parameters.values())[1:] if "__init__" in vars(kind) else []
            yield (
                kind(*({"int": 3, "str": "what is wrong"}[p.annotation] for p in wanted))
                if wanted
                else kind(*(() if "__init__" in vars(kind) else ("it",)))
            )


@pytest.mark.parametrize("error", list(errors()), ids=lambda e: type(e).__name__)
def test_errors_pass_between_processes(error: LLZError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert (type(again), str(again), again.exit_code, vars(again)) == (type(error), str(error), error.exit_code, vars(error))


def test_errors_come_out_of_pools(tiny_folder: Path, codec: Codec) -> None:
    program = (
        _START
        + """
import multiprocessing
def limited(archive):
    Codec(Options(model=sys.argv[1], max_output=100)).decompress(archive)
if __name__ == "__main__":
    archive = codec.compress(CONTENT)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        try:
            pool.map_async(limited, [archive]).get(100)
        except llmzip.OutputLimitError as e:
            print(e)
"""
    )
    assert "above the limit of 100" in run(program, str(tiny_folder)).stdout


def test_threads_at_once_where_numba_serves_one(tiny_folder: Path) -> None:
    program = (
        _START
        + """
codecs = [Codec(Options(model=sys.argv[1], threads=2)) for _ in range(3)]
made = []
threads = [threading.Thread(target=lambda c=c: [made.append(c.compress(CONTENT)) for _ in range(3)]) for c in codecs]
for t in threads: t.start()
for t in threads: t.join()
assert len(made) == 9 and len(set(made)) == 1
import numba
print(numba.threading_layer())
"""
    )
    for layer in ("workqueue", "omp"):
        result = run(program, str(tiny_folder), NUMBA_THREADING_LAYER=layer)
        assert (result.returncode, result.stdout) == (0, f"{layer}\n"), result.stderr


ENDS = {
    "dropped": ("f = llmzip.open(sys.argv[1], 'wb')\nf.write(CONTENT)\ndel f\nimport gc; gc.collect()", True, "was not closed"),
    "dropped in a cycle": (
        "f = llmzip.open(sys.argv[1], 'wb')\nf.write(CONTENT)\nf.me = f\ndel f\nimport gc; gc.collect()",
        True,
        "was not closed",
    ),
    "text, dropped": ("f = llmzip.open(sys.argv[1], 'wt')\nf.write(CONTENT.decode())\ndel f", True, ""),
    "still open at the end": ("f = llmzip.open(sys.argv[1], 'wb')\nf.write(CONTENT)", None, "was not closed"),
    "a generator's end": (
        "def g():\n  with llmzip.open(sys.argv[1], 'wb') as f:\n    while True: f.write((yield))\nx = g(); next(x); x.send(CONTENT); x.close()",
        True,
        "",
    ),
    "an error": ("with llmzip.open(sys.argv[1], 'wb') as f:\n  f.write(CONTENT)\n  raise KeyError", False, "was abandoned"),
    "an exit": ("with llmzip.open(sys.argv[1], 'wb') as f:\n  f.write(CONTENT)\n  sys.exit()", False, "was abandoned"),
    "an interruption": ("with llmzip.open(sys.argv[1], 'wt') as f:\n  f.write(CONTENT.decode())\n  raise KeyboardInterrupt", False, "was abandoned"),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
def test_ends_of_files(name: str, tmp_path: Path) -> None:
    """Nothing passes for whole that is not, and nothing is lost without a word."""
    program, whole, says = ENDS[name]
    file = tmp_path / "made.llz"
    result = run(f"import sys, llmzip\nCONTENT = {CONTENT!r}\n{program}", str(file))
    assert says in result.stderr
    try:
        complete = llmzip.decompress(file.read_bytes()) == CONTENT
    except LLZError:
        complete = False
    if whole is None:  # whether Python can still compute then depends on its version; if not, that is said
        assert complete != ("cut short" in result.stderr)
    else:
        assert complete == whole


def test_an_interruption_ends_the_work_and_harms_nothing(tiny_folder: Path) -> None:
    """The caller is free at once; the thread that worked for it stops at its next step, and works for others."""
    program = (
        _START
        + """
import time
whole = codec.compress(CONTENT * 20)
def interrupt(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
for delay in (0.001, 0.05, 0.2):
    signal.setitimer(signal.ITIMER_REAL, delay)
    start = time.monotonic()
    try:
        while True:
            codec.compress(CONTENT * 20)
    except KeyboardInterrupt:
        assert time.monotonic() - start < delay + 1
    assert codec.compress(CONTENT * 20) == whole
"""
    )
    result = run(program, str(tiny_folder))
    assert result.returncode == 0, result.stderr
