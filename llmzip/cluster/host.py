"""What runs in a worker on a node. Only `actor` is sent to it as code: a node without this package can still say which node it is."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from llmzip.cluster import identity, library
from llmzip.cluster.identity import Identity
from llmzip.cluster.supply import Wanted, unpack
from llmzip.codec import worker
from llmzip.codec.block_codec import BlockCodec
from llmzip.codec.loaded_models import LoadedModels
from llmzip.codec.policy import Policy
from llmzip.codec.pool import Call
from llmzip.errors import LLZError
from llmzip.options import Options
from llmzip.system import exact_threads


class Lacking:
    """The answer of a worker that lacks the model it needs."""


class Failed:
    """The answer of a worker whose work ended with an error. Ray would wrap one that is raised."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def actor() -> Any:
    """The class of Ray's actors. It calls the functions below, in processes that have this package.

    Its methods are called one at a time, but for `watch`, which is answered meanwhile. llmzip computes in a thread of its own, which has its
    OpenMP threads, whoever calls.
    """

    class Worker:
        def node(self) -> str:
            import ray

            return str(ray.get_runtime_context().get_node_id())

        def call(self, name: str, *arguments: Any) -> Any:
            from llmzip.cluster import host

            return getattr(host, name)(*arguments)

        def watch(self, name: str, *arguments: Any) -> Any:
            return self.call(name, *arguments)

    Worker.watch = library.ray().method(concurrency_group="watch")(Worker.watch)  # type: ignore[method-assign]
    return library.ray().remote(concurrency_groups={"watch": 1})(Worker)


_blocks: BlockCodec
_number = 0  # of the task in work
_reached = (0.0, 0.0)  # of that one: share of its block, and bytes of its bitstream
_had: set[Wanted] = set()  # models that were found here
_dropped = 0  # the latest task that nobody waits for any more


def prepare(options: Options, policy: Policy, loudness: int, wanted: Wanted | None, export: list[Any]) -> Identity | Lacking | Failed:
    """Make this process ready, and say who it is.

    Args:
        options: how it computes. If a model is wanted, they name it as caches do.
        policy: of its block codec.
        loudness: level of log messages.
        wanted: the model that encodes; None if nothing is to be encoded.
        export: a reference to that model, or nothing.
    """
    global _blocks
    worker.surroundings()
    logging.getLogger("llmzip").setLevel(loudness)
    try:
        if wanted and not _have(wanted, export):
            return Lacking()
        _blocks = BlockCodec(LoadedModels(options), policy)
        return identity.own(_blocks if wanted else None)
    except LLZError as e:
        return Failed(e)


def do(number: int, call: Call[Any], arguments: tuple[Any, ...], wanted: Wanted | None, export: list[Any]) -> Any:
    """Do a task, with the model that is wanted for it."""
    global _number, _reached
    _number, _reached = number, (0.0, 0.0)

    def report(share: float, stream: int) -> None:
        global _reached
        _reached = (share, float(stream))
        if _dropped == number:
            raise worker.DroppedError

    try:
        if wanted and not _have(wanted, export):
            return Lacking()
        return call(_blocks, report, *arguments)
    except (LLZError, worker.DroppedError) as e:
        return Failed(e)


def reached() -> tuple[int, float, float]:
    """The number of the task in work, and how far it is."""
    return _number, *_reached


def drop(number: int) -> None:
    """End a task, if it is the one in work."""
    global _dropped
    _dropped = number


def kernels() -> str:
    """How this process computes with the model that encodes."""
    return exact_threads.run(lambda _: _blocks.models.ready().transformer.name)


def _have(wanted: Wanted, export: list[Any]) -> bool:
    """Whether the model is in this node's cache, now that it was put there if it was sent."""
    if wanted in _had:
        return True
    if wanted.find() is None and export:
        unpack(wanted, library.ray().get(export[0]))
    if wanted.find() is None:
        return False
    _had.add(wanted)
    return True


def named_in_cache(options: Options, model_id: str | None, threads: int) -> Options:
    """The options of workers: they find models in their cache alone."""
    return replace(options, model=model_id, threads=threads, offline=True, quiet=True)
