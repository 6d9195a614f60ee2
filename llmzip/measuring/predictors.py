"""Measures predictors of any kind. What one says is coded, and a fresh one has to decode it: so looking ahead, or giving more than one in all, fails by itself."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from llmzip.entropy.frequencies import TOTAL_BITS
from llmzip.entropy.range_coder import RangeDecoder, RangeEncoder
from llmzip.errors import LLZError, quoted
from llmzip.measuring.documents import Document
from llmzip.measuring.figures import Figure

_MOST_SYMBOLS = 1 << 20  # of an alphabet; each keeps a frequency of at least 1


class Predictor(Protocol):
    """Predicts the symbols of one document, one after another. A new one is made for each document, and another one to decode it."""

    def encode(self, content: bytes) -> Sequence[int]:
        """The symbols of a document, from 0. The predictor that decodes is never given the content."""
        ...

    def decode(self, symbols: Sequence[int]) -> bytes:
        """The document of these symbols."""
        ...

    def predict(self) -> NDArray[Any]:
        """For each symbol of the alphabet, how likely it is to be the next: float logits (natural logarithms, up to a constant), or integer frequencies, at least 0."""
        ...

    def see(self, symbol: int) -> None:
        """Take note of the next symbol."""
        ...


class PredictorError(LLZError):
    """A predictor does not give what it should, or a document does not come back."""


def figure(document: Document, make: Callable[[], Predictor]) -> Figure:
    """What a document costs under a predictor; it is decoded and compared.

    The number of symbols is taken to be known, as it is for models.

    Raises:
        PredictorError: it does not come back, or a prediction is not usable.
    """
    encoding = make()
    symbols = list(encoding.encode(document.content))
    encoder = RangeEncoder(1)
    for symbol in symbols:
        bounds = _bounds(encoding.predict())
        if not 0 <= symbol < len(bounds) - 1:
            raise PredictorError(f"{document.name}: symbol {symbol} is not in the predictor's alphabet of {len(bounds) - 1}")
        encoder.encode(bounds[symbol : symbol + 1], np.diff(bounds[symbol : symbol + 2]))
        encoding.see(symbol)
    stream = encoder.finish()
    if _decoded(make(), stream, len(symbols)) != document.content:
        raise PredictorError(f"{document.name} does not come back: the predictor that decodes must predict the same from what it has seen")
    return Figure(document.name, document.group, len(document.content), len(symbols), 8 * len(stream), True)


def _decoded(decoding: Predictor, stream: bytes, count: int) -> bytes:
    decoder, symbols = RangeDecoder(1, stream), list[int]()
    for _ in range(count):
        bounds = _bounds(decoding.predict())
        symbol = int(np.searchsorted(bounds, decoder.targets(1)[0], "right")) - 1
        decoder.advance(bounds[symbol : symbol + 1], np.diff(bounds[symbol : symbol + 2]))
        decoding.see(symbol)
        symbols.append(symbol)
    return decoding.decode(symbols)


def _bounds(prediction: NDArray[Any]) -> NDArray[np.int64]:
    """Cumulative frequencies [symbols + 1] from 0 to 2^TOTAL_BITS, in proportion to a prediction. Each symbol has at least 1."""
    given = np.asarray(prediction)
    if given.ndim != 1 or not 1 <= len(given) <= _MOST_SYMBOLS:
        raise PredictorError(f"a prediction has shape {given.shape}; give one number for each symbol, at most {_MOST_SYMBOLS:,}")
    if np.issubdtype(given.dtype, np.floating):
        shares = np.exp(given.astype(np.float64) - given.max(initial=-np.inf))
    elif np.issubdtype(given.dtype, np.integer):
        shares = given.astype(np.float64)
    else:
        raise PredictorError(f"a prediction is of {given.dtype}; give floats as logits, or integers as frequencies")
    total = shares.sum()
    if not (np.isfinite(total) and total > 0 and shares.min() >= 0):
        raise PredictorError("a prediction has negative frequencies, no finite logit, or only zeros")
    bounds = np.zeros(len(given) + 1, np.int64)
    np.cumsum(1 + np.floor(shares / total * ((1 << TOTAL_BITS) - 2 * len(given))).astype(np.int64), out=bounds[1:])
    bounds[-1] = 1 << TOTAL_BITS  # what rounding left over is the last symbol's
    return bounds


def load(name: str) -> Callable[[], Predictor]:
    """What makes predictors, from FILE.py:NAME. The file is run.

    Raises:
        PredictorError: there is no such thing, or the file fails.
    """
    file, _, attribute = name.rpartition(":")
    if not file.endswith(".py") or not Path(file).is_file():
        raise PredictorError(f"{quoted(name)} names no predictor; write FILE.py:NAME")
    spec = importlib.util.spec_from_file_location("llmzip_predictor", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        make: Callable[[], Predictor] = getattr(module, attribute)
    except Exception as e:
        raise PredictorError(f"{quoted(name)} cannot be loaded ({quoted(repr(e))})") from e
    return make
