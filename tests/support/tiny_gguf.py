"""The tiny model as a GGUF file, as the format's own library writes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np

from llmzip.models.float_model import layer_shapes
from llmzip.models.sources import load_float_model
from llmzip.models.tokenizer import BYTE_LEVEL, BYTES, TokenizerSpec
from tests.support import tiny

NAMES = {
    "attn_norm": "attn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output",
    "ffn_norm": "ffn_norm", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
}  # fmt: skip


def write_gguf(path: Path, folder: Path, add: Callable[[gguf.GGUFWriter], None] = lambda writer: None, start: bool = True) -> Path:
    """Write the model in `folder`, with rows permuted as the format has them.

    Args:
        add: may add keys and tensors.
        start: whether the file names the token that begins a text.
    """
    c, model = tiny.config(), load_float_model(folder)
    w = gguf.GGUFWriter(path, "llama")
    w.add_block_count(c.layers)
    w.add_embedding_length(c.width)
    w.add_feed_forward_length(c.ffn)
    w.add_head_count(c.heads)
    w.add_head_count_kv(c.kv_heads)
    w.add_rope_freq_base(c.rope_base)
    w.add_layer_norm_rms_eps(c.norm_eps)
    add_tokenizer(w, model.tokenizer)
    if start:
        w.add_bos_token_id(c.bos)
    w.add_tensor("token_embd.weight", model.tensor("embed"))
    w.add_tensor("output_norm.weight", model.tensor("norm"))
    w.add_tensor("output.weight", model.tensor("head"))
    for i in range(c.layers):
        for part in layer_shapes(c):
            t = model.tensor(f"{i}.{part}")
            if part in "qk":
                heads = c.heads if part == "q" else c.kv_heads
                t = t.reshape(heads, 2, c.head_dim // 2, c.width).swapaxes(1, 2).reshape(t.shape)
            w.add_tensor(f"blk.{i}.{NAMES[part]}.weight", np.ascontiguousarray(t))
    add(w)
    finish(w)
    return path


def finish(w: gguf.GGUFWriter) -> None:
    """Write the file."""
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def add_tokenizer(w: gguf.GGUFWriter, tokenizer: TokenizerSpec) -> None:
    """Write a tokenizer. Files have scores, and no merges, for those with byte fallback."""
    tokens = list(tokenizer.tokens)
    w.add_token_list(tokens)
    if tokenizer.kind == BYTE_LEVEL:
        w.add_tokenizer_model("gpt2")
        w.add_tokenizer_pre("gpt-2")
        w.add_token_merges([" ".join(m) for m in tokenizer.merges])
        return
    rank = {a + b: i for i, (a, b) in enumerate(tokenizer.merges)}
    types = [6 if t in BYTES else 4 if i in tokenizer.added else 3 if i in tokenizer.special else 1 for i, t in enumerate(tokens)]
    w.add_tokenizer_model("llama")
    w.add_token_scores([-float(rank.get(t, 0)) for t in tokens])
    w.add_token_types(types)
