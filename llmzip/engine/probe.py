"""Compiled operations prove themselves before they are used.

A compiler's mistake, a processor's quirk, or kernels cached from another version would break archives quietly. So at
start the compiled operations run on small known inputs, window and sinks included, and must equal the reference.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmzip.engine.cache import KVCache
from llmzip.engine.rope import rotation
from llmzip.models.config import LlamaConfig
from llmzip.models.rotate import block_size

_WINDOW, _SINKS, _STEPS, _ROUNDS = 20, 3, 9, 4


def operations_agree(fast: Any, slow: Any, config: LlamaConfig) -> bool:
    """Whether two sets of operations give the same bits on small inputs for a model of this shape, on CPU."""
    c = replace(config, layers=1)
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(_run(fast, c), _run(slow, c), strict=True))


def _run(ops: Any, c: LlamaConfig) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    rows = 2 * _STEPS

    def integers(columns: int) -> Tensor:
        return torch.randint(-300_000, 300_000, (rows, columns), generator=generator, dtype=torch.int32)

    def scales(n: int) -> Tensor:
        return torch.rand(n, generator=generator) * 1e-3 + 1e-5

    x = torch.randn(rows, c.width, generator=generator)
    out = [*ops.add_norm_quantise(x, None, None, None, c.norm_eps)]
    out += ops.add_norm_quantise(x, integers(c.width), scales(c.width), scales(rows), c.norm_eps)
    out += ops.swiglu_rotate_quantise(integers(2 * c.ffn), scales(2 * c.ffn), scales(rows) * 10, block_size(c.ffn))
    out.append(ops.scale_logits(integers(512), scales(512), scales(rows)))
    cache = KVCache(c, 2, _WINDOW, _SINKS, _STEPS * _ROUNDS, _STEPS, torch.device("cpu"))
    for _ in range(_ROUNDS):
        slot = cache.make_room(_STEPS)
        p = np.arange(cache.position, cache.position + _STEPS)
        cs, pinned = (torch.from_numpy(rotation(q, c.rope_base, c.head_dim)) for q in (p, np.minimum(p, _WINDOW + _SINKS - 1)))
        acc, col = integers(c.query_width + 3 * c.kv_width), scales(c.query_width + 2 * c.kv_width)
        out += ops.attend(acc, col, scales(rows) * 100, cs, pinned, cache, 0, slot)
        cache.position += _STEPS
    return [*out, x]
