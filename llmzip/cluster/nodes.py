"""The nodes of a cluster, and which of them are of use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llmzip.cluster import library


@dataclass(frozen=True)
class Node:
    """A machine of a cluster.

    Attributes:
        node_id: Ray's name for it.
        host: its own name.
        address: where it is.
    """

    node_id: str
    host: str
    address: str

    def __str__(self) -> str:
        return f"{self.host} ({self.address}, node {self.node_id[:8]})"


@dataclass(frozen=True)
class Share:
    """What of its node a worker has.

    Attributes:
        cpus: CPUs, and so threads.
        gpus: GPUs, or a part of one.
    """

    cpus: int = 1
    gpus: float = 0.0

    def workers(self, resources: dict[str, float]) -> int:
        """How many workers fit."""
        fit = int(resources.get(library.CPUS, 0) // self.cpus)
        return min(fit, int(resources.get("GPU", 0) / self.gpus)) if self.gpus else fit


def alive(share: Share) -> dict[Node, int]:
    """The nodes that are there, and how many workers fit on each. Nodes on which none fits are left out."""
    found: list[dict[str, Any]] = library.ray().nodes()
    nodes = {_node(entry): share.workers(entry["Resources"]) for entry in found if entry["Alive"]}
    return {node: fit for node, fit in nodes.items() if fit}


def _node(entry: dict[str, Any]) -> Node:
    return Node(entry["NodeID"], entry["NodeManagerHostname"], entry["NodeManagerAddress"])


def find(node_id: str) -> Node | None:
    """The node of this ID; None if it is gone."""
    return next((_node(entry) for entry in library.ray().nodes() if entry["NodeID"] == node_id and entry["Alive"]), None)
