"""Sizes of ordinary short messages by `llmzip message` and by other ways to send short text.

    pip install brotli zstandard smaz-py3 unishox2-py3
    python scripts/table_messages.py [--damage N] [FILE]

FILE has a message on each line, examples/messages.txt by default. Sizes are in bytes, of raw messages. Coders that are not installed
are left out. `--damage N` also makes N damaged copies (a flipped bit, a changed character, a cut, two swapped characters) and counts
how many of them decode to something.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import lzma
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from llmzip.errors import DamagedMessageError
from llmzip.message import text_forms
from llmzip.message.message_codec import MessageCodec

Coder = Callable[[bytes], int]


def seven_bits(text: bytes) -> int:
    """7 bits for each ASCII character."""
    return -(-7 * len(text) // 8)


def coders() -> dict[str, Coder]:
    """The coders that are installed: by name, the size that each gives a text."""
    found: dict[str, Coder] = {
        "as it is": len,
        "7 bits a character": seven_bits,
        "gzip -9": lambda t: len(gzip.compress(t, 9, mtime=0)),
        "raw deflate": lambda t: len(zlib.compress(t, 9, wbits=-15)),
        "xz -9": lambda t: len(lzma.compress(t, preset=9)),
    }
    optional: dict[str, tuple[str, Callable[[object], Coder]]] = {
        "zstd -19, no checksum": ("zstandard", lambda m: lambda t: len(m.ZstdCompressor(19, write_checksum=False).compress(t))),
        "brotli -11 (its dictionary)": ("brotli", lambda m: lambda t: len(m.compress(t, quality=11, lgwin=10))),
        "smaz": ("smaz", lambda m: lambda t: len(m.compress(t.decode()))),
        "unishox2": ("unishox2", lambda m: lambda t: len(m.compress(t.decode())[0])),
    }
    for name, (module, make) in optional.items():
        try:
            found[name] = make(importlib.import_module(module))
        except ImportError:
            print(f"({module} is not installed: no {name})")
    return found


def damaged(message: bytes, rng: random.Random) -> bytes:
    """A copy with one error, as radio, readers and typists make them."""
    kind = rng.randrange(4)
    if kind == 0:
        at = rng.randrange(8 * len(message))
        return bytes(b ^ (1 << at % 8 if i == at // 8 else 0) for i, b in enumerate(message))
    form = "base32"
    text = text_forms.write(message, form)
    while True:
        at = rng.randrange(len(text))
        if kind == 1:
            changed = text[:at] + rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") + text[at + 1 :]
        elif kind == 2:
            return message[: rng.randrange(len(message))]
        else:
            changed = text[:at] + text[at : at + 2][::-1] + text[at + 2 :]
        try:
            if (data := text_forms.read(changed, form)) != message:
                return data
        except DamagedMessageError:  # the text form itself detects the error: try another place
            kind = 1


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=Path(__file__).parent.parent / "examples" / "messages.txt")
    parser.add_argument("--damage", type=int, default=0)
    options = parser.parse_args()
    texts = options.file.read_bytes().splitlines()
    codec = MessageCodec()
    messages = codec.encode(texts)
    if codec.decode(messages) != texts:
        raise SystemExit("what came back differs")
    sizes = {"llmzip message": [len(m) for m in messages]} | {name: [size(t) for t in texts] for name, size in coders().items()}
    lengths = [len(t) for t in texts]
    print(f"{len(texts)} messages of {min(lengths)} to {max(lengths)} bytes; averages:\n")
    print("| | bytes | of the text | llmzip's is |\n|---|---|---|---|")
    own = np.mean(sizes["llmzip message"])
    for name, each in sorted(sizes.items(), key=lambda item: np.mean(item[1])):
        print(f"| {name} | {np.mean(each):.1f} | {np.mean(each) / np.mean(lengths):.3f} | {own / np.mean(each):.3f} |")
    above = [len(m) - bits / 8 for m, bits in zip(messages, codec.bits(texts), strict=True)]
    print(f"\nBytes above the coded bits: {np.mean(above):.2f} on average, {max(above):.2f} at most")
    if options.damage:
        rng = random.Random(1)
        wrong = [damaged(messages[rng.randrange(len(messages))], rng) for _ in range(options.damage)]
        accepted = sum(isinstance(text, bytes) for text in codec.decode(wrong))
        print(
            f"{accepted} of {options.damage} damaged copies decoded to something: {100 * (1 - accepted / options.damage):.2f}% were noticed"
        )


if __name__ == "__main__":
    main()
