"""Exact integer matrix products by interchangeable kernels, and the probe that chooses one.

Every kernel computes q [m, k] (int8) times w [n, k] (int8) transposed, as int32 [m, n]. All sums are exactly
representable in the kernel's accumulator, so the result does not depend on the kernel, and a kernel may be picked for
speed. None is trusted, as some builds saturate (oneDNN's int8 product on AVX2): each is proven on this machine.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

import torch
from torch import Tensor

from llmzip.errors import InexactMachineError

_LARGEST_PRODUCT = 127 * 127


class Gemm(Protocol):
    """A kernel: `prepare` lays a weight matrix out once, `multiply` uses it."""

    name: str

    def prepare(self, w: Tensor) -> Any:
        """The kernel's layout of w, int8 [n, k]."""
        ...

    def multiply(self, q: Tensor, w: Any) -> Tensor:
        """int32 [m, n] from q int8 [m, k] and prepared w."""
        ...


class Int8Gemm:
    """int8 x int8 accumulated in int32 (VNNI, AMX, tensor cores)."""

    name = "int8"

    def prepare(self, w: Tensor) -> tuple[Tensor, int]:
        """The weights, and how many outputs they have. CUDA wants a multiple of 8 outputs, so others are padded."""
        n = w.shape[0]
        return (torch.nn.functional.pad(w, (0, 0, 0, -n % 8)) if w.is_cuda else w), n

    def multiply(self, q: Tensor, w: tuple[Tensor, int]) -> Tensor:
        """CUDA refuses fewer than 17 rows, so those are padded."""
        m, (weights, n) = q.shape[0], w
        if q.is_cuda and m < 32:
            q = torch.nn.functional.pad(q, (0, 0, 0, 32 - m))
        return torch._int_mm(q, weights.T)[:m, :n]


class FloatGemm:
    """The same integers in floating point, while no partial sum can exceed the mantissa; longer rows are split."""

    def __init__(self, name: str, dtype: torch.dtype, mantissa: int) -> None:
        self.name = name
        self._dtype = dtype
        self._longest = (1 << mantissa) // _LARGEST_PRODUCT

    def prepare(self, w: Tensor) -> Tensor:
        """Converted."""
        return w.to(self._dtype)

    def multiply(self, q: Tensor, w: Tensor) -> Tensor:
        """Sums over pieces of a row are added as integers."""
        k = q.shape[1]
        a = q.to(self._dtype)
        out = (a[:, : self._longest] @ w[:, : self._longest].T).to(torch.int32)
        for start in range(self._longest, k, self._longest):
            piece = slice(start, start + self._longest)
            out += (a[:, piece] @ w[:, piece].T).to(torch.int32)
        return out


KERNELS: dict[str, Gemm] = {
    "int8": Int8Gemm(),
    "float32": FloatGemm("float32", torch.float32, 24),
    "float64": FloatGemm("float64", torch.float64, 53),
}


def is_exact(kernel: Gemm, shapes: list[tuple[int, int]], device: torch.device) -> bool:
    """Whether `kernel` gives known answers for weights of `shapes` (n, k) on `device`, extremes included."""
    for n, k in shapes:
        n = min(n, 96 + n % 32)  # kernels care for multiples
        generator = torch.Generator().manual_seed(n * 65537 + k)
        for rows in (1, 15, 40):
            q = torch.randint(-127, 128, (rows, k), generator=generator)
            w = torch.randint(-127, 128, (n, k), generator=generator)
            q[0], w[0] = 127, 127  # the largest sum there is ...
            w[1] = -127  # ... and the smallest
            w[2] = torch.where(torch.arange(k) % 4 < 2, 127, -127)  # and where pairwise saturation shows
            expected = (q.double() @ w.double().T).to(torch.int32)  # below 2^53, so exact in any order
            try:
                got = kernel.multiply(q.to(device, torch.int8), kernel.prepare(w.to(device, torch.int8)))
            except RuntimeError:  # not built for this processor or device
                return False
            if not torch.equal(got.cpu(), expected):
                return False
    return True


def _seconds(kernel: Gemm, shape: tuple[int, int], device: torch.device) -> float:
    n, k = shape
    w = kernel.prepare(torch.ones((n, k), dtype=torch.int8, device=device))
    q = torch.ones((32, k), dtype=torch.int8, device=device)
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        kernel.multiply(q, w).max().item()
        best = min(best, time.perf_counter() - start)
    return best


def choose(shapes: list[tuple[int, int]], device: torch.device, name: str | None = None) -> Gemm:
    """The fastest kernel that is exact here for weights of `shapes`; only `name` is considered if given.

    Raises:
        InexactMachineError: no kernel is exact.
    """
    candidates = [KERNELS[name]] if name else list(KERNELS.values())
    exact = [kernel for kernel in candidates if is_exact(kernel, sorted(set(shapes)), device)]
    if not exact:
        tried = ", ".join(kernel.name for kernel in candidates)
        raise InexactMachineError(f"no matrix product is exact on this machine (tried {tried}); use another device or torch build")
    if len(exact) == 1:
        return exact[0]
    return min(exact, key=lambda kernel: _seconds(kernel, max(shapes, key=lambda s: s[1]), device))
