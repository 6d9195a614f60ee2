"""Compiles an integer product for the processor that numba is told of, without running it; prints its instructions for products and tiles.

They come in the order of the code, with their operands if these are tiles. With the argument "amx" the product may use AMX. So the code for
processors with VNNI or AMX is tried with any numba on any x86-64.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile

with tempfile.TemporaryDirectory() as empty:
    os.environ["NUMBA_CACHE_DIR"] = empty  # code out of a cache cannot be looked into
    from numba import typeof, types

    from llmzip.engine.kernels.amx import WITH, WITHOUT
    from llmzip.engine.kernels.products import product

    array = types.Array
    which = typeof(WITH if "amx" in sys.argv else WITHOUT)  # type: ignore[no-untyped-call]
    product.compile((which, array(types.int8, 2, "C"), array(types.uint8, 4, "C"), array(types.int32, 2, "C")))
    for line in product.inspect_asm(product.signatures[0]).splitlines():
        if found := re.match(r"\s+(vpdpbusd|tdp\w+|(?:ld|st)tilecfg\w*|tile\w+)\b(.*)", line):
            print(found[1], *re.findall(r"tmm\d", found[2]))
