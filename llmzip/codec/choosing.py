"""`auto`: which of the cached models makes a text smallest, found out on a sample of it. The archive is as if that model had been named."""

from __future__ import annotations

import logging
import time
from fractions import Fraction

from llmzip.codec.any_model import LoadedModel
from llmzip.codec.loaded_models import LoadedModels
from llmzip.codec.sampling import cost, pieces
from llmzip.errors import LLZError
from llmzip.options import AUTO
from llmzip.parameters import Level

_PIECE = 1024  # bytes; a sample has four such pieces
_KEPT = 1 << 31  # bytes in the cache: if all models together have no more, they stay loaded for the next text

_log = logging.getLogger(__name__)


def model_for(models: LoadedModels, level: Level, text: bytes) -> LoadedModel:
    """The codec's own model; if its options say `auto`, that one of the cached models which makes `text` smallest. None is fetched for it.

    Without any model in the cache, that is the default one. A model that cannot be run here is left out.

    Raises:
        LLZError: no model can be had, or be run.
    """
    if models.options.model != AUTO:
        return models.own()
    from llmzip.models import store
    from llmzip.models.registry import DEFAULT_MODEL
    from llmzip.models.resolve import is_current

    found = sorted(filter(is_current, store.cached_models()), key=lambda c: (c.model_id != DEFAULT_MODEL, c.model_id))
    candidates = list({cached.digest: cached for cached in reversed(found)}.values())[::-1]  # without copies under other names
    if not candidates:
        return models.own()
    keep = sum(cached.size() for cached in candidates) <= _KEPT
    sample, start = pieces(text, _PIECE), time.perf_counter()
    best: tuple[Fraction, LoadedModel] | None = None
    tried = []
    for cached in candidates:
        try:
            loaded = models.of_cache(cached, keep)
            loaded.prepare()
            share = Fraction(*cost(loaded, level, sample)) if len(candidates) > 1 else Fraction()
        except LLZError as e:
            _log.info("%s: %s is left out: %s", AUTO, cached.model_id, e)
            continue
        tried.append(f"{loaded.model_id} {float(8 * share):.3f}")
        if best is None or share < best[0]:
            best = share, loaded
    if best is None:
        return models.own()
    models.keep(best[1])
    if len(candidates) == 1:
        _log.info("%s: %s, as no other model is cached", AUTO, best[1].model_id)
    else:
        size, seconds = sum(map(len, sample)), time.perf_counter() - start
        said = "%s: %s, by bits per byte of a sample of %d bytes: %s; it took %.2f s"
        _log.info(said, AUTO, best[1].model_id, size, ", ".join(tried), seconds)
    return best[1]
