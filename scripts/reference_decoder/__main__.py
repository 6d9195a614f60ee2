"""A small, slow decoder written from docs/format.md and not from the package's code: the decoder of last resort, and the proof that the document suffices.

    python scripts/reference_decoder ARCHIVE.llz -o OUT --model PATH
    python scripts/reference_decoder --message HEX -o OUT --model PATH

PATH is a GGUF file, or a folder with config.json, tokenizer.json and *.safetensors. Needs Python 3.10 and numpy 2, nothing
else. One file a chapter of the document, one function a section; names are those of its formulas.
"""

import argparse
import sys
from functools import cache
from pathlib import Path

import model
from archive import decode_archive
from errors import DecodingError, ModelError
from message import decode_message


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(prog="reference_decoder", description="Decodes an llmzip archive, or a message, slowly.")
    parser.add_argument("archive", nargs="?", metavar="ARCHIVE", help="an .llz file")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="where the content goes")
    parser.add_argument("--model", metavar="PATH", help="GGUF file or folder; only coded blocks need it")
    parser.add_argument("--opening", type=tokens, metavar="N,N,...", help="opening of a model that is not the registered one")
    parser.add_argument("--message", type=bytes.fromhex, metavar="HEX", help="decode this message instead of an archive")
    parser.add_argument("--trace", action="store_true", help="step, lane, target, c(s), f(s) and s of every symbol, on stderr")
    given = parser.parse_args()
    if (given.archive is None) == (given.message is None):
        parser.error("one ARCHIVE or one --message, please")
    return given


def tokens(text):
    """The numbers of an opening."""
    return [int(part) for part in text.split(",")]


def trace(*numbers):
    """One line of numbers."""
    print(*numbers, sep="\t", file=sys.stderr)


def main():
    """Decodes; returns the exit code: 0 done, 1 bad input, 3 wrong model, or not reproduced."""
    given = arguments()

    @cache
    def loaded():
        if given.model is None:
            raise ModelError("a coded block needs its model: name it with --model")
        return model.load(given.model, {"opening": given.opening} if given.opening else {})

    try:
        if given.message is not None:
            content = decode_message(given.message, loaded())
        else:
            data = Path(given.archive).read_bytes()
            content = decode_archive(data, lambda record: model.match(loaded(), record), trace if given.trace else None)
        Path(given.output).write_bytes(content)
    except DecodingError as error:
        print(f"reference_decoder: {error.kind}: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"reference_decoder: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
