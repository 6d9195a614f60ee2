"""Figures of documents as a table, as JSON and as CSV, of one model or of several side by side."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from llmzip.measuring.figures import Figure, Total, total


@dataclass
class Report:
    """What was measured.

    Attributes:
        figures: by what a model is called, those of all documents in their order.
        unreadable: what is said of each document that could not be read.
        settings: how it was measured, for JSON.
        seed: of the intervals.
    """

    figures: dict[str, list[Figure]]
    unreadable: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    def totals(self) -> Iterator[tuple[str, str, Total]]:
        """Yield model, group and sums: of all documents first, whose group is empty, then of each group in alphabetical order."""
        for model, figures in self.figures.items():
            yield model, "", total(figures, self.seed)
            for group in sorted({f.group for f in figures} - {""}):
                yield model, group, total([f for f in figures if f.group == group], self.seed)

    def differences(self, most: int) -> list[tuple[Figure, Figure]]:
        """The documents of which the first two models' bits differ most, each with both figures; the largest difference first."""
        if len(self.figures) < 2:
            return []
        first, second = list(self.figures.values())[:2]
        pairs = sorted(zip(first, second, strict=True), key=lambda pair: -abs(pair[0].bits - pair[1].bits))
        return [pair for pair in pairs[:most] if pair[0].bits != pair[1].bits]

    def as_table(self, most: int) -> str:
        """Text for a terminal, with at most so many differences."""
        width = max(len("model"), *(len(model) for model in self.figures))
        within = max(len("group"), *(len(group) for _, group, _ in self.totals()))
        lines = [
            f"{'model':{width}}  {'group':{within}}  {'documents':>9} {'bytes':>12} {'tokens':>11} {'bits/byte':>9} {'95 of 100':>15} {'bits/token':>10}"
        ]
        for model, group, t in self.totals():
            interval = f"{t.interval[0]:.4f}-{t.interval[1]:.4f}" if t.interval else "-"
            lines.append(
                f"{model:{width}}  {group or 'all':{within}}  {t.documents:9,} {t.content:12,} {t.tokens:11,} {t.bits_per_byte:9.4f} {interval:>15} {t.bits_per_token:10.3f}"
            )
        if pairs := self.differences(most):
            a, b = list(self.figures)[:2]
            lines += ["", f"largest differences, bits/byte of {a} and of {b}:"]
            lines += [f"{x.bits_per_byte:9.4f} {y.bits_per_byte:9.4f} {(y.bits - x.bits) / 8:+12,.0f} bytes  {x.name}" for x, y in pairs]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        totals = [
            {"model": model, "group": group, **asdict(t), "bits_per_byte": t.bits_per_byte, "bits_per_token": t.bits_per_token}
            for model, group, t in self.totals()
        ]
        documents = [{"model": model, **asdict(f)} for model, figures in self.figures.items() for f in figures]
        return {"settings": self.settings, "totals": totals, "documents": documents, "unreadable": self.unreadable}

    def as_csv(self) -> str:
        """A line for each model and document."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["model", "document", "group", "bytes", "tokens", "bits", "bits_per_byte", "certified"])
        for model, figures in self.figures.items():
            for f in figures:
                writer.writerow([model, f.name, f.group, f.content, f.tokens, f.bits, f"{f.bits_per_byte:.6f}", int(f.certified)])
        return out.getvalue()
