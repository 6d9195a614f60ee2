"""`llmzip cluster check`: who each node of a cluster is."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from llmzip.cluster import host, identity, library, nodes, supply
from llmzip.cluster.crew import Crew, Listener, Member, Terms
from llmzip.cluster.nodes import Node, Share
from llmzip.codec.policy import Policy
from llmzip.options import Options


@dataclass(frozen=True)
class Found:
    """What a node is.

    Attributes:
        node: the node.
        kernels: how it computes; empty if it cannot be used.
        why: why it cannot be used; empty if it can.
    """

    node: Node
    kernels: str = ""
    why: str = ""


def check(options: Options, share: Share, patience: float) -> Iterator[Found]:
    """Look at each node of the cluster that this process is connected to.

    Args:
        options: they name the model.
        share: what of its node a worker would have; nodes on which none fits are not looked at.
        patience: seconds that all together may take; nodes that have not answered by then cannot be used.

    Raises:
        LLZError: the model cannot be had, or this machine cannot run it.
        ClusterError: there is no node.
    """
    model = supply.own(options)
    terms = Terms(options, Policy.SMALLEST, share, model, identity.expected(host.named_in_cache(options, model.model_id, 1), model))
    events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    found: list[Found] = []

    def ready(member: Member) -> None:
        crew.ask_kernels(member, lambda node, kernels: found.append(Found(node, kernels)))

    def done(member: Member, answer: Any) -> None:
        raise AssertionError("it was given no work")

    def gone(member: Member, why: str) -> None:
        if why and member.node:
            found.append(Found(member.node, why=f"its worker was lost: {why}"))

    crew = Crew(terms, events.put, Listener(ready, done, gone, lambda node, why: found.append(Found(node, why=why))))
    wanted = set(nodes.alive(share))
    if not wanted:
        raise library.ClusterError(f"the cluster has no node with {share.cpus} CPUs")
    for node in wanted:
        crew.look_at(node)
    end = time.monotonic() + patience
    try:
        while wanted:
            try:
                events.get(timeout=max(0.0, end - time.monotonic()))()
            except queue.Empty:
                found += [Found(node, why=f"it has not answered in {patience:.0f} s") for node in wanted]
            for one in found:
                wanted.discard(one.node)
                yield one
            found.clear()
    finally:
        for member in list(crew.members):
            crew.dismiss(member)
