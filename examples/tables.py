"""Tables with pandas: in an archive of their own, in parts, and several in a tar archive.

python examples/tables.py
"""

import io
import os
import tarfile
import tempfile
from pathlib import Path

import pandas

import llmzip

# One codec for all files, so that the model is loaded once. The default model, unless the environment names another.
codec = llmzip.Codec(llmzip.Options(model=os.environ.get("LLMZIP_MODEL")))
tides = pandas.DataFrame(
    {
        "place": ["harbour", "inner basin", "river mouth", "lighthouse"] * 6,
        "hour": [hour for hour in range(6) for _ in range(4)],
        "height": [round(1.8 + 0.3 * hour + 0.1 * place, 2) for hour in range(6) for place in range(4)],
    }
)

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "tides.csv.llz"
    with llmzip.open(path, "wt", encoding="utf-8", newline="", codec=codec) as f:
        tides.to_csv(f, index=False)
    with llmzip.open(path, "rt", encoding="utf-8", newline="", codec=codec) as f:
        back = pandas.read_csv(f)
    pandas.testing.assert_frame_equal(back, tides)
    print("highest:", back.groupby("place").height.max().to_dict())

    # A part at a time, for tables that are larger than memory; blocks are decoded as they are needed.
    with llmzip.open(path, "rt", encoding="utf-8", newline="", codec=codec) as f:
        print("rows:", [len(part) for part in pandas.read_csv(f, chunksize=10)])

    # Several tables in one archive. Similar ones next to each other help each other to be small.
    path = Path(folder) / "tides.tar.llz"
    with llmzip.open(path, "wb", codec=codec) as f, tarfile.open(fileobj=f, mode="w") as tar:
        for place, rows in tides.groupby("place"):
            data = rows.to_csv(index=False).encode()
            member = tarfile.TarInfo(f"{place}.csv")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    with llmzip.open(path, codec=codec) as f, tarfile.open(fileobj=f) as tar:
        tables = {member.name: pandas.read_csv(tar.extractfile(member)) for member in tar}
    print("tables:", {name: len(table) for name, table in tables.items()})
