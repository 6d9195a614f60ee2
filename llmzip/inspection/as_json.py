"""An inspection as JSON."""

from __future__ import annotations

from typing import Any

from llmzip.inspection.result import Inspection


def document(inspection: Inspection, name: str, whole: int | None) -> dict[str, Any]:
    """Everything an inspection says, of values that JSON has. Bytes that are not UTF-8 are escaped in texts, exact in `hex`."""
    size = len(inspection.content)
    return {
        "file": name,
        "bytes": size,
        "file_bytes": whole,
        "text_bytes": len(inspection.text),
        "model": inspection.model,
        "level": inspection.level,
        "lanes": inspection.lanes,
        "bits": inspection.total,
        "stream_bytes": inspection.stream,
        "archive_bytes": inspection.archive,
        "bits_per_byte": 8 * inspection.archive / size if size else None,
        "held": inspection.held,
        "foreseen": inspection.foreseen,
        "sizes": inspection.sizes(),
        "histogram": [b._asdict() for b in inspection.bands()],
        "tokens": [_token(inspection, i) for i in range(len(inspection))],
    }


def _token(inspection: Inspection, i: int) -> dict[str, Any]:
    start, data, bits, guesses = inspection.token(i)
    best = [{"text": _text(g.data), "hex": g.data.hex(), "chance": g.chance} for g in guesses]
    return {"byte": start, "text": _text(data), "hex": data.hex(), "bits": bits, "guesses": best}


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
