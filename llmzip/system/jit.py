"""How functions are compiled: all of llmzip's take their decorator from here, and numba's settings for the user's own do not reach them.

Those settings are the process's, as `NUMBA_DISABLE_JIT=1` or what another library assigned to `numba.config`. While a function of ours
is decorated or compiled they are as we need them, and afterwards as they were. Numba's lock is held meanwhile, so nobody else compiles.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numba as nb
from numba import config
from numba.core.compiler_lock import global_compiler_lock

from llmzip.system.jit_cache import CodeCache

_OWN = {"DISABLE_JIT": 0, "BOUNDSCHECK": None}  # as numba has them if nobody sets them


def compiled(**flags: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator for functions that numba compiles when they are first called, and that run without Python's lock.

    Args:
        flags: more of numba's for them.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        with _own_settings():
            dispatcher = nb.njit(nogil=True, **flags)(function)
        dispatcher._cache = _Cache(function)
        compile_one = dispatcher.compile

        def compile_ours(sig: Any) -> Any:
            with _own_settings():
                return compile_one(sig)

        dispatcher.compile = compile_ours
        return dispatcher

    return decorate


class _Cache(CodeCache):
    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """As of any cache."""
        found = super().load_overload(sig, target_context)
        if found is None:  # it is compiled now, before which numba looks at its variables again
            config.reload_config()  # type: ignore[no-untyped-call]
            vars(config).update(_OWN)
        return found


@contextlib.contextmanager
def _own_settings() -> Iterator[None]:
    with global_compiler_lock:
        before = {name: getattr(config, name) for name in _OWN}
        vars(config).update(_OWN)
        try:
            yield
        finally:
            vars(config).update(before)
