"""Every class of errors passes from one process to another with its message and what else it says."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
from typing import Any

import pytest

import llmzip
from llmzip.errors import LLZError

WAYS = {  # for classes that make their message of something else
    "UnverifiedError": (3,),
    "DamageError": ("words", 3),
    "OutputLimitError": (7, 5),
    "DamagedMessageError": (),
    "OtherPartError": (),
}


def classes() -> list[type[LLZError]]:
    """All of them, in all modules."""
    for module in pkgutil.walk_packages(llmzip.__path__, "llmzip."):
        if module.name != "llmzip.__main__":
            importlib.import_module(module.name)
    found, waiting = [], [LLZError]
    while waiting:
        kind = waiting.pop()
        found.append(kind)
        waiting += kind.__subclasses__()
    return sorted({kind for kind in found if kind.__module__.startswith("llmzip.")}, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_pickled(kind: type[LLZError]) -> None:
    arguments: tuple[Any, ...] = WAYS.get(kind.__name__, ("words",))
    error = kind(*arguments)
    error.args = (f"{error}, and more",)  # as is done to add advice
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert str(back) == str(error)
    assert back.exit_code == error.exit_code
    assert vars(back) == vars(error)


def test_there_are_many() -> None:
    names = {kind.__name__ for kind in classes()}
    assert {"OutputLimitError", "DamagedMessageError", "NotReproducedError", "ClusterError", "WorkerLostError"} <= names
    assert set(WAYS) <= names
    assert all(inspect.getdoc(kind) for kind in classes())
