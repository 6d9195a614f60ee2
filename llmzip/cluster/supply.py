"""How models reach the nodes: from a node's own cache, else from the driver's, through the cluster's object store, once for each node."""

from __future__ import annotations

import io
from dataclasses import dataclass

from llmzip.archive.records import ModelRecord
from llmzip.errors import ModelUnavailableError
from llmzip.models import resolve, store, transfer
from llmzip.models.store import CachedModel
from llmzip.models.workspace import taking_turns
from llmzip.options import AUTO, Options, is_new


@dataclass(frozen=True)
class Wanted:
    """A model that a worker must have.

    Attributes:
        digest: of its weights, or the beginning.
        tokenizer: hash of its tokenizer, or the beginning.
        model_id: its ID in caches; any if None.
    """

    digest: bytes
    tokenizer: bytes
    model_id: str | None = None

    @classmethod
    def of(cls, model: CachedModel) -> Wanted:
        """Exactly this one."""
        assert model.tokenizer is not None
        return cls(model.digest, model.tokenizer, model.model_id)

    @classmethod
    def named_by(cls, record: ModelRecord) -> Wanted:
        """One that decodes what this record names."""
        return cls(record.digest, record.tokenizer)

    def find(self) -> CachedModel | None:
        """The one in this machine's cache; None if it is not there."""
        if self.model_id is None:
            return resolve.cached_for_archive(self.digest, self.tokenizer)
        found = store.find(self.model_id)
        return found if found and (found.digest, found.tokenizer) == (self.digest, self.tokenizer) else None


def own(options: Options) -> CachedModel:
    """The model that encodes, in this machine's cache; it is fetched and converted if it is not there yet.

    Raises:
        ModelUnavailableError: it cannot be fetched, or the options leave the choice to the text.
        LLZError: what was fetched is wrong.
    """
    from llmzip.models.registry import DEFAULT_MODEL

    if options.model == AUTO:
        raise ModelUnavailableError(f"--model {AUTO} chooses among the models of one machine; name one for a cluster")
    if is_new(options.model):
        raise ModelUnavailableError(
            f"--model {options.model} learns each block in one piece, which a cluster cannot share; leave --cluster out"
        )
    return _whole(resolve.pull(options.model or DEFAULT_MODEL, options.quiet, offline=options.offline))


def for_archive(record: ModelRecord, options: Options) -> CachedModel:
    """The model that an archive names, in this machine's cache; one of the registry is fetched if it is not there yet.

    Raises:
        ModelUnavailableError: it is not to be had.
    """
    wanted = Wanted.named_by(record)
    if found := wanted.find():
        return _whole(found)
    if options.model and options.model != AUTO and not is_new(options.model):
        resolve.pull(options.model, options.quiet, offline=options.offline)  # the user says where it is
    else:
        resolve.load_for_archive(record.model_id, record.digest, record.tokenizer, options.quiet, options.offline)
    if found := wanted.find():
        return _whole(found)
    raise ModelUnavailableError(f"the archive needs model {record.model_id} (weights {record.digest.hex()}); give its path with --model")


def _whole(model: CachedModel) -> CachedModel:
    """The same model, written anew if an older version wrote it without the tokenizer's digest."""
    return model if model.tokenizer is not None else store.save(model.model_id, resolve.load_cached(model))


def packed(model: CachedModel) -> bytes:
    """A model as a file of `llmzip models export`."""
    sink = io.BytesIO()
    transfer.export_model(model, sink)
    return sink.getvalue()


def unpack(wanted: Wanted, export: bytes) -> None:
    """Put a model into this machine's cache, unless another process has done so.

    Raises:
        LLZError: it is not what was wanted, or the cache cannot be written.
    """
    with taking_turns(store.lock_for(wanted.model_id or wanted.digest.hex()), lambda: None):
        if wanted.find() is None:
            transfer.import_model(io.BytesIO(export), force=True)
    if wanted.find() is None:
        raise ModelUnavailableError(
            f"model {wanted.model_id or wanted.digest.hex()} arrived as another one; check the cluster's object store"
        )
