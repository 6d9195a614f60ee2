"""Blocks by executors in the way of `concurrent.futures`: the same bytes, whoever computes."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import llmzip
from llmzip.codec.codec import Codec
from llmzip.codec.pool import WorkerLostError
from llmzip.errors import DamagedArchiveError
from llmzip.options import Options
from tests.support.codecs import TEXT

BLOCK = 700


@pytest.fixture(scope="module")
def options(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Options]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMZIP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Options(model=str(tiny_folder), threads=1, block_bytes=BLOCK)


@contextlib.contextmanager
def spawned(workers: int = 2) -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as made:
        yield made


class Foreign:
    """An executor that is no `concurrent.futures.Executor` and does not say how many workers it has."""

    def __init__(self, inner: Executor) -> None:
        self._inner = inner

    def submit(self, call: Any, /, *arguments: Any) -> Future[Any]:
        return self._inner.submit(call, *arguments)


@pytest.mark.parametrize("content", [b"", TEXT[:300], TEXT[:2000], bytes(range(256)) * 4 + TEXT[:1500]])
def test_threads(content: bytes, codec: Codec, options: Options) -> None:
    archive = Codec(options, blocks=codec.blocks).compress(content)
    with ThreadPoolExecutor(2) as executor:
        for one in (executor, Foreign(executor)):
            assert Codec(options).compress(content, executor=one) == archive
            assert Codec(options).decompress(archive * 2, executor=one) == content * 2


@pytest.mark.slow
def test_processes(codec: Codec, options: Options) -> None:
    with spawned() as executor:
        for level, content in ((1, TEXT[:1500]), (6, TEXT[:1500]), (9, TEXT[:1000])):
            o = replace(options, level=level)
            archive = Codec(o, blocks=codec.blocks).compress(content)
            source, sink, seen = io.BytesIO(content), io.BytesIO(), list[tuple[int, int]]()
            Codec(o).compress_stream(source, sink, lambda done, written: seen.append((done, written)), executor=executor)  # noqa: B023
            assert sink.getvalue() == archive
            assert seen[-1][0] == len(content)
            assert Codec(o).decompress(archive, executor=executor) == content
        assert llmzip.decompress(llmzip.compress(TEXT[:500], executor=executor, model=options.model), executor=executor) == TEXT[:500]


@pytest.mark.slow
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
def test_processes_that_are_forked(codec: Codec, options: Options) -> None:
    """As `ProcessPoolExecutor` starts them by default on some systems, here by a process that has computed already."""
    archive = Codec(options).compress(TEXT[:1500])
    assert archive == Codec(options, blocks=codec.blocks).compress(TEXT[:1500])
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as executor:
        assert Codec(options).compress(TEXT[:1500], executor=executor) == archive
        assert Codec(options).decompress(archive, executor=executor) == TEXT[:1500]


@pytest.mark.slow
def test_errors_come_through(codec: Codec, options: Options) -> None:
    archive = bytearray(Codec(options, blocks=codec.blocks).compress(TEXT[:2000]))
    archive[len(archive) // 2] ^= 1
    with spawned(1) as executor, pytest.raises(DamagedArchiveError) as caught:
        Codec(options).decompress(bytes(archive), executor=executor)
    with pytest.raises(DamagedArchiveError) as alone:
        codec.decompress(bytes(archive))
    assert str(caught.value) == str(alone.value)


@pytest.mark.slow
def test_a_worker_that_is_killed(options: Options) -> None:
    """The executor is of no use then; the error says so, and which block it was."""
    content = b"abcdefgh " * 200_000
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        pid = executor.submit(os.getpid).result()
        threading.Timer(0.5, os.kill, (pid, signal.SIGTERM)).start()
        with pytest.raises(WorkerLostError, match="the block at byte"):
            Codec(replace(options, block_bytes=len(content)), blocks=fixed_blocks()).compress(content, executor=executor)


def fixed_blocks() -> Any:
    from llmzip.codec.block_codec import BlockCodec
    from llmzip.codec.loaded_models import LoadedModels
    from llmzip.codec.policy import Policy

    return BlockCodec(LoadedModels(Options()), Policy.MODEL)


_DRIVER = """
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from llmzip.codec.codec import Codec
from llmzip.options import Options
if __name__ == "__main__":
    content = open(sys.argv[2], "rb").read()[:2000]
    options = Options(model=sys.argv[1], block_bytes=700)
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        archive = Codec(options).compress(content, executor=executor)
        assert Codec(options).decompress(archive, executor=executor) == content
    print(sorted({"torch", "tokenizers", "numba"} & set(sys.modules)))
"""


@pytest.mark.slow
def test_the_driver_loads_no_model_and_no_compiler(options: Options, tmp_path: Path) -> None:
    (tmp_path / "driver.py").write_text(_DRIVER)
    command = [sys.executable, str(tmp_path / "driver.py"), str(options.model), str(Path(__file__).parents[2] / "examples" / "harbour.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


@pytest.mark.slow
def test_dask(codec: Codec, options: Options) -> None:
    """Real workers of Dask's, in processes of their own."""
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    archive = Codec(options, blocks=codec.blocks).compress(TEXT[:2000])
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
        client.get_executor() as executor,
    ):
        assert Codec(options).compress(TEXT[:2000], executor=executor) == archive
        assert Codec(options).decompress(archive, executor=executor) == TEXT[:2000]
