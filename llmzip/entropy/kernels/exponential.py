"""Kernels of `exponential`, and the bit patterns of floats."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from llmzip.entropy.exponential import LINE
from llmzip.system.jit import compiled

_F32, _I32 = ir.FloatType(), ir.IntType(32)
_inlined = compiled(inline="always")  # so that loops around them are vectorised


@intrinsic
def float_from_bits(_typing: Any, _bits: Any) -> Any:
    """The float32 whose bit pattern is an int32."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], _F32)

    return types.float32(types.int32), codegen


@intrinsic
def bits_from_float(_typing: Any, _value: Any) -> Any:
    """The bit pattern of a float32 as int32."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], _I32)

    return types.int32(types.float32), codegen


@_inlined
def power_pattern(z: Any, offset: Any) -> Any:
    """The bit pattern of the float32 near 2^(z + bits), as int32; `offset` is `exponential.offset(bits)`."""
    return np.int32(np.int32(z * LINE) + offset)
