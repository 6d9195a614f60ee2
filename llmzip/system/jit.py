"""The decorator for all compiled functions of llmzip. The process's settings for numba do not affect them.

Such settings are `NUMBA_DISABLE_JIT=1`, or values that another library assigned to `numba.config`. While a function of llmzip is decorated or
compiled, they have the values that it needs, and afterwards their old ones. Numba's lock is held meanwhile, so nobody else compiles.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numba as nb
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic

from llmzip.system.jit_cache import CodeCache
from llmzip.system.turns import Turn

_OWN = {"DISABLE_JIT": 0, "BOUNDSCHECK": None}  # numba's defaults


def compiled(**flags: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator: numba compiles the function when it is first called, and it runs without Python's lock.

    Args:
        flags: further flags for numba.
    """

    njit: Any = nb.njit  # whose types lack the flag: what C could call is not made, which saves a tenth of the time to compile

    def decorate(function: Callable[..., Any]) -> Any:
        with _own_settings():
            dispatcher = njit(nogil=True, no_cfunc_wrapper=True, **flags)(function)
        cache = dispatcher._cache = _Cache(function)
        compile_one = dispatcher.compile

        def compile_ours(sig: Any) -> Any:
            with _own_settings(), cache.turns():
                return compile_one(sig)

        dispatcher.compile = compile_ours
        return dispatcher

    return decorate


def address(function: Any, *arguments: Any) -> int:
    """Where the code of a compiled function for arguments of these types begins, with the calling convention of numba."""
    kinds = tuple(nb.typeof(argument) for argument in arguments)  # type: ignore[no-untyped-call]
    function.compile(kinds)
    found = function.overloads[kinds]
    return int(found.library.get_pointer_to_function(found.fndesc.llvm_func_name))


@intrinsic
def call(_typing: Any, _address: Any, arguments: Any) -> Any:
    """call(address, arguments): calls the function at an `address`, which returns nothing, with the members of a tuple.

    Returns whether it came to its end: False if it raised an error, as for lack of memory. Its code is not compiled once more with its
    caller's, and can be compiled by another process.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args[1].types
        function = builder.inttoptr(args[0], context.call_conv.get_function_type(types.none, kinds).as_pointer())
        members = [builder.extract_value(args[1], i) for i in range(len(kinds))]
        status, _ = context.call_conv.call_function(builder, function, types.none, kinds, members)
        return status.is_ok

    return types.boolean(types.intp, arguments), codegen


@intrinsic
def gathered(_typing: Any, _address: Any, first: Any, rest: Any) -> Any:
    """gathered(address, first, rest): keeps the first arguments of a function, so that it can be called with the rest alone.

    The function at `address` takes the members of the tuples `first` and `rest`. Of `rest` only the types matter. Returns two addresses, `code` and
    `where`: code(where, ...) calls the function with the members of `first`, which lie at `where`, and the arguments given. Both are valid until the
    caller returns. Whoever hands on two addresses instead of a hundred arrays compiles much faster, and only once for all types of `first`.
    """
    cg: Any = cgutils
    numba_types: Any = types
    outer = (types.intp, *rest.types)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        conv, kinds = context.call_conv, (*first.types, *rest.types)
        kept = cg.alloca_once_value(builder, cg.pack_struct(builder, args[:2]))
        name = builder.module.get_unique_name("llmzip.gathered")
        code = ir.Function(builder.module, conv.get_function_type(types.none, outer), name)
        code.linkage = "internal"
        within = ir.IRBuilder(code.append_basic_block())
        where, *others = conv.decode_arguments(within, outer, code)
        inner, members = cg.unpack_tuple(within, within.load(within.inttoptr(where, kept.type)), 2)
        function = within.inttoptr(inner, conv.get_function_type(types.none, kinds).as_pointer())
        given = [*cg.unpack_tuple(within, members, len(first.types)), *others]
        status, _ = conv.call_function(within, function, types.none, kinds, given)
        with cg.if_unlikely(within, status.is_error):
            conv.return_status_propagate(within, status)
        conv.return_value(within, context.get_dummy_value())
        found = [builder.ptrtoint(x, cg.intp_t) for x in (code, kept)]
        return context.make_tuple(builder, signature.return_type, found)

    return numba_types.UniTuple(types.intp, 2)(types.intp, first, rest), codegen


_notice: Callable[[], None] | None = None  # called when a function is first found to be not compiled yet


@contextlib.contextmanager
def noticing(notice: Callable[[], None]) -> Iterator[None]:
    """Call `notice` once if something has to be compiled within."""
    global _notice
    before, _notice = _notice, notice
    try:
        yield
    finally:
        _notice = before


class _Cache(CodeCache):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._turns: list[Turn] = []

    @contextlib.contextmanager
    def turns(self) -> Iterator[None]:
        """Give back the turn that is taken within."""
        before = len(self._turns)
        try:
            yield
        finally:
            while len(self._turns) > before:
                self._turns.pop().give()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """See `CodeCache.load_overload`. What another process is compiling is waited for."""
        found = super().load_overload(sig, target_context)
        if found is None:
            _tell()
            if turn := self.turn(sig, target_context):
                self._turns.append(turn)
                if turn.take():
                    found = super().load_overload(sig, target_context)
        if found is None:  # it will be compiled now, and numba reads its environment variables again before
            config.reload_config()  # type: ignore[no-untyped-call]
            vars(config).update(_OWN)
        return found


def _tell() -> None:
    global _notice
    if _notice:
        notice, _notice = _notice, None
        notice()


@contextlib.contextmanager
def _own_settings() -> Iterator[None]:
    with global_compiler_lock:
        before = {name: getattr(config, name) for name in _OWN}
        vars(config).update(_OWN)
        try:
            yield
        finally:
            vars(config).update(before)
