"""Sends signals to the program at random moments: which files are there afterwards, and how soon the process has ended.

    python scripts/faults.py [--moments N] [--model ID] [--bytes N] [--text FILE] [--seed N] [--way WAY]... [--signal NAME]...
                             [--seconds S] [OPTION]...

For every way of running the program and every signal there are N runs on a text. Each run has a folder of its own, and gets the signal
at another moment. Half of the moments lie anywhere in the time that such a run takes. The other half lie in the hundredth of a second
after the whole output was written to the temporary file: then the output is put on disk and gets its name, and the source is removed.
A run is *whole* if

- the file with the final name is exactly what an undisturbed run makes, or there is no such file;
- the source is unchanged, or `--rm` was given and the whole output is there;
- no temporary file is left (after SIGKILL there may be one; these are counted separately);
- it ended by that signal or, if the signal came too late, with 0;
- it printed nothing, except one line after SIGINT, and how long decoding will take if that is long, as on a busy machine.

--seconds is for long texts: then only compression runs, all moments lie in its first S seconds, and there is no undisturbed run to
compare with.

Prints a table in Markdown, and the runs that were not whole. OPTIONs go to `llmzip compress`. The time to the end counts from sending
the signal until the process has ended. If SIGINT comes while Python itself starts, before it runs the program, Python ends with a
traceback; such a run is counted as early.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from llmzip.models.registry import DEFAULT_MODEL

ROOT = Path(__file__).parent.parent
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGKILL")
WAYS = {
    "compress": ["compress"],
    "compress --verify": ["compress", "--verify"],
    "compress --rm": ["compress", "--rm"],
    "decompress": ["decompress"],
    "decompress --rm": ["decompress", "--rm"],
    "test": ["test"],
}
_LAST = 0.01  # seconds after the last byte was written, for late moments


@dataclass
class Row:
    """The results of the runs of one way and signal."""

    runs: int = 0
    ended: int = 0  # runs that the signal ended
    outputs: int = 0  # that had their final name
    left: int = 0  # temporary files
    early: int = 0  # runs that ended while Python started
    longest: float = 0.0  # seconds from the signal to the end, among the runs that it ended
    wrong: list[str] = field(default_factory=list)


class Ways:
    """Runs of the program on one text.

    Args:
        text: the content.
        options: for `compress`.
        model: the one to use.
        seconds: for long runs, all moments lie in so many first seconds; else None.
    """

    def __init__(self, text: bytes, options: list[str], model: str, seconds: float | None) -> None:
        self.text, self.options, self.within = text, options, seconds
        self.environment = os.environ | {"LLMZIP_MODEL": model}
        self.archive, self._seconds = b"", {} if seconds is None else dict.fromkeys(WAYS, seconds)
        if seconds is None:
            with tempfile.TemporaryDirectory() as place:  # this run compiles kernels that are not compiled yet
                (Path(place) / "a").write_bytes(text)
                subprocess.run(self._command("compress"), cwd=place, env=self.environment, check=True)
                self.archive = (Path(place) / "a.llz").read_bytes()

    def seconds(self, way: str) -> float:
        """What an undisturbed run takes."""
        if way not in self._seconds:
            start = time.monotonic()
            self.run(way, None, 0.0, Row())
            self._seconds[way] = time.monotonic() - start
        return self._seconds[way]

    def _command(self, way: str) -> list[str]:
        name = "a" if way.startswith("compress") else "a.llz"
        options = self.options if way.startswith("compress") else []
        return [sys.executable, "-m", "llmzip", *WAYS[way], *options, name]

    def run(self, way: str, kind: signal.Signals | None, moment: float, row: Row, late: bool = False) -> None:
        """One run that gets the signal `kind` after `moment` seconds; if `late`, these count from when the output is written. Adds to `row`."""
        forward = way.startswith("compress")
        source, output = ("a", "a.llz") if forward else ("a.llz", "a")
        contents = {"a": self.text, "a.llz": self.archive}
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            (folder / source).write_bytes(contents[source])
            process = subprocess.Popen(self._command(way), cwd=folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            if kind is not None:
                while late and process.poll() is None and not _written(folder, output, len(contents[output])):
                    time.sleep(0.0005)
                time.sleep(moment)
                process.send_signal(kind)
            sent = time.monotonic()
            said = b"".join(process.communicate())
            took = time.monotonic() - sent
            found = {p.name: p.read_bytes() for p in folder.iterdir()}
        left = [name for name in found if name.startswith(".llmzip-")]
        row.runs += 1
        row.left += len(left)
        row.outputs += output in found
        said = b"".join(line for line in said.splitlines(keepends=True) if b" bytes to decode, about " not in line)
        early = kind == signal.SIGINT and said.endswith(b"KeyboardInterrupt\n") and b"in run\n" not in said
        row.early += early
        by_signal = kind is not None and process.returncode == -kind
        if by_signal:
            row.ended += 1
            row.longest = max(row.longest, took)
        reasons = {
            "output": output in found and found[output] != contents[output],
            "source": found.get(source) != contents[source] and not ("--rm" in way and source not in found and output in found),
            "other files": bool(set(found) - {source, output, *left}) or (bool(left) and kind != signal.SIGKILL),
            f"exit {process.returncode}": not (by_signal or early or process.returncode == 0),
            f"said {said!r}": bool(said) and not early and not (kind == signal.SIGINT and said.count(b"\n") == 1),
        }
        row.wrong += [f"{way}, {kind and kind.name}, {moment:.3f} s: {reason}" for reason, holds in reasons.items() if holds]

    def hit(self, way: str, kind: signal.Signals, moments: int, chance: random.Random) -> Row:
        """Makes one run for each moment."""
        row, seconds = Row(), self.seconds(way)
        for i in range(moments):
            late = i % 2 == 1 and way != "test" and self.within is None
            self.run(way, kind, chance.uniform(0, _LAST if late else seconds), row, late)
        return row


def _written(folder: Path, output: str, size: int) -> bool:
    """Whether the whole output is there, under its final or a temporary name."""
    for path in folder.iterdir():
        if path.name == output:
            return True
        with contextlib.suppress(FileNotFoundError):
            if path.name.startswith(".llmzip-") and path.stat().st_size >= size:
                return True
    return False


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--bytes", type=int, default=1500)
    parser.add_argument("--text", type=Path, default=ROOT / "examples" / "harbour.txt")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--way", action="append", choices=[*WAYS])
    parser.add_argument("--signal", action="append", choices=SIGNALS)
    given, options = parser.parse_known_args()
    for name in SIGNALS[:3]:  # a shell makes background jobs ignore them, and the program would inherit that
        signal.signal(signal.Signals[name], signal.SIG_DFL)
    ways = Ways(given.text.read_bytes()[: given.bytes], options, given.model, given.seconds)
    chance, wrong = random.Random(given.seed), []
    print(
        "| run | undisturbed, s | signal | runs | ended by it | early | whole outputs | not whole | temporary files left | longest to the end, ms |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for way in given.way or (WAYS if given.seconds is None else ["compress"]):
        for name in given.signal or SIGNALS:
            row = ways.hit(way, signal.Signals[name], given.moments, chance)
            broken = len({reason.partition(" s: ")[0] for reason in row.wrong})
            cells = [
                way,
                f"{ways.seconds(way):.1f}",
                name,
                row.runs,
                row.ended,
                row.early,
                row.outputs,
                broken,
                row.left,
                f"{1000 * row.longest:.0f}",
            ]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)
            wrong += row.wrong
    print("\n".join(wrong))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
