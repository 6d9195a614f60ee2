"""Measures the machine's yardstick: tokens per second of a plain float32 forward pass, with logits for every token.

    python scripts/yardstick.py FILE [PASSES]

It has the weights of llmzip's default model and uses torch's own operations (linear layers, norms and causal attention), in windows
of 1,024 tokens one after another. Loading is not counted. Prints the speed of each pass over at most 4,096 tokens.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from float_reference import float_model

from llmzip.coding.alphabet import Alphabet
from llmzip.models.float_model import FloatModel, layer_shapes
from llmzip.models.registry import DEFAULT_MODEL

CONTEXT = 1024
_TOKENS = 4096


class PlainLlama:
    """A Llama in float32, as one writes it in torch for speed."""

    def __init__(self, model: FloatModel) -> None:
        self.config = c = model.config

        def tensor(name: str) -> torch.Tensor:
            return torch.tensor(model.tensor(name))

        self.layers = []
        for i in range(c.layers):
            parts = {part: tensor(f"{i}.{part}") for part in layer_shapes(c)}
            qkv, gate_up = (torch.cat([parts.pop(n) for n in names]) for names in (("q", "k", "v"), ("gate", "up")))
            self.layers.append(parts | {"qkv": qkv, "gate_up": gate_up})
        self.embed, self.norm, self.head = (tensor(n) for n in ("embed", "norm", "head"))
        half = c.head_dim // 2
        angle = torch.arange(CONTEXT).double()[:, None] * c.rope_base ** (-torch.arange(half, dtype=torch.float64) / half)
        self.cos, self.sin = (torch.cat([f(angle)] * 2, -1).float() for f in (torch.cos, torch.sin))

    @torch.inference_mode()
    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """float32 [t, vocab] for tokens [t], t <= CONTEXT."""
        c, t = self.config, len(tokens)

        def rotated(x: torch.Tensor) -> torch.Tensor:
            a, b = x.chunk(2, -1)
            return x * self.cos[:t] + torch.cat([-b, a], -1) * self.sin[:t]

        x = self.embed[tokens]
        for w in self.layers:
            h = F.rms_norm(x, (c.width,), w["attn_norm"], c.norm_eps)
            q, k, v = (h @ w["qkv"].T).split([c.query_width, c.kv_width, c.kv_width], -1)
            q, k, v = (y.view(1, t, -1, c.head_dim).transpose(1, 2) for y in (q, k, v))
            o = F.scaled_dot_product_attention(rotated(q), rotated(k), v, is_causal=True, enable_gqa=True)
            x = x + o.transpose(1, 2).reshape(t, -1) @ w["o"].T
            gate, up = (F.rms_norm(x, (c.width,), w["ffn_norm"], c.norm_eps) @ w["gate_up"].T).chunk(2, -1)
            x = x + (F.silu(gate) * up) @ w["down"].T
        return F.rms_norm(x, (c.width,), self.norm, c.norm_eps) @ self.head.T


def main() -> None:
    """Prints tokens per second, one number for each pass."""
    model = float_model(DEFAULT_MODEL)
    plain = PlainLlama(model)
    tokens = torch.from_numpy(Alphabet(model.tokenizer).encode(Path(sys.argv[1]).read_bytes())[:_TOKENS]).long()
    plain.logits(tokens[:CONTEXT])  # the first call takes longer
    for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 1):
        start = time.perf_counter()
        for at in range(0, len(tokens), CONTEXT):
            plain.logits(tokens[at : at + CONTEXT])
        print(round(len(tokens) / (time.perf_counter() - start), 1), flush=True)


if __name__ == "__main__":
    main()
