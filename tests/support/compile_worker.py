"""Compiles an integer product for the processor that numba is told of, without running it; prints whether it uses VNNI.

So the code for processors with VNNI is tried with any numba on any x86-64.
"""

from __future__ import annotations

import os
import tempfile

with tempfile.TemporaryDirectory() as empty:
    os.environ["NUMBA_CACHE_DIR"] = empty  # code out of a cache cannot be looked into
    from numba import types

    from llmzip.engine.kernels.products import product

    array = types.Array
    product.compile((array(types.int8, 1, "C"), array(types.int8, 2, "C"), array(types.uint8, 4, "C"), array(types.int32, 2, "C")))
    print("vpdpbusd" in product.inspect_asm(product.signatures[0]))
