"""Sizes and seconds, next to xz's sizes, of inputs that are hard for a language model: text in other forms, noise, repeats far apart.

    python scripts/table_cost.py [--code FOLDER] [--only NAME ...] [--write FOLDER]

Makes every input from a seed, compresses and restores it in whole processes, checks what comes back, and prints a table. Seconds are
processor time, with one thread, so other work on the machine matters little. --code runs another version of llmzip, from its source
folder. --write only writes the inputs to a folder.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from random import Random

ROOT = Path(__file__).parent.parent
HARBOUR = (ROOT / "examples" / "harbour.txt").read_text("utf-8")
FRENCH = (
    "Le phare était éteint depuis trois jours, et personne au village ne savait pourquoi. Le vieux gardien, que l'on disait malade, n'avait "
    "pas été vu à la boulangerie, ni même au café du port où il prenait chaque soir un verre de cidre. Hélène décida d'y aller elle-même, "
    "malgré la tempête qui s'annonçait à l'ouest.\nElle suivit le sentier des douaniers jusqu'à la jetée. La mer, grise et agitée, frappait "
    "les rochers avec une régularité presque rassurante. Arrivée à la porte, elle frappa trois fois ; à l'intérieur, quelque chose bougea, "
    "puis une voix fatiguée répondit : « Entrez, c'est ouvert. »\nLe gardien était assis près de la fenêtre, une lettre froissée à la main. "
    "Il n'était pas malade, expliqua-t-il, mais l'administration avait décidé de remplacer la lampe par un système automatique, et il n'avait "
    "pas eu le cœur de l'annoncer. « Quarante ans que je l'allume, dit-il. On ne s'arrête pas d'un coup, à mon âge. »\n"
).replace("œ", "oe")


def tar(files: dict[str, bytes]) -> bytes:
    """The files as `tar -cf` packs them."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uname, member.gname, member.uid, member.gid = (
                len(data),
                1_790_000_000,
                "ada",
                "users",
                1000,
                100,
            )
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def notes() -> bytes:
    """A tar of 20 notes."""
    rng, text = Random(1), HARBOUR.encode()
    starts = [600 * n for n in range(20)]
    return tar({f"notes/note-{n:02}.txt": text[start : start + rng.randrange(300, 600)] + b"\n" for n, start in enumerate(starts)})


def heartbeats() -> bytes:
    """A log in which hardly anything happens: 8 MB."""
    rng, out, seconds, size = Random(2), list[str](), 0, 0
    while size < 8_000_000:
        seconds += 10
        clock = f"2026-11-{1 + seconds // 86400 % 28:02}T{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}Z"
        out.append(f"{clock} node-{rng.randrange(4)} monitor: heartbeat ok, load 0.{rng.randrange(10)}, queue empty, all services up\n")
        size += len(out[-1])
    return "".join(out).encode()


def access() -> bytes:
    """A web server's log: 200 kB."""
    rng, out, seconds, size = Random(3), list[str](), 0, 0
    paths = [
        f"/{a}/{b}" for a in ("img", "docs", "api/v1", "blog") for b in ("index.html", "logo.png", "items?page=2", "about", "feed.xml")
    ]
    agents = [
        "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
        "curl/8.5.0",
        "Googlebot/2.1 (+http://www.google.com/bot.html)",
    ]
    while size < 200_000:
        seconds += rng.randrange(3)
        clock = f"{1 + seconds // 86400:02}/Nov/2026:{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02} +0000"
        client = f"10.{rng.randrange(4)}.{rng.randrange(256)}.{rng.randrange(256)}"
        status = rng.choice((200, 200, 200, 304, 404))
        out.append(
            f'{client} - - [{clock}] "GET {rng.choice(paths)} HTTP/1.1" {status} {rng.randrange(200, 90000)} "-" "{rng.choice(agents)}"\n'
        )
        size += len(out[-1])
    return "".join(out).encode()


def json_lines() -> bytes:
    """Events as JSON, one to a line, most of them alike: 200 kB."""
    rng, out, size = Random(4), list[str](), 0
    while size < 200_000:
        event = {
            "id": len(out),
            "type": rng.choice(("login", "logout", "view")),
            "user": f"user{rng.randrange(500)}",
            "ok": rng.random() < 0.98,
        }
        out.append(json.dumps(event) + "\n")
        size += len(out[-1])
    return "".join(out).encode()


def csv() -> bytes:
    """Measurements that hardly change: 8 MB."""
    rng, out, size, values = Random(5), ["time,sensor,temperature,pressure,state\n"], 0, [200] * 8
    while size < 8_000_000:
        n = len(out)
        values[n % 8] += rng.choice((0,) * 30 + (-1, 1))
        out.append(f"{1_790_000_000 + n // 8 * 60},sensor-{n % 8},{values[n % 8] / 10:.1f},1013.2,ok\n")
        size += len(out[-1])
    return "".join(out).encode()


def mail() -> bytes:
    """A letter of 14 kB with 40 kB attached."""
    attached = base64.encodebytes(Random(6).randbytes(30_000)).decode()
    head = 'From: ada@example.org\nTo: bob@example.org\nSubject: The harbour\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b"\n\n--b\n'
    file = '--b\nContent-Type: image/png; name="map.png"\nContent-Transfer-Encoding: base64\n\n'
    return f"{head}Content-Type: text/plain; charset=utf-8\n\n{HARBOUR}\n{file}{attached}--b--\n".encode()


def repeated() -> bytes:
    """Half a megabyte of noise, 2 MiB of a log, and the noise again."""
    noise = Random(7).randbytes(500_000)
    return noise + heartbeats()[: 2 << 20] + noise


def letters(size: int) -> bytes:
    """Random letters, 70 to a line."""
    rng = Random(8)
    return b"".join(bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz", k=70)) + b"\n" for _ in range(size // 71))


def uuids(size: int) -> bytes:
    """Random UUIDs, one to a line."""
    rng = Random(9)
    return "".join(f"{uuid.UUID(int=rng.getrandbits(128), version=4)}\n" for _ in range(size // 37)).encode()


INPUTS: dict[str, Callable[[], bytes]] = {
    "a note of 600 bytes": lambda: HARBOUR.encode()[:599] + b"\n",
    "the note in a tar": lambda: tar({"note.txt": HARBOUR.encode()[:599] + b"\n"}),
    "20 notes in a tar": notes,
    "2,500 characters, UTF-8": lambda: HARBOUR[:2500].encode(),
    "the same, UTF-16": lambda: HARBOUR[:2500].encode("utf-16"),
    "the same, UTF-32": lambda: HARBOUR[:2500].encode("utf-32"),
    "French, UTF-8": lambda: FRENCH.encode(),
    "the same, Latin-1": lambda: FRENCH.encode("latin-1"),
    "base64 of noise, 200 kB": lambda: base64.encodebytes(Random(10).randbytes(148_000)),
    "random letters, 200 kB": lambda: letters(200_000),
    "UUIDs, 200 kB": lambda: uuids(200_000),
    "hex of noise, 200 kB": lambda: Random(11).randbytes(98_000).hex("\n", 32).encode(),
    "a letter with a file": mail,
    "heartbeats, 8 MB": heartbeats,
    "measurements, CSV, 8 MB": csv,
    "noise again after 2 MiB": repeated,
    "web server's log, 200 kB": access,
    "events, JSON, 200 kB": json_lines,
}


def run(code: Path, work: Path, *arguments: str) -> float:
    """Runs llmzip with one thread. Returns the seconds of processor time."""
    before = os.times()
    environment = {**os.environ, "PYTHONPATH": str(code), "LLMZIP_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "llmzip", *arguments], cwd=work, env=environment, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def row(code: Path, work: Path, name: str) -> str:
    """A line of the table."""
    data = INPUTS[name]()
    (work / "input").write_bytes(data)
    there = run(code, work, "compress", "-fq", "input")
    back = run(code, work, "decompress", "-fq", "input.llz", "-o", "output")
    if (work / "output").read_bytes() != data:
        raise SystemExit(f"{name}: not restored")
    size, other = (work / "input.llz").stat().st_size, len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))
    return f"| {name} | {len(data):,} | {other:,} | {size:,} | {there:.1f} | {back:.1f} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--code", type=Path, default=ROOT)
    parser.add_argument("--only", nargs="+", default=list(INPUTS), choices=list(INPUTS), metavar="NAME")
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    if given.write:
        for name in given.only:
            (given.write / name.replace(" ", "_").replace(",", "")).write_bytes(INPUTS[name]())
        return
    print("| input | bytes | xz -9e | llmzip | compress, s | decompress, s |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        run(given.code, Path(folder), "--version")
        for name in given.only:
            print(row(given.code, Path(folder), name), flush=True)


if __name__ == "__main__":
    main()
