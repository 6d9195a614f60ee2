"""Codes a text in this process, under whatever settings its environment imposes, and prints what came out as JSON.

    python exactness_worker.py MODEL TEXT [--decode ARCHIVE] [--option=value ...]

MODEL is a registry ID, a folder, or new. The archive's bytes must not depend on anything but MODEL, TEXT, --lanes and --parts:
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

from llmzip.codec.block_codec import BlockCodec
from llmzip.codec.codec import Codec
from llmzip.codec.loaded_models import LoadedModels
from llmzip.codec.policy import Policy
from llmzip.engine.compiled import CompiledTransformer
from llmzip.errors import InexactMachineError
from llmzip.options import Options, is_new
from llmzip.parameters import LEVELS


def main() -> None:
    model, text, *rest = sys.argv[1:]
    settings = dict(arg[2:].split("=", 1) for arg in rest)
    given = settings.pop("decode", None)
    numbers = {key: int(settings.pop(key)) for key in ("lanes", "threads", "rows") if key in settings}
    adapter = LEVELS[max(LEVELS)].adapter if settings.pop("parts", "") == "all" else None
    around = settings.pop("surroundings", "")
    options = Options(model=model, adapter=adapter, **numbers, **settings)  # type: ignore[arg-type]
    codec = Codec(options, blocks=BlockCodec(LoadedModels(options), Policy.MODEL))
    data = Path(text).read_bytes()
    surroundings: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if around:
        from tests.support.surroundings import SURROUNDINGS  # imports torch

        surroundings = SURROUNDINGS[around]()
    try:
        with surroundings:
            archive = codec.compress(data)
            decoded = codec.decompress(Path(given).read_bytes() if given else archive) == data
    except InexactMachineError as e:
        print(json.dumps({"refused": str(e)}))
        return
    transformer = None if is_new(model) else codec.blocks.models.own().transformer
    result = {
        "archive": base64.b64encode(archive).decode(),
        "decoded": decoded,
        "engine": transformer.name if transformer else "compiled network",
        "compiled": transformer is None or isinstance(transformer, CompiledTransformer),
        "aten": sys.modules["torch"].backends.cpu.get_cpu_capability() if "torch" in sys.modules else "",  # of the definition, too
        "versions": {d.name.replace("-", "_"): d.version for d in distributions()} | {"Python": platform.python_version()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
