"""Runs a target over many inputs and keeps account: outcomes, time, memory, and what should not have happened."""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_STATUS, _REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Tally:
    """Of one target.

    Attributes:
        outcomes: how many inputs ended in which.
        seconds: of the processor.
        slowest: seconds, and the input that took them.
        peak: bytes of memory taken beyond those before, at most; None where that is not known.
        broken: inputs that ended as none should, and how.
    """

    name: str
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    slowest: tuple[float, Any] = (0.0, None)
    peak: int | None = None
    broken: list[tuple[Any, BaseException]] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        """How many there were."""
        return self.outcomes.total()


def run(name: str, target: Callable[[Any], str], inputs: Iterable[Any], wall: float | None = None) -> Tally:
    """Runs `target` on all inputs, or for `wall` seconds."""
    tally, end = Tally(name), time.monotonic() + (wall or 0)
    before = _resident(reset=True)
    for data in inputs:
        start = time.process_time()
        try:
            outcome = target(data)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as e:  # libraries may panic
            tally.broken.append((data, e))
            outcome = f"BROKEN: {type(e).__name__}"
        took = time.process_time() - start
        tally.outcomes[outcome] += 1
        tally.seconds += took
        if took > tally.slowest[0]:
            tally.slowest = took, data
        if wall and time.monotonic() > end:
            break
    after = _resident()
    tally.peak = after - before if before and after else None
    return tally


def _resident(reset: bool = False) -> int | None:
    """Bytes of memory: the most since the last reset, or those now, with which the count starts anew."""
    with contextlib.suppress(OSError):  # Linux alone has this
        if reset:
            _REFS.write_text("5")
        found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())
        return 1024 * int(found[1]) if found else None
    return None


def table(tallies: list[Tally]) -> str:
    """Lines of Markdown."""
    lines = ["| target | inputs | outcomes | seconds | slowest, ms | memory, MB |", "|---|---|---|---|---|---|"]
    for t in tallies:
        outcomes = ", ".join(f"{name} {n:,}" for name, n in t.outcomes.most_common())
        peak = "-" if t.peak is None else f"{t.peak / 1e6:.0f}"
        lines.append(f"| {t.name} | {t.inputs:,} | {outcomes} | {t.seconds:.0f} | {1000 * t.slowest[0]:.0f} | {peak} |")
    return "\n".join(lines)
