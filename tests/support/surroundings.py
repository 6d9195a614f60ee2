"""What other code in a process may have changed when llmzip is called, by name: each a context in which it is so.

`state` tells what llmzip must leave as it found it.
"""

from __future__ import annotations

import contextlib
import ctypes
import decimal
import locale
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numba
import numpy as np
import torch
from torch.overrides import TorchFunctionMode

MATH = ctypes.CDLL({"darwin": "libSystem.dylib", "win32": "ucrtbase"}.get(sys.platform, "libm.so.6"))
UPWARD = {"x86_64": 0x800, "AMD64": 0x800}  # FE_UPWARD


@contextlib.contextmanager
def changed(get: Callable[[], Any], put: Callable[[Any], Any], value: Any) -> Iterator[None]:
    before = get()
    put(value)
    try:
        yield
    finally:
        put(before)


def default_dtype(dtype: torch.dtype) -> AbstractContextManager[None]:
    return changed(torch.get_default_dtype, torch.set_default_dtype, dtype)


def rounding(direction: int) -> AbstractContextManager[None]:
    return changed(MATH.fegetround, MATH.fesetround, direction)


def flushing() -> AbstractContextManager[None]:
    """Subnormal numbers are zero."""
    return changed(lambda: not is_subnormal_kept(), torch.set_flush_denormal, True)


def is_subnormal_kept() -> bool:
    return sys.float_info.min / 2 != 0


@contextlib.contextmanager
def inexact_decimals() -> Iterator[None]:
    with decimal.localcontext() as context:
        context.prec, context.rounding, context.traps[decimal.Inexact] = 3, decimal.ROUND_UP, True
        yield


class _Halving(TorchFunctionMode):
    """Has every function give half precision where it gives floats."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        return out.half() if isinstance(out, torch.Tensor) and out.is_floating_point() else out


@contextlib.contextmanager
def default_device(name: str) -> Iterator[None]:
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def numbers_of_threads(n: int) -> Iterator[None]:
    with changed(torch.get_num_threads, torch.set_num_threads, n), changed(numba.get_num_threads, numba.set_num_threads, 1):
        yield


@contextlib.contextmanager
def bfloat16_products() -> Iterator[None]:
    """As new and as old versions of torch have it."""
    with changed(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"):
        matmul = getattr(torch.backends.mkldnn, "matmul", None)
        if not hasattr(matmul, "fp32_precision"):
            yield
            return
        before, matmul.fp32_precision = matmul.fp32_precision, "bf16"  # type: ignore[union-attr]
        try:
            yield
        finally:
            matmul.fp32_precision = before  # type: ignore[union-attr]


@contextlib.contextmanager
def other_locale() -> Iterator[None]:
    before = locale.setlocale(locale.LC_ALL)
    for name in ("de_DE.UTF-8", "tr_TR.UTF-8", "C"):
        with contextlib.suppress(locale.Error):
            locale.setlocale(locale.LC_ALL, name)
            break
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)


@contextlib.contextmanager
def autocast() -> Iterator[None]:
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.autocast("cuda", dtype=torch.bfloat16, enabled=torch.cuda.is_available()):
        yield


def raising() -> AbstractContextManager[Any]:
    return np.errstate(all="raise")


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "torch's default type: bfloat16": lambda: default_dtype(torch.bfloat16),
    "torch's default type: float16": lambda: default_dtype(torch.float16),
    "torch's default type: float64": lambda: default_dtype(torch.float64),
    "torch's default device: meta": lambda: default_device("meta"),
    "autocast": autocast,
    "functions of torch replaced": _Halving,
    "products in bfloat16": bfloat16_products,
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "gradients": torch.enable_grad,
    "deterministic algorithms": lambda: changed(torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, "error"),
    "without oneDNN": lambda: torch.backends.mkldnn.flags(enabled=False),
    "numbers of threads": lambda: numbers_of_threads(1),
    "subnormals are zero": flushing,
    "rounding upward": lambda: rounding(UPWARD.get(__import__("platform").machine(), 0x400000)),
    "numpy raises for everything": raising,
    "decimals of three digits": inexact_decimals,
    "another locale": other_locale,
    "a low limit of recursion": lambda: changed(sys.getrecursionlimit, sys.setrecursionlimit, 500),
    "anomaly detection": torch.autograd.detect_anomaly,
}  # fmt: skip


def state() -> dict[str, Any]:
    """All of it that can be asked for, in the present thread."""
    return {
        "type": torch.get_default_dtype(),
        "device": str(torch.get_default_device()),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "precision": torch.get_float32_matmul_precision(),
        "inference": torch.is_inference_mode_enabled(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.get_deterministic_debug_mode(),
        "oneDNN": torch.backends.mkldnn.enabled,
        "torch's threads": torch.get_num_threads(),
        "numba's threads": numba.get_num_threads(),
        "numba's layers": list(numba.config.THREADING_LAYER_PRIORITY),  # type: ignore[attr-defined]
        "numba's configuration": {k: v for k, v in vars(numba.config).items() if k.isupper() and isinstance(v, (int, str))},
        "subnormals": is_subnormal_kept(),
        "rounding": MATH.fegetround(),
        "numpy": np.geterr(),
        "decimals": repr(decimal.getcontext()),
        "locale": locale.setlocale(locale.LC_ALL),
        "recursion": sys.getrecursionlimit(),
    }
