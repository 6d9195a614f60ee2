"""Runs when Python starts on a node of a test's cluster, and breaks what LLMZIP_TEST_FAULT says."""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec
from typing import Any

FAULT = os.environ.get("LLMZIP_TEST_FAULT", "")


class _NoPackage:
    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        if name.partition(".")[0] == "llmzip":
            raise ModuleNotFoundError("No module named 'llmzip'", name="llmzip")
        return None


if FAULT == "no package":
    sys.meta_path.insert(0, _NoPackage())
elif FAULT:
    from llmzip.archive import records
    from llmzip.codec import worker as its_worker

    worker: Any = its_worker
    encode = worker.encode

    def unreproduced(*_: Any) -> bytes:
        from llmzip.errors import NotReproducedError

        raise NotReproducedError("as the test wants it")

    def silent(blocks: Any, progress: Any, *arguments: Any) -> Any:
        from dataclasses import replace

        found: Any
        found, ledger = encode(blocks, progress, *arguments)
        stream = bytearray(found.block.stream)
        stream[len(stream) // 2] ^= 1
        return found._replace(block=replace(found.block, stream=bytes(stream))), ledger

    if FAULT == "arithmetic":
        records.ARITHMETIC_VERSION = 99
    elif FAULT == "unreproduced":
        worker.decode = unreproduced
    elif FAULT == "silent":
        silent.__name__ = silent.__qualname__ = "encode"
        worker.encode = silent
