"""A cluster for one run: the connection, and the workers on it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from llmzip.cluster import host, identity, library, nodes, supply
from llmzip.cluster.crew import Terms
from llmzip.cluster.nodes import Share
from llmzip.cluster.ray_pool import RayPool
from llmzip.cluster.reach import watching
from llmzip.cluster.tasks import Limits
from llmzip.codec.policy import Policy
from llmzip.options import Options
from llmzip.system import exact_threads
from llmzip.system.temporary import temporary


class Cluster:
    """A cluster that this process is connected to.

    Attributes:
        address: of the cluster.
        share: what of its node each worker has.
        fit: how many workers fit on it now; at least 1, as nodes may come.
    """

    def __init__(self, address: str, share: Share) -> None:
        self.address, self.share = address, share
        self.fit = max(1, sum(nodes.alive(share).values()))

    @contextlib.contextmanager
    def pool(
        self, options: Options, jobs: int, encodes: bool, say: Callable[[str], None], *,
        cross_check: int = 0, policy: Policy = Policy.SMALLEST, limits: Limits | None = None,
    ) -> Iterator[RayPool]:  # fmt: skip
        """Workers of this cluster. They end with the block, or with the process.

        Args:
            options: of the driver's codec.
            jobs: how many there may be.
            encodes: whether they encode; then each proves that it does that with the model as this machine does.
            say: is told what the user should know.
            cross_check: percent of the blocks that another node decodes after they were encoded.
            policy: of their block codecs.
            limits: when a block takes too long.

        Raises:
            LLZError: the model cannot be had, or this machine cannot run it.
        """
        model = supply.own(options) if encodes else None
        here = host.named_in_cache(options, model.model_id if model else None, 1)
        terms = Terms(options, policy, self.share, model, identity.expected(here, model))
        with temporary(lambda: RayPool(terms, jobs, cross_check, say, limits), RayPool.stop) as pool, watching(self.address, pool.lose):
            yield pool


@contextlib.contextmanager
def joined(address: str, share: Share, jobs: int | None = None) -> Iterator[Cluster]:
    """The cluster at an address. The connection ends with the block, or with the process.

    Args:
        address: "auto", "local", HOST:PORT or ray://HOST:PORT.
        share: what of its node each worker has.
        jobs: how many workers there are to be, if a cluster is started for them.

    Raises:
        ClusterError: it cannot be reached.
    """
    cpus = max(exact_threads.default_threads(), share.cpus * (jobs or 1))
    with library.connected(address, cpus):
        yield Cluster(address, share)
