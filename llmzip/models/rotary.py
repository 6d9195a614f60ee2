"""How fast each pair of a rotary position turns, in decimals of fixed precision: the caller's own settings of decimals change nothing.

Pair i of a head of size d turns by base^(-2i/d) / divisor_i radians a position. Most models have no divisors. Llama 3.1 and later have them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import Any

import numpy as np

from llmzip.errors import ModelFormatError
from llmzip.models import understood

CONTEXT = Context(prec=60, rounding=ROUND_HALF_EVEN, Emin=-999999, Emax=999999, capitals=1, clamp=0, flags=[], traps=[])
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211707")


def turns_per_position(base: float, head_dim: int, divisors: Sequence[float] = ()) -> list[Decimal]:
    """Turns a position of each of the head_dim / 2 pairs. A divisor of 0 stands for a pair that does not turn."""
    half = head_dim // 2
    with localcontext(CONTEXT):
        log_base = Decimal(base).ln()
        turns = [(-log_base * i / half).exp() / (2 * PI) for i in range(half)]
        return [t / Decimal(d) if d else Decimal(0) for t, d in zip(turns, divisors, strict=True)] if divisors else turns


def partly(base: float, head_dim: int, turning: int, scaled: tuple[float, ...]) -> tuple[float, tuple[float, ...]]:
    """Base and divisors of a head of which only `turning` values turn. They turn as a whole head of that size would, by `base` and the divisors `scaled`.

    Raises:
        ModelFormatError: no head can turn so.
    """
    if turning == head_dim:
        return base, scaled
    if not 0 < turning < head_dim or turning % 2:
        raise ModelFormatError(f"{turning} of the {head_dim} values of a head turn, which llmzip does not support; use another model")
    with localcontext(CONTEXT):
        larger = float((Decimal(base).ln() * head_dim / turning).exp())
    return larger, (scaled or (1.0,) * (turning // 2)) + (0.0,) * ((head_dim - turning) // 2)


def divisors(where: str, rope: Mapping[str, Any], base: float, head_dim: int) -> tuple[float, ...]:
    """Divisors of the pairs, from a configuration's parameters of rotation; none if positions are not scaled.

    With `linear`, every divisor is the factor. With `llama3`, a pair that turns at least `high_freq_factor` times within the original context keeps its
    pace, one that turns at most `low_freq_factor` times gets the factor, and between the two the pace is interpolated.

    Raises:
        ModelFormatError: a scaling of another kind.
    """
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "linear":
        understood.check(where, rope, understood.HF_ROPE_LINEAR, frozenset(), understood.HF_ROPE_FIXED)
        return (_float32(rope["factor"]),) * (head_dim // 2)
    if kind == "llama3":
        understood.check(where, rope, understood.HF_ROPE_LLAMA3, frozenset(), understood.HF_ROPE_FIXED)
        return _llama3(rope, base, head_dim)
    understood.check(
        where, rope, frozenset({"rope_theta"}), frozenset(), understood.HF_ROPE_FIXED | {"rope_type": "default", "type": "default"}
    )
    return ()


def _llama3(rope: Mapping[str, Any], base: float, head_dim: int) -> tuple[float, ...]:
    with localcontext(CONTEXT):
        factor, low, high = (Decimal(float(rope[key])) for key in ("factor", "low_freq_factor", "high_freq_factor"))
        original = int(rope["original_max_position_embeddings"])
        if not 0 < low < high:
            raise ModelFormatError("low_freq_factor is not below high_freq_factor; the file is damaged")
        within = [original * turns for turns in turns_per_position(base, head_dim)]  # the original context
        kept = [min(max((turns - low) / (high - low), Decimal(0)), Decimal(1)) for turns in within]  # share of the pace
        return tuple(_float32(1 / ((1 - share) / factor + share)) for share in kept)


def _float32(value: Any) -> float:
    """Rounded to float32."""
    with np.errstate(over="ignore"):
        return float(np.float32(float(value)))
