"""Section 9.4: models from GGUF files, and from folders with config.json, tokenizer.json and *.safetensors."""

import hashlib
import json
import math
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from pathlib import Path

import family
import neox
import numpy as np
import tokenizer
from quantised import expand, plain
from rotary import PI


@dataclass
class Source:
    """A model as its files give it. `weights(name)` is a float32 array named as in section 9.1, `{layer}.q` and so on."""

    config: dict
    weights: Callable[[str], np.ndarray]
    factors: dict  # section 9.3
    tokenizer: dict  # section 5.3
    sha256: str = ""  # of a GGUF file


def read_model(path):
    """The model in a GGUF file or a folder. Files that are not as expected raise OSError, KeyError, ValueError and the like."""
    path = Path(path)
    return read_folder(path) if path.is_dir() else read_gguf(path)


def read_folder(path):
    """A folder as on a hub."""
    settings = json.loads((path / "config.json").read_text("utf-8"))
    kind = family.OTHER_NAMES.get(settings["model_type"], settings["model_type"])
    if kind not in family.FAMILIES or settings.get("mlp_bias") or (settings.get("attention_bias") and kind not in ("qwen2", "gpt_neox")):
        raise ValueError("config.json asks for more than is defined")
    heads = settings["num_attention_heads"]
    config = {
        "layers": settings["num_hidden_layers"],
        "width": settings["hidden_size"],
        "heads": heads,
        "kv_heads": settings.get("num_key_value_heads") or heads,
        "head_dim": settings.get("head_dim") or settings["hidden_size"] // heads,
        "ffn": settings["intermediate_size"],
        "vocab": settings["vocab_size"],
        "norm_eps": float(np.float32(settings.get("layer_norm_eps" if kind == "gpt_neox" else "rms_norm_eps", 1e-5))),
        "bos": first_token(settings.get("bos_token_id"), settings.get("eos_token_id")),
    }
    members, factors = family.of_folder(kind, settings, config["head_dim"])
    config |= positions(kind, settings, config["head_dim"]) | family.FEATURES.get(kind, {}) | members
    tensors = {}
    for file in sorted(path.glob("*.safetensors")):
        tensors |= safetensors(file)
    names, layers = family.folder_names(kind), "gpt_neox.layers" if kind == "gpt_neox" else "model.layers"
    tied = settings.get("tie_word_embeddings", kind in family.TIED) or f"{names['head']}.weight" not in tensors

    def weights(name):
        layer, _, part = name.rpartition(".")
        if name == "head" and tied:
            part = "embed"
        last = "bias" if part.endswith("_bias") else "weight"
        w = tensors[(f"{layers}.{layer}." if layer else "") + f"{names[part.removesuffix('_bias')]}.{last}"]()
        if kind == "gemma3" and w.ndim == 1:
            w = w + np.float32(1)
        if kind == "gpt_neox":
            return neox.part_of_head(part, w, config)
        return rows_of(part, names, config, w)

    read = neox.folded(weights) if kind == "gpt_neox" else weights
    return Source(config, read, factors, tokenizer.of_folder(path, config["vocab"]))


def rows_of(part, names, config, w):
    """The rows of a tensor that are a part, of those that share it."""
    h = config["head_dim"]
    sizes = {"q": config["heads"] * h, "k": config["kv_heads"] * h, "v": config["kv_heads"] * h, "gate": config["ffn"], "up": config["ffn"]}
    beside = [other for other in sizes if names.get(other) == names.get(part.removesuffix("_bias"))]
    if len(beside) < 2:
        return w
    part = part.removesuffix("_bias")
    first = sum(sizes[other] for other in beside[: beside.index(part)])
    return w[first : first + sizes[part]]


def positions(kind, settings, h):
    """Section 9.4: how positions are rotated, as a part of a configuration."""
    rope = (settings.get("rope_scaling") or {}) | (settings.get("rope_parameters") or {})
    windowed = settings.get("rope_local_base_freq")
    if "full_attention" in rope:
        rope, windowed = rope["full_attention"], rope["sliding_attention"]["rope_theta"]
    base = float(rope.get("rope_theta") or settings.get("rope_theta") or settings.get("rotary_emb_base") or 10000.0)
    if kind == "gpt_neox":
        shares = [rope.get("partial_rotary_factor"), settings.get("partial_rotary_factor"), settings.get("rotary_pct")]
        turning = math.floor(h * next(share for share in shares if share is not None))
        return neox.turned_partly(base, h, turning, divisors(base, turning, rope).get("rope_divisors"))
    found = {"rope_base": base} | ({"window_rope_base": float(windowed)} if windowed else {})
    return found | divisors(base, h, rope)


def first_token(*numbers):
    """The first token that is given, of a list its first."""
    return next(n[0] if isinstance(n, list) else n for n in numbers if n is not None)


def divisors(base, h, rope):
    """Section 9.4: scaled positions, as a part of a configuration."""
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return {}
    if kind == "linear":
        return {"rope_divisors": [float(np.float32(rope["factor"]))] * (h // 2)}
    if kind != "llama3":
        raise ValueError("config.json scales positions in a way that is not defined")
    f, a, b = (Decimal(rope[name]) for name in ("factor", "low_freq_factor", "high_freq_factor"))
    found = []
    with localcontext() as context:
        context.prec = 90
        for i in range(h // 2):
            t = Decimal(rope["original_max_position_embeddings"]) / (2 * PI * Decimal(base) ** (Decimal(2 * i) / Decimal(h)))
            k = min(max((t - a) / (b - a), Decimal(0)), Decimal(1))
            found.append(float(np.float32(float(1 / ((1 - k) / f + k)))))
    return {"rope_divisors": found}


def safetensors(path):
    """Functions that give the tensors of a .safetensors file as float32, by name."""
    data = mapped(path)
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)

    def tensor(kind, shape, begin):
        return plain(kind, data, 8 + size + begin, math.prod(shape)).reshape(shape)

    return {name: lambda t=t: tensor(t["dtype"], t["shape"], t["data_offsets"][0]) for name, t in header.items()}


def mapped(path):
    """The bytes of a file, read as needed."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def read_gguf(path):
    """A GGUF file."""
    data = mapped(path)
    metadata, tensors = gguf_header(data)
    stated = metadata["general.architecture"]
    kind = family.OTHER_NAMES.get(stated, stated)
    setting = {key.removeprefix(f"{stated}."): value for key, value in metadata.items()}
    scaled = setting.get("rope.scaling.type", "none") != "none"
    if kind not in family.FAMILIES or kind == "mistral" or (scaled and kind != "gemma3"):
        raise ValueError("it is of a family, or scales positions in a way, that is not defined")
    heads = setting["attention.head_count"]
    config = {
        "layers": setting["block_count"],
        "width": setting["embedding_length"],
        "heads": heads,
        "kv_heads": setting.get("attention.head_count_kv", heads),
        "head_dim": setting.get("attention.key_length", setting["embedding_length"] // heads),
        "ffn": setting["feed_forward_length"],
        "vocab": len(metadata["tokenizer.ggml.tokens"]),
        "rope_base": setting.get("rope.freq_base", 10000.0),
        "norm_eps": setting["attention.layer_norm_epsilon" if kind == "gpt_neox" else "attention.layer_norm_rms_epsilon"],
        "bos": first_token(metadata.get("tokenizer.ggml.bos_token_id"), metadata.get("tokenizer.ggml.eos_token_id")),
    }
    if kind == "gpt_neox":
        config |= neox.turned_partly(config["rope_base"], config["head_dim"], setting.get("rope.dimension_count", config["head_dim"]), None)
    members, factors = family.of_gguf(kind, setting, config["head_dim"])
    config |= family.FEATURES.get(kind, {}) | members
    names = family.gguf_names(kind)

    def stored(name):
        shape, number, offset = tensors[name]
        return expand(number, data, offset, math.prod(shape)).reshape(shape)

    if "rope_freqs.weight" in tensors:
        config["rope_divisors"] = [float(x) for x in stored("rope_freqs.weight")]

    def weights(name):
        layer, _, part = name.rpartition(".")
        bare = part.removesuffix("_bias")
        where = (f"blk.{layer}." if layer else "") + f"{names[bare]}.{'weight' if part == bare else 'bias'}"
        if name == "head" and where not in tensors:
            return weights("embed")
        w = rows_of(part, names, config, stored(where))
        if kind in family.INTERLEAVED and bare in ("q", "k"):  # from pairs (2i, 2i + 1) of a head to pairs (i, i + h/2)
            w = w.reshape(-1, config["head_dim"] // 2, 2, math.prod(w.shape[1:])).swapaxes(1, 2).reshape(w.shape)
        return neox.ordered(w, config) if kind == "gpt_neox" and bare in ("q", "k") else w

    read = neox.folded(weights) if kind == "gpt_neox" else weights
    return Source(config, read, factors, tokenizer.of_gguf(metadata), hashlib.sha256(data).hexdigest())


def gguf_header(data):
    """Metadata, and shape, type and place of every tensor."""
    scalars = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    at = 0

    def take(form):
        nonlocal at
        values = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return values[0] if len(values) == 1 else values

    def string():
        nonlocal at
        size = take("Q")
        at += size
        return data[at - size : at].decode("utf-8")

    def value(kind):
        if kind == 8:
            return string()
        if kind == 9:
            element, count = take("IQ")
            return [value(element) for _ in range(count)]
        return take(scalars[kind])

    magic, version, tensor_count, metadata_count = take("4sIQQ")
    if magic != b"GGUF" or version not in (2, 3):
        raise ValueError("no GGUF file of version 2 or 3")
    metadata = {}
    for _ in range(metadata_count):
        key = string()
        metadata[key] = value(take("I"))
    found = {}
    for _ in range(tensor_count):
        name, dimensions = string(), take("I")
        shape = [take("Q") for _ in range(dimensions)][::-1]
        found[name] = (shape, *take("IQ"))
    alignment = metadata.get("general.alignment", 32)
    start = -(-at // alignment) * alignment
    return metadata, {name: (shape, kind, start + offset) for name, (shape, kind, offset) in found.items()}
