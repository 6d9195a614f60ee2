"""Section 7: the integer model, its configuration, tensors and digest."""

import hashlib
import json
import struct
from dataclasses import dataclass

import numpy as np
from alphabet import symbol_bytes, tokenizer_hash
from conversion import integer_tensors
from errors import ModelError
from files import read_model

REGISTERED_FILE = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
REGISTERED = {
    "near_heads": [2, 4, 27, 32, 33, 35, 36, 37, 38, 39, 40, 41, 44, 45, 48, 49, 53, 54, 55, 59, 66, 73, 75, 76, 77, 82, 83, 87],
    "near_window": 256,
    "opening": [2031, 45, 198],
}


@dataclass
class Model:
    """A model as decoding needs it. Matrices hold integers, as float32 for fast products."""

    config: dict  # section 7.1
    matrices: dict  # section 7.2, by name
    scales: dict  # float32, by the name of the matrix
    vectors: dict  # float32 gains and biases, by name
    digest: bytes  # section 7.3, all 32 bytes
    tokenizer_parts: dict  # section 5.3

    def __post_init__(self):
        self.bytes_of = symbol_bytes(self.tokenizer_parts)
        self.tokenizer = tokenizer_hash(self.tokenizer_parts)


def load(path, chosen=None):
    """The model in a GGUF file or a folder. `chosen`: what of a configuration is not in a model's files, if it has any of that:
    `opening`, or `near_heads` with `near_window`. Those of the registered model are known (section 7.4)."""
    try:
        return converted(read_model(path), chosen or {})
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from None
    except (KeyError, ValueError, IndexError, TypeError, struct.error) as error:
        raise ModelError(f"{path} is not a model this decoder can use: {error!r}") from None


def converted(source, chosen):
    """The integer model of a source."""
    config = source.config | (REGISTERED if source.sha256 == REGISTERED_FILE else {}) | chosen
    check(config)
    tensors = integer_tensors(config, source.weights, source.factors)
    floats = {name: t for name, t in tensors.items() if t.dtype == np.float32}
    scales = {name.removesuffix(".scale"): t for name, t in floats.items() if name.endswith(".scale")}
    vectors = {name: t for name, t in floats.items() if not name.endswith(".scale")}
    small = all((abs(t) <= 2**16).all() for t in vectors.values())
    if not small or not all((t > 0).all() and (t <= 16).all() for t in scales.values()):
        raise ValueError("its scales, gains or biases are not within the bounds of section 7.2")
    digest = model_digest(config, tensors)
    matrices = {name: t.astype(np.float32) for name, t in tensors.items() if t.dtype != np.float32}
    return Model(config, matrices, scales, vectors, digest, source.tokenizer)


def check(config):
    """Section 7.1: the bounds of a configuration."""
    c = config
    sizes = [c[name] for name in ("layers", "width", "heads", "kv_heads", "head_dim", "ffn", "vocab")]
    good = all(1 <= size <= 2**24 for size in sizes) and c["layers"] <= 1024 and c["heads"] % c["kv_heads"] == 0
    good = good and all(size <= 2**17 for size in (c["width"], c["ffn"], c["heads"] * c["head_dim"])) and c["head_dim"] <= 1024
    good = good and all(c[name] % 4 == 0 for name in ("width", "head_dim", "ffn"))
    good = good and 1 < c["rope_base"] < float("inf") and 0 < c["norm_eps"] < 1
    slower = c.get("rope_divisors", [1] * (c["head_dim"] // 2))
    good = good and len(slower) == c["head_dim"] // 2 and all(d == 0 or 1 <= d <= 1024 for d in slower)
    own = c.get("layer_windows", [0] * c["layers"])
    good = good and len(own) == c["layers"] and all(0 <= w <= 2**24 for w in own) and 1 < c.get("window_rope_base", 2) < float("inf")
    good = good and all(0 <= i < c["layers"] for i in c.get("unrotated_layers", []))
    tokens = [c["bos"], *c.get("opening", [])]
    if not good or len(tokens) > 65 or not all(0 <= t < c["vocab"] for t in tokens):
        raise ValueError("its configuration is not within the bounds of section 7.1")


def model_digest(config, tensors):
    """Section 7.3."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode("ascii"))
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype.str[1:]} {list(tensor.shape)}\n".encode("ascii"))
        digest.update(np.ascontiguousarray(tensor))
    return digest.digest()


def match(model, record):
    """Section 3.2: no other model than the one of the record may be used."""
    if model.digest[:10] != record.digest:
        raise ModelError(f"the archive needs {record.model_id} of digest {record.digest.hex()}; this one has {model.digest[:10].hex()}")
    if model.tokenizer[:6] != record.tokenizer:
        raise ModelError(f"the archive needs a tokenizer of hash {record.tokenizer.hex()}; this one has {model.tokenizer[:6].hex()}")
    return model
