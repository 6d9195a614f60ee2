"""The workers of a cluster, as the driver has them: started, proven, given work, and left out where they are not what they must be.

All happens in one thread, the pool's. What Ray says arrives through `post`, which gives it to that thread.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from llmzip.cluster import host, library, nodes, supply
from llmzip.cluster.host import Failed, Lacking
from llmzip.cluster.identity import Identity
from llmzip.cluster.nodes import Node, Share
from llmzip.cluster.supply import Wanted
from llmzip.codec.policy import Policy
from llmzip.codec.pool import Work
from llmzip.errors import LLZError, quoted
from llmzip.models.store import CachedModel
from llmzip.options import Options, is_new

NODE = "ray.io/node-id"  # Ray's label
Post = Callable[[Callable[[], None]], None]


@dataclass(frozen=True)
class Terms:
    """What a run asks of its workers.

    Attributes:
        options: of the driver's codec.
        policy: of block codecs.
        share: what of its node a worker has.
        model: the model that encodes; None where nothing is to be encoded.
        expected: who each worker must be.
    """

    options: Options
    policy: Policy
    share: Share
    model: CachedModel | None
    expected: Identity

    @property
    def options_there(self) -> Options:
        """How workers compute."""
        return host.named_in_cache(self.options, self.model.model_id if self.model else None, self.share.cpus)


@dataclass(eq=False)
class Member:
    """A worker.

    Attributes:
        actor: Ray's handle of it.
        node: where it is; None while it has no place.
        ready: whether it has proven who it is.
        number: of the task that it does.
        work: what it does; None if it is idle.
        since: when it began, by `time.monotonic`.
        reached: how far it is: share of the block, and bytes of its bitstream.
    """

    actor: Any
    node: Node | None = None
    ready: bool = False
    number: int = 0
    work: Work[Any] | None = None
    since: float = 0.0
    reached: tuple[float, float] = (0.0, 0.0)
    asked: bool = False  # how far it is


@dataclass
class Listener:
    """What is called when something happens to a worker.

    Attributes:
        ready: it is idle, for the first time.
        done: its work gave this, or failed with `host.Failed`.
        gone: it is lost, and why; empty if it was left out.
        refused: a node is left out.
    """

    ready: Callable[[Member], None]
    done: Callable[[Member, Any], None]
    gone: Callable[[Member, str], None]
    refused: Callable[[Node, str], None]


@dataclass
class Crew:
    """The workers.

    Attributes:
        terms: what is asked of them.
        post: gives something to the pool's thread to do.
        listener: is told of what happens.
        members: those that there are, also while they start.
        refused: nodes that are left out, and why.
    """

    terms: Terms
    post: Post
    listener: Listener
    members: list[Member] = field(default_factory=list)
    refused: dict[Node, str] = field(default_factory=dict)
    _numbers: int = 0
    _exports: dict[bytes, Any] = field(default_factory=dict)  # references to models in the object store, by digest

    def __post_init__(self) -> None:
        self._class = host.actor()

    def start(self, avoid: Collection[Node] = ()) -> None:
        """Start one more worker, on no node that is refused or to be avoided. It gets a place when there is one."""
        left_out = {node.node_id for node in (*self.refused, *avoid)}
        where = {"label_selector": {NODE: f"!in({','.join(sorted(left_out))})"}} if left_out else {}
        self._start(num_cpus=self.terms.share.cpus, num_gpus=self.terms.share.gpus, scheduling_strategy="SPREAD", **where)

    def look_at(self, node: Node) -> None:
        """Start a worker on a node, only to find out who it is: it waits for no free CPU."""
        self._start(num_cpus=0, label_selector={NODE: node.node_id})

    def _start(self, **options: Any) -> None:
        member = Member(self._class.options(max_restarts=0, **options).remote())
        self.members.append(member)
        self._then(member, member.actor.node.remote(), self._placed)

    def assign(self, member: Member, work: Work[Any]) -> None:
        """Give work to an idle worker."""
        self._numbers += 1
        member.number, member.work, member.since, member.reached, member.asked = self._numbers, work, time.monotonic(), (0.0, 0.0), False
        self._send(member, [])

    def drop(self, member: Member) -> None:
        """Let a worker end what it does, as nobody waits for it."""
        member.actor.watch.remote("drop", member.number)

    def dismiss(self, member: Member) -> None:
        """End a worker."""
        if member in self.members:
            self.members.remove(member)
            library.ray().kill(member.actor)

    def refuse(self, node: Node, why: str) -> None:
        """Leave a node out from now on."""
        if node in self.refused:
            return
        self.refused[node] = why
        for member in [m for m in self.members if m.node == node]:
            self.dismiss(member)
            self.listener.gone(member, "")
        self.listener.refused(node, why)

    def ask(self) -> None:
        """Ask the workers how far they are."""
        for member in self.members:
            if member.work is not None and not member.asked:
                member.asked = True
                self._then(member, member.actor.watch.remote("reached"), self._told)

    def ask_kernels(self, member: Member, tell: Callable[[Node, str], None]) -> None:
        """Ask a worker how it computes."""
        assert member.node
        node = member.node
        self._then(member, member.actor.call.remote("kernels"), lambda _, answer: tell(node, answer))

    def _told(self, member: Member, answer: tuple[int, float, float]) -> None:
        member.asked = False
        if answer[0] == member.number:
            member.reached = answer[1:]

    def _placed(self, member: Member, node_id: str) -> None:
        member.node = nodes.find(node_id)
        if member.node is None or member.node in self.refused:
            self.dismiss(member)
            self.listener.gone(member, "")
        else:
            self._prepare(member, [])

    def _prepare(self, member: Member, export: list[Any]) -> None:
        terms, loudness = self.terms, logging.getLogger("llmzip").getEffectiveLevel()
        wanted = terms.model and Wanted.of(terms.model)
        answer = member.actor.call.remote("prepare", terms.options_there, terms.policy, loudness, wanted, export)
        self._then(member, answer, functools.partial(self._prepared, sent=bool(export)))

    def _prepared(self, member: Member, answer: Any, sent: bool) -> None:
        assert member.node
        model = self.terms.model
        if isinstance(answer, Lacking) and not sent and model:
            self._prepare(member, [self._export(model)])
        elif isinstance(answer, Identity) and not (differences := list(self.terms.expected.differences(answer))):
            member.ready = True
            self.listener.ready(member)
        else:
            why = (
                str(answer.error)
                if isinstance(answer, Failed)
                else "it has no model"
                if isinstance(answer, Lacking)
                else "; ".join(differences)
            )
            self.refuse(member.node, why)

    def _send(self, member: Member, export: list[Any]) -> None:
        work = member.work
        assert work
        wanted = Wanted.named_by(work.model) if work.model and not is_new(work.model.model_id) else None
        answer = member.actor.call.remote("do", member.number, work.call, work.arguments, wanted, export)
        self._then(member, answer, functools.partial(self._done, sent=bool(export)))

    def _done(self, member: Member, answer: Any, sent: bool) -> None:
        work = member.work
        assert work
        if isinstance(answer, Lacking) and not sent:
            assert work.model
            try:
                self._send(member, [self._export(supply.for_archive(work.model, self.terms.options))])
            except LLZError as e:
                self.listener.done(member, Failed(e))
        else:
            self.listener.done(member, answer)

    def _export(self, model: CachedModel) -> Any:
        """A reference to a model in the object store. It is put there once; each node fetches it once."""
        if model.digest not in self._exports:
            self._exports[model.digest] = library.ray().put(supply.packed(model))
        return self._exports[model.digest]

    def _then(self, member: Member, reference: Any, do: Callable[[Member, Any], None]) -> None:
        """Do something with the answer of a worker, unless it is lost."""
        reference.future().add_done_callback(lambda answer: self.post(functools.partial(self._arrived, member, answer, do)))

    def _arrived(self, member: Member, answer: Future[Any], do: Callable[[Member, Any], None]) -> None:
        if member not in self.members:
            return
        error = answer.exception()
        if error is None:
            do(member, answer.result())
        elif isinstance(error, library.ray().exceptions.RayTaskError) and member.node:
            self._raised(member, member.node, getattr(error, "cause", None) or error)
        else:
            self.dismiss(member)
            self.listener.gone(member, quoted(error).partition(". ")[0] or type(error).__name__)

    def _raised(self, member: Member, node: Node, error: BaseException) -> None:
        """Something failed in a worker that is no error of llmzip's."""
        what = f"{type(error).__name__}: {quoted(error)}"
        if member.ready:
            self.listener.done(member, Failed(LLZError(f"{what} (on {node})")))
        else:
            self.refuse(node, what)
