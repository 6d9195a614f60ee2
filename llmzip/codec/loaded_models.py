"""Models ready to code with, each loaded once, when it is first needed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

from llmzip.archive import records
from llmzip.archive.numbers import NEW_MODEL
from llmzip.archive.records import ModelRecord
from llmzip.codec.any_model import LoadedModel
from llmzip.codec.new_model import NewModel
from llmzip.errors import ModelMismatchError, ModelUnavailableError
from llmzip.options import AUTO, Options, is_new
from llmzip.parameters import DEFAULT_LEVEL, LEVELS, Level
from llmzip.system import exact_threads

if TYPE_CHECKING:
    from llmzip.codec.any_model import Shape
    from llmzip.coding.block_coder import BlockCoder
    from llmzip.engine.engine import Engine
    from llmzip.models.convert import IntegerModel
    from llmzip.models.store import CachedModel

_log = logging.getLogger(__name__)


class PretrainedModel(LoadedModel):
    """A model with weights: its identity, alphabet and engine."""

    def __init__(self, model_id: str, model: IntegerModel, options: Options) -> None:
        from llmzip.adapter import probe
        from llmzip.codec import first_use
        from llmzip.coding.alphabet import Alphabet
        from llmzip.engine import build

        self.model_id, self._options = model_id, options
        self.digest = model.digest()[: records.DIGEST_BYTES]
        self.tokenizer = model.tokenizer.hash[: records.TOKENIZER_BYTES]
        self.alphabet = Alphabet(model.tokenizer)
        with first_use.noticed(model.config, options.quiet):
            self._engine: Engine = build.build(model, options.device, options.threads, options.kernel)
            probe.prove(self._engine.threads)

    @property
    def transformer(self) -> Engine:
        """The engine."""
        return self._engine

    def prepare(self) -> None:
        """See `LoadedModel.prepare`."""
        from llmzip.engine import float_mode

        exact_threads.use_threads(self.transformer.threads)
        float_mode.check(self.transformer.threads)

    def record(self, level: Level = LEVELS[DEFAULT_LEVEL]) -> ModelRecord:
        """See `LoadedModel.record`."""
        return ModelRecord(self.model_id, self.digest, self.tokenizer, level.span, level.adapter)

    def coder(self, record: ModelRecord) -> BlockCoder:
        """See `LoadedModel.coder`."""
        from llmzip.coding.block_coder import BlockCoder

        if record.adapter.corrections:
            from llmzip.codec import first_use
            from llmzip.learning import probe

            with first_use.noticed(self.transformer.config, self._options.quiet, first_use.LEARNING):
                probe.prove(self.transformer)
        return BlockCoder(
            self.transformer,
            self.alphabet.size,
            record.span,
            record.adapter,
            threads=self.transformer.threads,
            rows=self._options.rows,
        )

    def forecast_seconds(self, record: ModelRecord, shapes: Iterable[Shape]) -> float:
        """See `LoadedModel.forecast_seconds`."""
        from llmzip.codec.forecast import Forecast

        return Forecast(self, record).seconds(shapes)


class LoadedModels:
    """The models of a codec: its own, and those that archives name. Each is loaded once, when it is first needed.

    Args:
        options: which model is the codec's own, and how to compute.
        given: models that are loaded already; the first is the codec's own.

    Attributes:
        options: as given.
    """

    def __init__(self, options: Options, *given: LoadedModel) -> None:
        self.options = options
        self._own = given[0] if given else None
        self._by_digest = {model.digest: model for model in given}

    def own(self) -> LoadedModel:
        """The codec's own model: the one that the options name, or the default, as also where they leave the choice to the text (`choosing`).

        Raises:
            LLZError: it cannot be had, or not be run.
        """
        if self._own is None:
            from llmzip.models import resolve
            from llmzip.models.registry import DEFAULT_MODEL

            name = self._named or DEFAULT_MODEL
            self._own = (
                NewModel()
                if is_new(name)
                else self._load(lambda: resolve.archive_id(name), lambda: resolve.load(name, self.options.quiet, self.options.offline))
            )
            self._by_digest[self._own.digest] = self._own
        return self._own

    def own_digests(self) -> tuple[bytes, bytes]:
        """Digests of the codec's own model, as model records have them: of weights and tokenizer. It is not loaded for that if it is cached.

        Raises:
            LLZError: it cannot be had.
        """
        from llmzip.models import resolve
        from llmzip.models.registry import DEFAULT_MODEL

        if self._own is None and not is_new(self._named):
            cached = resolve.pull(self._named or DEFAULT_MODEL, self.options.quiet, offline=self.options.offline)
            if cached.tokenizer is not None:
                return cached.digest[: records.DIGEST_BYTES], cached.tokenizer[: records.TOKENIZER_BYTES]
        own = self.own()
        return own.digest, own.tokenizer

    @property
    def _named(self) -> str | None:
        """The model that the options name."""
        return None if self.options.model == AUTO else self.options.model

    def of_cache(self, cached: CachedModel, keep: bool) -> LoadedModel:
        """A model of the cache. With `keep`, it is not loaded a second time.

        Raises:
            LLZError: it cannot be run, or is damaged.
        """
        from llmzip.models import resolve

        loaded = self._by_digest.get(cached.digest[: records.DIGEST_BYTES])
        if loaded is None:
            loaded = self._load(lambda: resolve.archive_id(cached.model_id), lambda: resolve.load_cached(cached))
            if keep:
                self.keep(loaded)
        return loaded

    def keep(self, loaded: LoadedModel) -> None:
        """Keep a model for archives that name it."""
        self._by_digest[loaded.digest] = loaded

    def named_by(self, record: ModelRecord) -> LoadedModel:
        """The model that an archive names, checked by its digests.

        Raises:
            ModelUnavailableError, ModelMismatchError: it is not here.
            LLZError: it cannot be run.
        """
        if record.digest not in self._by_digest:
            self._load_named(record)
        loaded = self._by_digest.get(record.digest) or self._own
        if loaded is None or (loaded.digest, loaded.tokenizer) != (record.digest, record.tokenizer):
            have = "other files" if loaded is None else f"weights {loaded.digest.hex()}, tokenizer {loaded.tokenizer.hex()}"
            raise ModelMismatchError(
                f"the archive needs model {record.model_id} with weights {record.digest.hex()} and tokenizer {record.tokenizer.hex()}, "
                f"but here are {have}; get the model it was made with"
            )
        return loaded

    def ready(self, record: ModelRecord | None = None) -> LoadedModel:
        """The model that `record` names, or the codec's own, with the present thread made ready to compute with it.

        Raises:
            LLZError: it cannot be had, or not be run.
        """
        loaded = self.named_by(record) if record else self.own()
        loaded.prepare()
        return loaded

    def _load_named(self, record: ModelRecord) -> None:
        from llmzip.models import resolve

        options = self.options
        if record.digest == NEW_MODEL.digest:
            self._by_digest[record.digest] = NewModel()
            return
        try:
            loaded = self._by_digest[record.digest] = self._load(
                lambda: record.model_id,
                lambda: resolve.load_for_archive(record.model_id, record.digest, record.tokenizer, options.quiet, options.offline),
            )
            if self._named and loaded.tokenizer != record.tokenizer:
                self.own()  # it may have the same weights and the right tokenizer
        except ModelUnavailableError:
            if not self._named or is_new(self._named):
                raise
            self.own()  # the user says where the model is

    def _load(self, name: Callable[[], str], read: Callable[[], IntegerModel]) -> LoadedModel:
        """Read a model and build its engine; log how long each part took. What archives call it is known when it is here."""
        times = [time.perf_counter()]

        def done() -> None:
            times.append(time.perf_counter())

        import numba  # noqa: F401  timed apart

        done()
        model = read()
        done()
        model_id = name()
        loaded = PretrainedModel(model_id, model, self.options)
        done()
        seconds = tuple(after - before for before, after in pairwise(times))
        _log.info(f"{model_id}: libraries imported in %.2f s, model read in %.2f s, engine ready in %.2f s", *seconds)
        return loaded
