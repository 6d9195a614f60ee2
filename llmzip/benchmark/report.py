"""What was measured, as a table, CSV and JSON, with the model's size counted against what it saves."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import Any

from llmzip.benchmark.measure import Measurement

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


@dataclass(frozen=True)
class ModelCost:
    """What having a model takes, once.

    Attributes:
        download: bytes that travel; None if it did not come over a network.
        disk: bytes of the converted model in the cache.
        start: seconds until it was ready.
    """

    model_id: str
    download: int | None
    disk: int
    start: float

    def __str__(self) -> str:
        travels = f"{human(self.download)} to download, " if self.download is not None else ""
        return f"{self.model_id}: {travels}{human(self.disk)} on disk"


def break_even(model_bytes: int, theirs: float, ours: float) -> float | None:
    """Bytes of text after which llmzip has saved the model's size against a competitor; None if never.

    Args:
        model_bytes: the model's size.
        theirs, ours: bits per byte.
    """
    return 8 * model_bytes / (theirs - ours) if theirs > ours else None


@dataclass
class Report:
    """All measurements of a run.

    Attributes:
        ours: what the model takes that each contender which is llmzip runs on, by the contender's name.
    """

    ours: dict[str, ModelCost]
    threads: int
    rows: list[Measurement] = field(default_factory=list)

    @property
    def models(self) -> list[ModelCost]:
        """Each model once."""
        return list(dict.fromkeys(self.ours.values()))

    def totals(self) -> list[Measurement]:
        """Sums over the files, of those that did all of them."""
        files = {r.file for r in self.rows}
        sums = []
        for name in dict.fromkeys(r.contender for r in self.rows):
            own = [r for r in self.rows if r.contender == name]
            if len(own) == len(files):
                there, back = sum(r.compress_seconds for r in own), sum(r.decompress_seconds for r in own)
                content, archive = sum(r.content for r in own), sum(r.archive for r in own)
                sums.append(Measurement(f"{len(files)} files", name, own[0].by, content, archive, there, back))
        return sums if len(files) > 1 else list(self.rows)

    def paid_off(self, row: Measurement, rows: list[Measurement]) -> dict[str, dict[str, float | None]]:
        """By contender of ours, for a competitor's row: text after which the download, and the space on disk, have paid off."""
        paid = {}
        for own in rows:
            if own.contender in self.ours and own.file == row.file and row.contender not in self.ours:
                model = self.ours[own.contender]
                costs = {"download": model.download, "disk": model.disk}
                paid[own.contender] = {
                    k: break_even(n, row.bits_per_byte, own.bits_per_byte) for k, n in costs.items() if n is not None
                }  # fmt: skip
        return paid

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        models = [{"id": m.model_id, "download": m.download, "disk": m.disk, "start_s": round(m.start, 3)} for m in self.models]
        first = dict(models[0])
        rows, sums = self.rows, self.totals()
        results = [_values(r) | {"pays_off_after": self.paid_off(r, rows)} for r in rows]
        totals = [_values(r) | {"pays_off_after": self.paid_off(r, sums)} for r in sums]
        once = {"start_s": first.pop("start_s"), "model": first}  # as before there could be several
        return {"models": models, **once, "threads": self.threads, "results": results, "totals": totals}

    def as_csv(self) -> str:
        """One row for each file and contender; sizes in bytes; an empty field says never, or does not apply.

        The model's size stands in all rows if there is one model, else in its own.
        """
        lines, only = [], self.models[0] if len(self.models) == 1 else None
        for row in self.rows:
            line, model = _values(row), only or self.ours.get(row.contender)
            paid = self.paid_off(row, self.rows)
            for name in self.ours:
                for cost in ("download", "disk"):
                    value = paid.get(name, {}).get(cost)
                    line[f"{name.replace(' -', '_').replace(' ', '_')}_pays_off_after_{cost}"] = "" if value is None else round(value)
            lines.append(line | {"model_download": model.download if model else None, "model_disk": model.disk if model else None})
        out = io.StringIO()
        writer = csv.DictWriter(out, lines[0])
        writer.writeheader()
        writer.writerows(lines)
        return out.getvalue()

    def as_table(self) -> str:
        """For people to read."""
        sums, files = self.totals(), list(dict.fromkeys(r.file for r in self.rows))
        parts = [self._sizes([r for r in self.rows if r.file == file]) for file in files]
        if len(files) > 1:
            parts.append(self._sizes(sums))
        return "\n\n".join([*parts, self._pay_offs(sums)])

    def _sizes(self, rows: list[Measurement]) -> str:
        width = self._width()
        head = f"{'':<{width}}{'bytes':>13}{'bits/byte':>11}{'compress':>13}{'decompress':>13}  measured"
        lines = [f"{rows[0].file}, {rows[0].content:,} bytes", head]
        for r in sorted(rows, key=lambda r: r.archive):
            speeds = f"{human(r.compress_speed) + '/s':>13}{human(r.decompress_speed) + '/s':>13}"
            how = "library calls" if r.by == "library" else "whole processes"
            lines.append(f"{r.contender:<{width}}{r.archive:>13,}{r.bits_per_byte:>11.4f}{speeds}  {how}")
        return "\n".join(lines)

    def _width(self) -> int:
        """Characters of a column of contenders."""
        return max(12, *(len(r.contender) + 2 for r in self.rows))

    def _pay_offs(self, rows: list[Measurement]) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        if len(self.models) == 1:
            (m,) = self.models
            what, ready = f"model, {m}, once", f"It was ready after {m.start:.1f} s"
        else:
            what = f"models, {'; '.join(map(str, self.models))}; once"
            ready = f"They were ready after {', '.join(f'{m.start:.1f}' for m in self.models)} s"
        lines = [
            f"llmzip's archives do not hold the {what} for all texts.",
            f"{ready}, which counts for no speed; llmzip ran on {threads}, the others on one.",
        ]
        width, first = max(22, *(len(name) + 12 for name in self.ours)), self._width()
        others = [r for r in sorted(rows, key=lambda r: r.archive) if r.contender not in self.ours]
        if others:
            of = "download / disk" if any(m.download is not None for m in self.models) else "disk"
            lines += ["", f"Text after which the model has paid for itself ({of}), were all text like this:"]
            lines.append(f"{'against':<{first}}" + "".join(f"{name:>{width}}" for name in self.ours))
        for row in others:
            paid = self.paid_off(row, rows)
            cells = (
                " / ".join("never" if n is None else human(n) for n in paid[name].values()) if name in paid else "-" for name in self.ours
            )
            lines.append(f"{row.contender:<{first}}" + "".join(f"{cell:>{width}}" for cell in cells))
        return "\n".join(lines)


def human(size: float) -> str:
    """A number of bytes in powers of 1000, to three digits."""
    unit = 0
    while size >= 999.5 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    digits = 0 if size >= 99.95 or unit == 0 else 1 if size >= 9.995 else 2
    return f"{size:,.{digits}f} {_UNITS[unit]}"


def _values(row: Measurement) -> dict[str, Any]:
    return {
        "file": row.file,
        "bytes": row.content,
        "contender": row.contender,
        "measured": row.by,
        "archive": row.archive,
        "bits_per_byte": round(row.bits_per_byte, 4),
        "compress_s": float(f"{row.compress_seconds:.4g}"),
        "decompress_s": float(f"{row.decompress_seconds:.4g}"),
        "compress_bytes_per_s": round(row.compress_speed),
        "decompress_bytes_per_s": round(row.decompress_speed),
    }
