"""Compiles an integer product for the processor that numba is told of, without running it; prints its instructions for products and tiles.

They come in the order of the code, with their operands if these are tiles. With the argument "amx" the product may use AMX, and with "attention" it is
the products of attention instead. So the code for processors with VNNI or AMX is tried with any numba on any x86-64.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from typing import Any

with tempfile.TemporaryDirectory() as empty:
    os.environ["NUMBA_CACHE_DIR"] = empty  # code out of a cache cannot be looked into
    from numba import typeof, types

    from llmzip.engine.kernels.amx import WITH, WITHOUT
    from llmzip.engine.kernels.amx_proof import attention_products
    from llmzip.engine.kernels.attention_steps import several
    from llmzip.engine.kernels.products import product
    from llmzip.engine.kernels.rows import jit
    from llmzip.engine.kernels.simd import size

    @jit
    def attention(amx: Any, vectors: Any, group: Any, bytes_: Any, words: Any, floats: Any, runs: Any) -> None:
        """Of as many steps as are worked on together. What the arrays hold does not matter."""
        steps: Any = several(amx, group)  # type: ignore[call-arg]  # intrinsics lose their first argument
        q, keys, w, values = bytes_, bytes_, bytes_, bytes_
        attention_products(steps, vectors, group, q, words, floats, keys, floats, words, floats, w, values, runs, words)

    def array(kind: Any, axes: int) -> Any:
        return types.Array(kind, axes, "C")

    which = typeof(WITH if "amx" in sys.argv else WITHOUT)  # type: ignore[no-untyped-call]
    compiled, arguments = product, (which, array(types.int8, 2), array(types.uint8, 4), array(types.int32, 2))
    if "attention" in sys.argv:
        sizes = (typeof(size(n)) for n in (4, 3))  # type: ignore[no-untyped-call]
        flat = (array(types.int8, 2), array(types.int32, 2), array(types.float32, 2), array(types.int64, 1))
        compiled, arguments = attention, (which, *sizes, *flat)
    compiled.compile(arguments)
    for line in compiled.inspect_asm(compiled.signatures[0]).splitlines():
        if found := re.match(r"\s+(vpdpbusd|tdp\w+|(?:ld|st)tilecfg\w*|tile\w+)\b(.*)", line):
            print(found[1], *re.findall(r"tmm\d", found[2]))
