"""What compressing, decompressing and testing commands are to do: made from their options."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from llmzip.system.file_names import STDIO, FileError

SUFFIX = ".llz"
_SIDE_BY_SIDE = ("workers", "cluster", "cpus", "gpus")


@dataclass
class Job:
    """What to do with which files, and how.

    Attributes:
        action: "compress", "decompress" or "test".
        target: gives the name of the output for the name of a file.
        verify: If true, decode each archive and compare.
        resume: If true, go on with what an interrupted run left, and leave the same if interrupted.
        remove: If true, delete each source at the end.
        salvage: If true, continue past damage, and write what is left.
        workers: processes that may work side by side; as many as fit if 0. One, or as many as fit on the cluster, if None.
        cluster: address of a cluster that computes; None if this machine does.
        cpus, gpus: of each worker of the cluster.
        cross_check: percent of the blocks that another node of the cluster decodes after they were encoded.
        settings: arguments of `options.Options`.
    """

    action: str
    files: tuple[str, ...]
    target: Callable[[str], str]
    output: str | None = None
    to_stdout: bool = False
    force: bool = False
    remove: bool = False
    verify: bool = False
    resume: bool = False
    salvage: bool = False
    workers: int | None = None
    cluster: str | None = None
    cpus: int = 1
    gpus: float = 0.0
    cross_check: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The files; standard input if there are none."""
        return self.files or (STDIO,)

    def place(self, name: str) -> str:
        """The name of the output for the file `name`."""
        if self.action == "test":
            return os.devnull
        if self.to_stdout or self.output == STDIO or (self.output is None and name == STDIO):
            return STDIO
        return self.output if self.output is not None else self.target(name)


def settings_of(given: dict[str, Any], *names: str) -> dict[str, Any]:
    """Arguments of `options.Options` from a command's options: those of the model and the machine that it has, and `names`."""
    common = [name for name in ("model", "offline", "device", "quiet") if name in given]
    return {name: given[name] for name in (*common, *names)} | {"threads": given["threads"] or None}


def labels(models: list[str]) -> dict[str, str]:
    """What to call several models in a table: as archives do, or as the user does where that would not tell them apart."""
    from llmzip.models import resolve

    ids = [resolve.archive_id(name) for name in models]
    return {name: model_id if ids.count(model_id) == 1 else name for name, model_id in zip(models, ids, strict=True)}


def compress_job(given: dict[str, Any]) -> Job:
    """What `compress` is to do, by its options."""
    same = {
        name: given[name] for name in ("files", "output", "to_stdout", "force", "remove", "verify", "resume", "cross_check", *_SIDE_BY_SIDE)
    }
    return Job(
        "compress",
        target=functools.partial(_with_suffix, force=given["force"]),
        settings=settings_of(given, "level", "lanes", "block_bytes", "explain", "parity"),
        **same,
    )


def restore_job(action: str, given: dict[str, Any]) -> Job:
    """What `decompress` or `test` is to do, by its options."""
    names = ("files",) if action == "test" else ("files", "output", "to_stdout", "force", "remove", "salvage")
    return Job(
        action,
        target=_without_suffix,
        settings=settings_of(given, "max_output"),
        **{name: given[name] for name in (*names, *_SIDE_BY_SIDE)},
    )


def _with_suffix(name: str, force: bool) -> str:
    if name.endswith(SUFFIX) and not force:
        raise FileError(f"ends in {SUFFIX} already, and is left alone; use -f to compress it again, or -o")
    return name + SUFFIX


def _without_suffix(name: str) -> str:
    if not name.endswith(SUFFIX) or len(os.path.basename(name)) == len(SUFFIX):
        raise FileError(f"does not end in {SUFFIX}; name the output with -o, or use -c")
    return name[: -len(SUFFIX)]
