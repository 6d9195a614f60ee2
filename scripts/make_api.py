"""Writes docs/api.md from the docstrings of what `llmzip` exports.

python scripts/make_api.py            # rewrite it
python scripts/make_api.py --check    # fail if it is not current
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import sys
from pathlib import Path

import llmzip
from llmzip.options import DecodeOptions, EncodeOptions

PAGE = Path(__file__).parent.parent / "docs" / "api.md"
SECTIONS = {
    "At once": ["compress", "decompress"],
    "Damaged archives": ["repair", "salvage", "Salvaged", "Piece", "Gap", "Place"],
    "Files": ["open", "LLZFile", "register_fsspec"],
    "In pieces": ["Compressor", "Decompressor"],
    "Short messages": ["MessageCodec"],
    "Models held": ["Codec", "Options"],
}
INTERNAL = {  # for other modules of the package
    "Codec.decode_block",
    "Compressor.pieces",
    "Options.for_decoding",
    "Options.for_encoding",
    "Options.level_settings",
}
KEYWORDS = {"EncodeOptions": EncodeOptions, "DecodeOptions": DecodeOptions}
INTRODUCTION = """# Python API

Made by `scripts/make_api.py` from the docstrings; do not edit.

```python
import llmzip
```

Everything below is found in `llmzip`; what is not named here may change. Arguments after `*` are given by name.
"""


def keywords(kind: str) -> str:
    """The options of a TypedDict, with the defaults of `Options`."""
    defaults = {f.name: f.default for f in dataclasses.fields(llmzip.Options)}
    types = {f.name: f.type for f in dataclasses.fields(llmzip.Options)}
    names = [name for name in defaults if name in KEYWORDS[kind].__optional_keys__]
    return ", ".join(f"{name}: {types[name]} = {defaults[name]!r}" for name in names)


def signature(name: str, call: object) -> str:
    """A definition's first line, broken into several if it is long."""
    text = str(inspect.signature(call)) if callable(call) else ""
    text = re.sub(r"\*\*options: 'Unpack\[(\w+)\]'", lambda m: ("" if "*, " in text else "*, ") + keywords(m[1]), text)
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text).replace("'", '"')  # annotations are quoted here, and so are defaults
    text = re.sub(r"^\(self(, )?", "(", text).removesuffix(" -> None")
    if len(name) + len(text) > 100:
        start, end = text.index("(") + 1, text.rindex(")")
        arguments = re.split(r", (?=[\w*/]+(?:[:,]|$|\)))", text[start:end])
        text = "(\n" + "".join(f"    {a},\n" if a != "/" else "    /,\n" for a in arguments) + text[end:]
    return f"```python\n{name}{text}\n```"


def prose(thing: object) -> str:
    """A docstring as Markdown: its sections as lists, its examples as code."""
    lines, out, section = (inspect.getdoc(thing) or "").splitlines(), [], False
    for i, line in enumerate(lines):
        if re.fullmatch(r"(Args|Raises|Returns|Attributes):", line):
            section = True
            out += [f"*{line[:-1].replace('Args', 'Arguments')}*", ""]
        elif line.startswith("    ") and section:
            text = line.strip()
            item = not line.startswith("        ")
            out.append(re.sub(r"^([\w., ]+):", lambda m: "- " + re.sub(r"[\w.]+", r"`\g<0>`", m[1]) + ":", text) if item else "  " + text)
            if item and not out[-1].startswith("- "):
                out[-1] = "- " + out[-1]
        elif line.startswith("    "):
            if not lines[i - 1].strip():
                out.append("```pycon")
            out.append(line[4:])
            if i + 1 == len(lines) or not lines[i + 1].strip():
                out.append("```")
        else:
            section = section and not line
            out.append(line)
    return "\n".join(out)


def described(name: str) -> list[str]:
    """An exported function or class, with its methods."""
    thing = getattr(llmzip, name)
    parts = [f"### {name}", signature(name, thing), prose(thing)]
    if not inspect.isclass(thing):
        return parts
    own = vars(thing)
    if "__init__" in own and not dataclasses.is_dataclass(thing) and own["__init__"].__doc__:
        parts.append(prose(own["__init__"]))
    for key, value in own.items():
        if key.startswith("_") or f"{name}.{key}" in INTERNAL:
            continue
        if isinstance(value, property):
            parts += [f"#### {name}.{key}", prose(value)]
        elif inspect.isfunction(value):
            parts += [f"#### {name}.{key}", signature(key, value), prose(value)]
    return parts


def page() -> str:
    """docs/api.md."""
    parts = [INTRODUCTION.strip()]
    for title, names in SECTIONS.items():
        parts.append(f"## {title}")
        for name in names:
            parts += described(name)
    errors = [getattr(llmzip, n) for n in llmzip.__all__ if n.endswith("Error")]
    errors.sort(key=lambda e: (e is not llmzip.LLZError, e.__name__))
    assert {n for names in SECTIONS.values() for n in names} | {e.__name__ for e in errors} | {"__version__"} == set(llmzip.__all__)
    parts += ["## Errors", "Their messages are one line: what is wrong, then what to do. `exit_code` is what the command line ends with."]
    parts.append("| error | also a | exit code | meaning |\n|---|---|---|---|")
    for error in errors:
        also = ", ".join(f"`{b.__name__}`" for b in error.__bases__ if b is not llmzip.LLZError)
        parts[-1] += f"\n| `{error.__name__}` | {also} | {error.exit_code} | {inspect.getdoc(error)} |"
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Writes the page, or checks that it is current."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail if the page is not current")
    options = parser.parse_args()
    if not options.check:
        PAGE.write_text(page(), "utf-8")
    elif not PAGE.exists() or PAGE.read_text("utf-8") != page():
        sys.exit(f"{PAGE.name} is not current; run scripts/make_api.py")


if __name__ == "__main__":
    main()
