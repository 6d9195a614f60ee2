"""Ends workers, nodes, links and drivers at moments chosen by a seed: what comes out then, and what is left.

    python scripts/cluster_faults.py [--runs N] [--first N] [--seed N] [--model ID] [--text FILE] [--bytes N] [--block-size N]
                                     [--way WAY]... [--fault NAME]... [--lines FILE]

Compresses or decompresses a text with two workers, by local processes (`processes`), on two nodes of a Ray cluster over loopback
(`nodes`), on two machines with a link between them (`link`: network namespaces, which take root on Linux), or on a cluster that is started for
one run (`local`). Something happens to each run. A run is *right* if

- it ended with 0 and the output is byte by byte what one process makes; or
- it ended with another status and a line on standard error that begins with "llmzip: ", and there is no output; or
- it ended by the signal that it was sent, and there is no output, or all of it;
- nothing else is in the folder, but for one temporary file after SIGKILL;
- 5 seconds later none of its processes lives, here or on a node, whatever ended it. Workers that are cut off from the cluster's head have a minute
  and a half, as Ray needs that long to notice.

Without --model, a tiny model is made from a seed. Each run depends on the seed and its number alone, so --first N --runs 1 repeats one. Prints a
line of JSON for each run (to FILE with --lines), then a table in Markdown, and the runs that were wrong. Exit status 1 if there are any.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "scripts"))

from cluster_places import FAULTS, WAYS, Place, made

from tests.support import tiny

_PATIENCE = 400.0  # seconds that a run may take


@dataclass
class Run:
    """What happened.

    Attributes:
        number: of the run.
        way: where the workers are.
        action: "compress" or "decompress".
        fault: what was done to it.
        moment: seconds after the start, or after the first worker was seen, for what is done to workers.
        status: exit status.
        outcome: "equal", "error" or "ended".
        seconds: from the start to the end.
        gone: seconds from the end until no other process of the run lived.
        said: standard error.
        wrong: why it is not right.
    """

    number: int
    way: str
    action: str
    fault: str
    moment: float
    status: int = 0
    outcome: str = ""
    seconds: float = 0.0
    gone: float = 0.0
    said: str = ""
    wrong: list[str] = field(default_factory=list)


class Runs:
    """Runs on one text.

    Args:
        text: the content.
        model: the one to use.
        block_size: of the archive, in bytes.
        cache: of the driver; nodes have the same one.
    """

    def __init__(self, text: bytes, model: str, block_size: int, cache: Path) -> None:
        self.text, self._size = text, ["--block-size", str(block_size)]
        self._environment = os.environ | {"LLMZIP_MODEL": model, "LLMZIP_CACHE": str(cache), "LLMZIP_OFFLINE": "1"}
        self._usual: dict[tuple[str, str], tuple[float, float]] = {}
        with tempfile.TemporaryDirectory() as folder:  # also converts the model and compiles
            (Path(folder) / "a").write_bytes(text)
            subprocess.run(self._command([], "compress", []), cwd=folder, env=self._environment, check=True)
            self.archive = (Path(folder) / "a.llz").read_bytes()

    def _command(self, before: Sequence[str], action: str, options: Sequence[str]) -> list[str]:
        own = [*self._size, "a"] if action == "compress" else ["a.llz"]
        return [*before, sys.executable, "-m", "llmzip", action, *options, *own]

    def usual(self, place: Place, action: str) -> tuple[float, float]:
        """Seconds to the first worker, and to the end, of a run to which nothing happens."""
        if (place.way, action) not in self._usual:
            run = Run(-1, place.way, action, "none", 0.0)
            first = self.do(place, run, None)
            if run.outcome != "equal" or run.wrong:
                raise SystemExit(f"a run without faults went wrong: {run}")
            self._usual[place.way, action] = (first, run.seconds)
        return self._usual[place.way, action]

    def do(self, place: Place, run: Run, fault: Callable[[subprocess.Popen[bytes]], int] | None, wait_for_worker: bool = True) -> float:
        """One run; return the seconds to the first worker. `fault` is called at its moment, and gives the signal by which the driver ends, or 0."""
        place.prepare()
        source, output = ("a", "a.llz") if run.action == "compress" else ("a.llz", "a")
        contents, first, ended_by = {"a": self.text, "a.llz": self.archive}, 0.0, 0
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / source).write_bytes(contents[source])
            log = Path(folder).with_suffix(".err")
            with log.open("wb") as said:  # no pipe: processes that stay would keep it open
                start = time.monotonic()
                process = subprocess.Popen(
                    self._command(place.before, run.action, place.options), cwd=folder, env=self._environment, stderr=said,
                    start_new_session=True,
                )  # fmt: skip
            while wait_for_worker and process.poll() is None and not place.workers(process.pid):
                time.sleep(0.05)
            first = time.monotonic() - start
            if fault:
                time.sleep(run.moment)
                ended_by = fault(process)
            try:
                run.status = process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                run.wrong.append(f"not ended after {_PATIENCE:.0f} s")
                process.kill()
                run.status = process.wait()
            run.seconds = time.monotonic() - start
            self._wait_for_the_end(place, run, process.pid)
            found = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
            run.said = log.read_text(errors="replace")
            log.unlink()
        whole = found.get(output) == contents[output]
        lines = run.said.splitlines()
        if ended_by == signal.SIGINT and lines[-1:] == ["KeyboardInterrupt"] and "in run\n" not in run.said:
            lines = []  # Python itself, before it ran the program
        run.outcome = "ended" if run.status < 0 else "error" if run.status else "equal"
        temporary = [name for name in found if name.startswith(".llmzip-")]
        reasons = {
            "another output": output in found and not whole,
            "no output": run.status == 0 and output not in found,
            "output in spite of an error": run.status != 0 and output in found and not ended_by,
            "another source": found.get(source) != contents[source],
            f"left {sorted(set(found) - {source, output})}": bool(set(found) - {source, output, *temporary})
            or len(temporary) > (ended_by == signal.SIGKILL and run.status < 0),
            f"status {run.status}": run.status < 0 and run.status != -ended_by,
            "an error that says nothing": run.status > 0 and not any(line.startswith("llmzip: ") for line in lines),
            "other words": any(line and not line.startswith("llmzip: ") for line in lines),
        }
        run.wrong += [reason for reason, holds in reasons.items() if holds]
        return first

    def _wait_for_the_end(self, place: Place, run: Run, session: int) -> None:
        """Wait until all of a run's processes have ended."""
        end = time.monotonic()
        while left := place.left(session):
            if time.monotonic() - end > place.soon:
                run.wrong.append(f"alive after {place.soon:.0f} s: {left}")
                return
            time.sleep(0.05)
        run.gone = time.monotonic() - end


def main() -> None:
    """Prints the lines and the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model")
    parser.add_argument("--text", type=Path, default=ROOT / "examples" / "harbour.txt")
    parser.add_argument("--bytes", type=int, default=14_000)
    parser.add_argument("--block-size", type=int, default=1000)
    parser.add_argument("--way", action="append", choices=[*WAYS])
    parser.add_argument("--fault", action="append", choices=[*FAULTS])
    parser.add_argument("--lines", type=Path)
    given = parser.parse_args()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # a shell makes background jobs ignore them, and the program would inherit that
        signal.signal(signal.Signals[name], signal.SIG_DFL)
    with tempfile.TemporaryDirectory() as folder:
        if given.model is None:
            model, cache = str(tiny.write_folder(Path(folder) / "tiny")), Path(folder) / "cache"
        else:
            from llmzip.models import store

            model, cache = given.model, store.cache_dir()
        runs = Runs(given.text.read_bytes()[: given.bytes], model, given.block_size, cache)
        done = _all(given, runs, cache)
    _print(done)
    sys.exit(any(run.wrong for run in done))


def _all(given: argparse.Namespace, runs: Runs, cache: Path) -> list[Run]:
    """Do all runs, way by way, so that each place is made once."""
    kinds = [
        (way, fault) for way in given.way or WAYS for fault, what in FAULTS.items() if way in what.ways and fault in (given.fault or FAULTS)
    ]
    random.Random(given.seed).shuffle(kinds)
    chosen = [(number, *kinds[number % len(kinds)]) for number in range(given.first, given.first + given.runs)]
    done = []
    for way in WAYS:
        of_way = [(number, fault) for number, its, fault in chosen if its == way]
        if not of_way:
            continue
        with made(way, cache) as place:
            if isinstance(place, str):
                print(json.dumps({"way": way, "skipped": place, "runs": len(of_way)}), flush=True)
                continue
            for number, name in of_way:
                chance, fault = random.Random(f"{given.seed}/{number}"), FAULTS[name]
                action = chance.choice(("compress", "decompress"))
                first, seconds = runs.usual(place, action)
                moment = chance.uniform(0, max(0.1, seconds - first) if fault.to_workers else seconds)
                run = Run(number, way, action, name, round(moment, 3))
                runs.do(place, run, lambda driver, do=fault.do, place=place: do(place, driver), fault.to_workers)  # type: ignore[misc]
                line = json.dumps({key: round(value, 2) if isinstance(value, float) else value for key, value in asdict(run).items()})
                print(line, flush=True)
                if given.lines:
                    with given.lines.open("a") as lines:
                        lines.write(line + "\n")
                done.append(run)
    return done


def _print(done: list[Run]) -> None:
    print("\n| way | fault | runs | equal | error | ended by signal | wrong | longest run, s | all gone after, s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for way, fault in dict.fromkeys((run.way, run.fault) for run in sorted(done, key=lambda run: (list(WAYS).index(run.way), run.fault))):
        those = [run for run in done if (run.way, run.fault) == (way, fault)]
        outcomes = [sum(run.outcome == what for run in those) for what in ("equal", "error", "ended")]
        longest = [f"{max(getattr(run, name) for run in those):.1f}" for name in ("seconds", "gone")]
        print("| " + " | ".join(map(str, (way, fault, len(those), *outcomes, sum(bool(run.wrong) for run in those), *longest))) + " |")
    for run in done:
        if run.wrong:
            print(f"{run.number}, {run.way}, {run.action}, {run.fault}, {run.moment:.3f} s: {'; '.join(run.wrong)}; said {run.said!r}")


if __name__ == "__main__":
    main()
