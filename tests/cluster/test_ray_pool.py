"""Blocks on the nodes of a real Ray cluster: the same bytes, and the same errors, whatever happens to workers and nodes."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmzip.archive import records as rec
from llmzip.cluster.joining import Cluster, joined
from llmzip.cluster.library import ClusterError
from llmzip.cluster.nodes import Share
from llmzip.cluster.ray_pool import RayPool
from llmzip.cluster.tasks import Limits
from llmzip.codec.block_codec import BlockCodec
from llmzip.codec.codec import Codec
from llmzip.codec.policy import Policy
from llmzip.codec.pool import WorkerLostError
from llmzip.codec.side_by_side import Workers
from llmzip.errors import DamagedArchiveError, InexactMachineError, ModelUnavailableError, NotReproducedError
from llmzip.options import Options
from tests.support.archives import records_of
from tests.support.clusters import Machines, complaints, machines, until, workers
from tests.support.codecs import TEXT

pytest.importorskip("ray", reason="llmzip[ray] is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="starts nodes and kills them")]

BLOCK = 1000
NOISE = random.Random(8).randbytes(3000)
LONG = bytes(random.Random(1).choices(b"abcdefgh ", k=30_000))
INPUTS = {
    "nothing": b"",
    "text": TEXT[:5300],
    "text after what needs no model": NOISE[:2500] + TEXT[:2500],
    "text between": TEXT[:1500] + NOISE[:1500] + TEXT[1500:3000],
    "no model at all": NOISE,
}


@pytest.fixture(scope="module")
def options(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Options]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMZIP_CACHE", str(tmp_path_factory.mktemp("driver")))
        yield Options(model=str(tiny_folder), threads=1, block_bytes=BLOCK)


@pytest.fixture(scope="module")
def cluster(options: Options) -> Iterator[tuple[Machines, Cluster]]:
    """A cluster that is connected to, without any node that computes."""
    with machines() as made, joined(made.address, Share()) as cluster:
        yield made, cluster


@pytest.fixture
def nodes(cluster: tuple[Machines, Cluster], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Starts nodes of that cluster for one test, each with an empty cache."""
    started: list[Any] = []
    with contextlib.ExitStack() as ending:

        def start(cpus: int = 1, fault: str = "") -> Any:
            node = cluster[0].add(tmp_path / f"node-{len(started)}", cpus, fault)
            started.append(node)
            ending.callback(cluster[0].kill, node)
            return node

        yield start


@contextlib.contextmanager
def pool_of(
    cluster: tuple[Machines, Cluster], options: Options, jobs: int = 2, encodes: bool = True, **more: Any
) -> Iterator[tuple[RayPool, Codec, list[str]]]:
    said: list[str] = []
    with cluster[1].pool(options, jobs, encodes, said.append, **more) as pool:
        yield pool, Codec(options, blocks=Workers(options, pool, more.get("policy", Policy.SMALLEST))), said


def test_the_same_bytes(codec: Codec, cluster: tuple[Machines, Cluster], nodes: Callable[..., Any], options: Options) -> None:
    """At several levels, from two nodes that get the model from the driver."""
    nodes(), nodes()
    with pool_of(cluster, options) as (pool, _, said):
        for level, content in [(6, c) for c in INPUTS.values()] + [(1, TEXT[:2500]), (9, TEXT[:2500])]:
            o = replace(options, level=level)
            there = Codec(o, blocks=Workers(o, pool))
            archive = Codec(o, blocks=codec.blocks).compress(content)
            assert there.compress(content) == archive
            assert there.decompress(archive * 2) == content * 2
        assert pool.alive == 2
    assert complaints(said) == []


def test_a_node_that_differs_is_left_out(
    codec: Codec, cluster: tuple[Machines, Cluster], nodes: Callable[..., Any], options: Options
) -> None:
    """It is named, with what is wrong; the others do the work."""
    nodes(), nodes(fault="arithmetic"), nodes(fault="no package")
    archive = Codec(options, blocks=codec.blocks).compress(TEXT[:4000])
    with pool_of(cluster, options, jobs=3) as (pool, there, said):
        for _ in range(20):  # until both that differ were met
            assert there.compress(TEXT[:4000]) == archive
            if len(complaints(said)) == 2:
                break
        assert pool.alive == 1
    assert len(complaints(said)) == 2
    assert [line for line in said if "arithmetic 99, not " in line and "is left out" in line]
    assert [line for line in said if "No module named 'llmzip'" in line and "is left out" in line]


def test_no_node_can_be_used(cluster: tuple[Machines, Cluster], nodes: Callable[..., Any], options: Options) -> None:
    nodes(fault="arithmetic")
    with (
        pool_of(cluster, options) as (_, there, _),
        pytest.raises(ClusterError, match=r"no node of the cluster can be used.*arithmetic 99"),
    ):
        there.compress(TEXT[:2500])


def test_workers_that_are_killed(codec: Codec, cluster: tuple[Machines, Cluster], nodes: Callable[..., Any], options: Options) -> None:
    """Another one does the work; after three times an error names block and node."""
    node = nodes()
    o = replace(options, block_bytes=len(LONG))
    for times in (1, 3):
        with pool_of(cluster, o, jobs=1, policy=Policy.MODEL) as (pool, there, _):
            killing = threading.Thread(target=kill_busy_workers, args=(pool, node, times))
            killing.start()
            if times == 1:
                assert codec.decompress(there.compress(LONG)) == LONG
            else:
                with pytest.raises(WorkerLostError, match=r"the block at byte 0: 3 workers that had it were lost, the last one on .*node "):
                    there.compress(LONG)
            killing.join()


def kill_busy_workers(pool: RayPool, node: Any, times: int) -> None:
    for _ in range(times):
        until(lambda: busy(pool))
        for pid in workers(node):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not busy(pool))


def fixed_blocks(codec: Codec) -> BlockCodec:
    """A block codec that codes everything."""
    return BlockCodec(codec.blocks.models, Policy.MODEL)


def busy(pool: RayPool) -> int:
    """How many workers have a block."""
    return sum(member.work is not None for member in list(pool.crew.members))


def test_a_node_that_is_killed(codec: Codec, cluster: tuple[Machines, Cluster], nodes: Callable[..., Any], options: Options) -> None:
    """What it did is done by the other one; then that one is killed, too, and one comes that was not there before."""
    o = replace(options, block_bytes=len(LONG) // 2)
    archive = Codec(o, blocks=fixed_blocks(codec)).compress(LONG * 2)
    first, second = nodes(), nodes()
    for decode in (False, True):
        with pool_of(cluster, o, encodes=not decode, policy=Policy.MODEL) as (pool, there, _):
            results = list[Any]()
            work = functools.partial(there.decompress, archive) if decode else functools.partial(there.compress, LONG * 2)
            thread = threading.Thread(target=lambda into, do: into.append(do()), args=(results, work))
            thread.start()
            until(lambda: busy(pool) == 2)
            cluster[0].kill(first)
            until(lambda: busy(pool) <= 1)
            if decode:
                cluster[0].kill(second)
            first = nodes()
            thread.join(120)
            assert results == [LONG * 2 if decode else archive]


def test_a_node_that_cannot_reproduce_a_block(
    codec: Codec, cluster: tuple[Machines, Cluster], nodes: Callable[..., Any], options: Options
) -> None:
    """Another node tries. If it can, the first is left out; if there is none, the error names the block."""
    archive = Codec(options, blocks=codec.blocks).compress(TEXT[:4000])
    nodes(fault="unreproduced")
    with pool_of(cluster, options, jobs=1, encodes=False) as (_, there, said):
        with pytest.raises(NotReproducedError, match="cannot reproduce the archive"):
            there.decompress(archive)
        nodes()
        assert there.decompress(archive) == TEXT[:4000]
    (line,) = complaints(said)
    assert "is left out: it could not reproduce the block at byte" in line


def test_what_an_encoder_spoils_without_a_word(cluster: tuple[Machines, Cluster], nodes: Callable[..., Any], options: Options) -> None:
    """Only another node that decodes it finds that out."""
    nodes(fault="silent")
    nodes()
    with (
        pool_of(cluster, options, jobs=2, cross_check=100) as (_, there, _),
        pytest.raises(InexactMachineError, match=r"does not decode on .*test the memory"),
    ):
        for _ in range(20):  # until the faulty node has begun, too
            there.compress(TEXT[:4000])


def test_a_share_is_checked(codec: Codec, cluster: tuple[Machines, Cluster], nodes: Callable[..., Any], options: Options) -> None:
    nodes(), nodes()
    archive = Codec(options, blocks=codec.blocks).compress(TEXT[:5000])
    for percent in (40, 100):
        with pool_of(cluster, options, cross_check=percent) as (pool, there, said):
            assert there.compress(TEXT[:5000]) == archive
            coded = sum(isinstance(r, rec.CodedBlock) for r in records_of(archive))
            assert pool.checked == coded * percent // 100
        assert complaints(said) == []


def test_what_is_slow_is_begun_again(codec: Codec, cluster: tuple[Machines, Cluster], nodes: Callable[..., Any], options: Options) -> None:
    """A worker stands still. The block that everybody waits for is given to another one, once."""
    first, second = nodes(), nodes()
    archive = Codec(options, blocks=codec.blocks).compress(TEXT[:4000])
    with pool_of(cluster, options, limits=Limits(1.0, 4.0)) as (pool, there, _):
        assert there.compress(TEXT[:4000]) == archive

        def both_there() -> bool:
            there.compress(TEXT[:4000])  # so that another worker is started, if one was lost with a node of an earlier test
            return pool.alive == 2

        until(both_there)
        (stopped,) = workers(first)
        os.kill(stopped, signal.SIGSTOP)
        try:
            assert there.compress(TEXT[:4000]) == archive
            assert workers(second)
        finally:
            os.kill(stopped, signal.SIGCONT)


def test_work_that_nobody_waits_for_ends(
    codec: Codec, cluster: tuple[Machines, Cluster], nodes: Callable[..., Any], options: Options
) -> None:
    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError("full")

    nodes(2)
    o = replace(options, block_bytes=len(LONG))
    with pool_of(cluster, o, policy=Policy.MODEL) as (pool, there, _):
        with pytest.raises(OSError, match="full"):
            there.compress_stream(io.BytesIO(TEXT[:100] + b"\n" + LONG * 4), Full())
        until(lambda: not busy(pool), 30)
        assert there.decompress(codec.compress(TEXT[:500])) == TEXT[:500]


def test_damage_and_missing_models(
    codec: Codec, cluster: tuple[Machines, Cluster], nodes: Callable[..., Any], options: Options, tmp_path: Path
) -> None:
    """The same errors as on one machine."""
    nodes()
    archive = Codec(options, blocks=codec.blocks).compress(TEXT[:3000])
    damaged = bytearray(archive)
    damaged[len(archive) // 2] ^= 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMZIP_CACHE", str(tmp_path / "empty"))
        nowhere = replace(options, model=None, offline=True)
        with pool_of(cluster, nowhere, encodes=False) as (_, there, _), pytest.raises(ModelUnavailableError, match="local:tiny"):
            there.decompress(archive)
    with pool_of(cluster, options, encodes=False) as (_, there, _):
        with pytest.raises(DamagedArchiveError) as caught:
            there.decompress(bytes(damaged))
        with pytest.raises(DamagedArchiveError) as alone:
            codec.decompress(bytes(damaged))
        assert str(caught.value) == str(alone.value)
    with pytest.raises(ModelUnavailableError, match="auto"), pool_of(cluster, replace(options, model="auto")):
        pass
