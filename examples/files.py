"""Archives as files: lines, jumps, CSV and tar.

python examples/files.py
"""

import csv
import io
import os
import tarfile
import tempfile
from pathlib import Path

import llmzip

here = Path(__file__).parent
# One codec for all files, so that the model is loaded once. The default model, unless the environment names another.
codec = llmzip.Codec(llmzip.Options(model=os.environ.get("LLMZIP_MODEL")))
text = "".join((here / "harbour.txt").read_text("utf-8").splitlines(keepends=True)[:8])

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "notes.txt.llz"
    with llmzip.open(path, "wt", encoding="utf-8", codec=codec) as f:
        f.write(text)
    with llmzip.open(path, "rt", encoding="utf-8", codec=codec) as f:
        longest = max(f, key=len)
    print("the longest line:", longest.strip()[:60])

    # A jump decodes only the blocks that are read; this file has one.
    with llmzip.open(path, codec=codec) as f:
        f.seek(-20, io.SEEK_END)
        print("the end:", f.read())

    path = Path(folder) / "tides.csv.llz"
    rows = [["place", "height"], ["harbour", "3.1"], ["inner basin", "2.8"]]
    with llmzip.open(path, "wt", encoding="utf-8", newline="", codec=codec) as f:
        csv.writer(f).writerows(rows)
    with llmzip.open(path, "rt", encoding="utf-8", newline="", codec=codec) as f:
        print("heights:", {row["place"]: float(row["height"]) for row in csv.DictReader(f)})

    path = Path(folder) / "notes.tar.llz"
    with llmzip.open(path, "wb", codec=codec) as f, tarfile.open(fileobj=f, mode="w") as tar:
        tar.add(here / "python_api.py", "python_api.py")
    with llmzip.open(path, codec=codec) as f, tarfile.open(fileobj=f) as tar:
        print("packed:", tar.getnames())
        member = tar.extractfile("python_api.py")
        assert member is not None
        assert member.read() == (here / "python_api.py").read_bytes()
