"""Codes a text in this process, under whatever settings its environment imposes, and prints what came out as JSON.

    python exactness_worker.py MODEL TEXT [--decode ARCHIVE] [--option=value ...]

MODEL is a registry ID or a folder. The archive's bytes must not depend on anything but MODEL, TEXT and --lanes.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

from llmzip.codec import Codec, Options
from llmzip.container import StoredBlock


class EagerCodec(Codec):
    """Codes everything with the model, however badly it predicts."""

    def _without_model(self, content: bytes) -> tuple[StoredBlock, bool]:
        return StoredBlock(content + bytes(1 << 16)), False


def main() -> None:
    model, text, *rest = sys.argv[1:]
    settings = dict(arg[2:].split("=", 1) for arg in rest)
    given = settings.pop("decode", None)
    numbers = {key: int(settings.pop(key)) for key in ("lanes", "threads", "rows") if key in settings}
    codec = EagerCodec(Options(model=model, **numbers, **settings))  # type: ignore[arg-type]
    data = Path(text).read_bytes()
    archive = codec.compress(data)
    transformer = codec._own_model().transformer
    decoded = [codec.decompress(a) == data for a in [archive, *([Path(given).read_bytes()] if given else [])]]
    result = {
        "archive": base64.b64encode(archive).decode(),
        "decoded": all(decoded),
        "kernel": transformer.gemm.name,
        "compiled": transformer.fused is not None,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
