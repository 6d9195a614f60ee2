"""Columns of a Ray Data dataset, compressed and decompressed.

    >>> import ray, llmzip.ray
    >>> texts = ray.data.read_parquet("texts.parquet")
    >>> packed = texts.map_batches(llmzip.ray.Compressor, fn_constructor_args=("text", "archive"), concurrency=4, num_cpus=2)

Each value becomes an archive of its own. Long values make the smallest archives. The model is loaded once in each worker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llmzip.codec.codec import Codec
from llmzip.options import Options
from llmzip.system import processors

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from llmzip.options import DecodeOptions, EncodeOptions

Batch = dict[str, Any]  # columns, as numpy arrays


class Compressor:
    """For `Dataset.map_batches`: writes the archive of each text of a column into another one.

    Args:
        column: what is compressed: text, which is encoded in UTF-8, or bytes. Missing values stay missing.
        out: the column of archives, bytes.
        options: level, lanes, model, threads and device, as in `Options`. By default as many threads as Ray gives the worker CPUs.

    Raises:
        ParameterError: an option is out of range.
    """

    def __init__(self, column: str, out: str, **options: Unpack[EncodeOptions]) -> None:
        processors.share()
        self._column, self._out = column, out
        self._codec = Codec(Options.for_encoding(**options))

    def __call__(self, batch: Batch) -> Batch:
        """The batch with one more column.

        Raises:
            LLZError: the model cannot be had, or not be run.
        """
        return _with(
            batch, self._column, self._out, lambda value: self._codec.compress(value.encode() if isinstance(value, str) else value)
        )


class Decompressor:
    """For `Dataset.map_batches`: writes the content of each archive of a column into another one.

    Args:
        column: the archives. Missing values stay missing.
        out: the column of their content.
        text: whether the content is text in UTF-8; else it is bytes.
        options: model, threads and device, as in `Options`.
    """

    def __init__(self, column: str, out: str, *, text: bool = True, **options: Unpack[DecodeOptions]) -> None:
        processors.share()
        self._column, self._out, self._text = column, out, text
        self._codec = Codec(Options.for_decoding(**options))

    def __call__(self, batch: Batch) -> Batch:
        """The batch with one more column.

        Raises:
            LLZError: of the kind that fits what is wrong with an archive.
            UnicodeDecodeError: content that is to be text is none.
        """
        return _with(batch, self._column, self._out, self._content)

    def _content(self, archive: bytes) -> str | bytes:
        content = self._codec.decompress(archive)
        return content.decode() if self._text else content


def _with(batch: Batch, column: str, out: str, change: Callable[[Any], str | bytes]) -> Batch:
    """The batch with a column made of another one."""
    import numpy as np

    values = np.empty(len(batch[column]), dtype=object)
    for i, value in enumerate(batch[column]):
        values[i] = None if value is None else change(value)
    return batch | {out: values}
