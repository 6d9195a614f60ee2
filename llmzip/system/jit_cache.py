"""Keeps compiled code on disk, so that a machine compiles once. Numba's own cache does so, too, but not for all kinds of folders and files.

The code of a function for one signature is one file. It begins with a digest of its content and of everything it depends on: the sources of
the function's module and of the modules that it imports from its package, since compiled code includes the functions and constants it uses;
and the versions of the libraries. A file with another digest is damaged, outdated or not from here: it is never unpickled, and it is
replaced. No failure here is an error: the function is compiled then.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import logging
import os
import pickle
import re
import stat
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba import config
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.runtime.nrt import rtsys
from numba.core.serialize import dumps

from llmzip.system import user_folders
from llmzip.system.temporary import temporary
from llmzip.system.turns import Turn

_log = logging.getLogger(__name__)

_SHAPING = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "DEBUGINFO_DEFAULT")  # settings of numba that change the code
_DIGEST_BYTES = hashlib.sha256().digest_size
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_IMPORT = re.compile(r"^from ([\w.]+) import (\([^)]*\)|.*)", re.MULTILINE)


class CodeCache(NullCache):
    """The compiled code of one function by signature, in the interface of numba's dispatchers."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._module, self._name = function.__module__, function.__qualname__
        self._source = function.__code__.co_filename
        self._sources = _sources(self._module)  # read now, while they are still those that were imported
        self._line = function.__code__.co_firstlineno

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled code for a signature; None if there is none that fits."""
        try:
            # Compiled code allocates by it. A `refresh`, which does so too, is for compiling, and takes long.
            rtsys.initialize(target_context)
            for folder in self._places():
                if payload := self._read(self._file(folder, sig, target_context.codegen())):
                    return CompileResult._rebuild(target_context, *pickle.loads(payload))  # type: ignore[no-untyped-call]  # noqa: S301  of trusted owners, by its digest
        except Exception:  # anything may lie there
            _log.debug("%s.%s cannot be had from the cache", self._module, self._name, exc_info=True)
        return None

    def turn(self, sig: Any, target_context: Any) -> Turn | None:
        """The turn to compile the function for a signature.

        None if what is compiled is not kept, or if others can write to the folder: the name of the lock could be their link to a file of this user.
        """
        try:
            folder = self._places()[-1]
            status = folder.stat()
            if status.st_uid in _trusted(self._source) and not (os.name == "posix" and status.st_mode & _OTHERS_WRITE):
                return Turn(self._file(folder, sig, target_context.codegen()))
        except Exception:
            _log.debug("%s.%s is compiled out of turn", self._module, self._name, exc_info=True)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the compiled code for a signature, if possible."""
        try:
            if data.lifted or data.library.has_dynamic_globals:  # it contains addresses of this process
                return
            payload = dumps(data._reduce())  # type: ignore[no-untyped-call]
            for folder in self._places()[-1:]:
                self._write(self._file(folder, sig, data.codegen), payload)
        except Exception:
            _log.debug("%s.%s cannot be kept", self._module, self._name, exc_info=True)

    def _places(self) -> tuple[Path, ...]:
        return () if self._sources is None else _places(self._source, getattr(config, "CACHE_DIR"))  # noqa: B009  numba makes it

    def _file(self, folder: Path, sig: Any, codegen: Any) -> Path:
        which = (self._line, str(sig), codegen.magic_tuple(), [str(getattr(config, name)) for name in _SHAPING])
        short = hashlib.sha256(repr(which).encode()).hexdigest()[:16]
        name = f"{self._module.rpartition('.')[2]}.{self._name}".replace("<", "").replace(">", "")
        return folder / f"{name}-{short}.{sys.implementation.cache_tag}.compiled"

    def _digest(self, file: Path, payload: bytes) -> bytes:
        versions = (numba.__version__, llvmlite.__version__, sys.version)
        return hashlib.sha256(repr((file.name, self._module, self._sources, versions)).encode() + payload).digest()

    def _read(self, file: Path) -> bytes | None:
        try:
            with open(file, "rb", opener=_open) as source:
                owner, content = os.fstat(source.fileno()).st_uid, source.read()
        except OSError:
            return None
        payload = content[_DIGEST_BYTES:]
        right = owner in _trusted(self._source) and content[:_DIGEST_BYTES] == self._digest(file, payload)
        return payload if right else None

    def _write(self, file: Path, payload: bytes) -> None:
        work = file.with_suffix(f".{uuid.uuid4().hex[:16]}")
        with temporary(lambda: open(work, "xb"), lambda sink: _drop(sink, work)) as sink:  # readable for whom the umask says
            sink.write(self._digest(file, payload) + payload)
            sink.close()
            os.replace(work, file)


def _open(file: str, flags: int) -> int:
    return os.open(file, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe in its place would block


def _drop(sink: Any, work: Path) -> None:
    with contextlib.suppress(OSError):
        sink.close()
    with contextlib.suppress(OSError):
        work.unlink()


def digest_of(module: str) -> str | None:
    """A digest of the sources that a module is made of, for others who keep what depends on them; None if they cannot be read."""
    return _sources(module)


@functools.cache
def _sources(module: str) -> str | None:
    """A digest of the sources of a module and of all modules of its package or this one that it imports, directly or not; None if they cannot be read."""
    found: dict[str, str] = {}
    try:
        _collect(module, found)
    except (ImportError, OSError, AttributeError, TypeError, SyntaxError, UnicodeError):
        return None
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()


def _collect(module: str, found: dict[str, str]) -> None:
    if module in found:
        return
    found[module] = sys.modules[module].__spec__.loader.get_source(module) + ""  # type: ignore[union-attr]  # None is a TypeError
    for base, names in _IMPORT.findall(found[module]):
        if base.partition(".")[0] in (module.partition(".")[0], __name__.partition(".")[0]):
            for name in (base, *(f"{base}.{part}" for part in re.findall(r"\w+", names))):
                if name in sys.modules:
                    _collect(name, found)


@functools.cache
def _places(source: str, chosen: str) -> tuple[Path, ...]:
    """Folders that may have the compiled code of a file's functions. Only the last one is written to.

    Args:
        source: the file.
        chosen: the user's folder for numba's caches, or empty. If it is writable, it is the only one.
    """
    tree = os.path.dirname(os.path.abspath(source))
    own = f"{os.path.basename(tree)}-{hashlib.sha256(tree.encode()).hexdigest()[:16]}"

    def candidates() -> Iterator[Path | None]:
        if chosen:
            folder = user_folders.expanded(chosen)
            yield folder and folder / own
        yield Path(importlib.util.cache_from_source(os.path.abspath(source))).parent
        cache = user_folders.user_cache()
        yield cache and cache / "compiled" / own

    places = []
    for folder in filter(None, candidates()):
        places.append(folder)
        if _writable(folder):
            return tuple(places)
    _log.info("compiled code cannot be kept for the next time; set NUMBA_CACHE_DIR to a folder that can be written")
    return tuple(places)


def _writable(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        return os.access(folder, os.W_OK | os.X_OK)
    return False


@functools.cache
def _trusted(source: str) -> frozenset[int]:
    """Users whose files are trusted: this one, the administrator, and the owner of the source. They decide what runs here anyway."""
    owners = {0, os.geteuid()} if hasattr(os, "geteuid") else {0}
    with contextlib.suppress(OSError):
        owners.add(os.stat(source).st_uid)
    return frozenset(owners)
