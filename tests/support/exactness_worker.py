"""Codes a text in this process, under whatever settings its environment imposes, and prints what came out as JSON.

    python exactness_worker.py MODEL TEXT [--decode ARCHIVE] [--option=value ...]

MODEL is a registry ID or a folder. The archive's bytes must not depend on anything but MODEL, TEXT, --lanes and --parts:
`--parts=all` has all of what learns, where a short text's encoder would choose. `--surroundings=NAME` codes in one of `surroundings`. Where nothing is exact, the answer says why.
"""

from __future__ import annotations

import base64
import contextlib
import json
import platform
import sys
from importlib.metadata import distributions
from pathlib import Path

import torch

from llmzip.codec.block_codec import BlockCodec
from llmzip.codec.codec import Codec
from llmzip.codec.loaded_models import LoadedModels
from llmzip.codec.policy import Policy
from llmzip.errors import InexactMachineError
from llmzip.options import Options
from llmzip.parameters import DEFAULT_LEVEL, LEVELS
from tests.support.surroundings import SURROUNDINGS


def main() -> None:
    model, text, *rest = sys.argv[1:]
    settings = dict(arg[2:].split("=", 1) for arg in rest)
    given = settings.pop("decode", None)
    numbers = {key: int(settings.pop(key)) for key in ("lanes", "threads", "rows") if key in settings}
    adapter = LEVELS[DEFAULT_LEVEL].adapter if settings.pop("parts", "") == "all" else None
    around = settings.pop("surroundings", "")
    options = Options(model=model, adapter=adapter, **numbers, **settings)  # type: ignore[arg-type]
    codec = Codec(options, blocks=BlockCodec(LoadedModels(options), Policy.MODEL))
    data = Path(text).read_bytes()
    try:
        with SURROUNDINGS[around]() if around else contextlib.nullcontext():
            archive = codec.compress(data)
            decoded = [codec.decompress(a) == data for a in [archive, *([Path(given).read_bytes()] if given else [])]]
    except InexactMachineError as e:
        print(json.dumps({"refused": str(e)}))
        return
    transformer = codec.blocks.models.own().transformer
    result = {
        "archive": base64.b64encode(archive).decode(),
        "decoded": all(decoded),
        "kernel": transformer.gemm.name,
        "compiled": transformer.fused is not None,
        "operations": ("in one, AMX" if transformer.fused.amx.ndim > 1 else "in one") if transformer.fused else transformer.ops.name,
        "aten": torch.backends.cpu.get_cpu_capability(),
        "versions": {d.name.replace("-", "_"): d.version for d in distributions()} | {"Python": platform.python_version()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
