"""Whether this processor and its system let the process use AMX, tiles that some Intel processors multiply."""

from __future__ import annotations

import ctypes
import os
import platform
import sys

_FEATURES = {"+amx-tile", "+amx-int8"}  # as LLVM names them
_ARCH_PRCTL, _REQUEST, _TILE_DATA = 158, 0x1023, 18  # Linux on x86-64: a system call, "permission to use", the registers of tiles


def wanted() -> bool:
    """Whether the user lets llmzip use it: LLMZIP_AMX is not 0."""
    return os.environ.get("LLMZIP_AMX", "") != "0"


def present(features: str) -> bool:
    """Whether a processor with these features, as numba tells LLVM, has what products of int8s need."""
    return sys.platform == "linux" and platform.machine() == "x86_64" and sys.maxsize > 1 << 32 and set(features.split(",")) >= _FEATURES


def permitted() -> bool:
    """Asks Linux to let this process use tiles, which saves their large state for threads that do; False if it does not."""
    try:
        call = ctypes.CDLL(None, use_errno=True).syscall
    except (OSError, AttributeError):
        return False
    call.argtypes, call.restype = (ctypes.c_long,) * 3, ctypes.c_long
    return bool(call(_ARCH_PRCTL, _REQUEST, _TILE_DATA) == 0)
