"""Compiled code and where it is kept: whatever is found there, or cannot be kept, functions give what they should."""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import pytest
from numba import config

from llmzip.system import jit, jit_cache, turns
from llmzip.system.turns import Turn
from tests.support.codecs import ROOT as TREE
from tests.support.strangers import NOBODY, ROOT, give_away, unprivileged

pytestmark = pytest.mark.slow

FUNCTIONS = """
from llmzip.system.jit import compiled
from pkg.constants import TERM
from pkg.callee import twice

@compiled(error_model="numpy")
def f(x):
    return twice(x) + TERM
"""
CALLEE = """
from llmzip.system.jit import compiled

@compiled()
def twice(x):
    return 2 * x
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a package `pkg` with compiled functions in two of its modules, and a constant in a third."""
    folder = tmp_path / "lib" / "pkg"
    folder.mkdir(parents=True)
    for name, text in (("__init__", ""), ("functions", FUNCTIONS), ("callee", CALLEE), ("constants", "TERM = 1\n")):
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder.parent))
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    yield folder
    forget()


def forget() -> None:
    """As in another process: nothing is imported or looked at."""
    for name in [n for n in sys.modules if n.partition(".")[0] == "pkg"]:
        del sys.modules[name]
    for kept in (jit_cache._sources, jit_cache._places, jit_cache._trusted):
        kept.cache_clear()
    importlib.invalidate_caches()


def run(x: Any = 20) -> tuple[Any, int]:
    """What the function says, as in a new process, and how often its code was found."""
    forget()
    functions = importlib.import_module("pkg.functions")
    return functions.f(x), sum(functions.f.stats.cache_hits.values())


def kept(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.compiled"))


def test_kept_beside_the_source_and_found_again(package: Path) -> None:
    assert run() == (41, 0)
    files = kept(package / "__pycache__")
    assert [f.name.partition("-")[0] for f in files] == ["callee.twice", "functions.f"]
    assert run() == (41, 1)
    assert run(2.5) == (6.0, 0)  # another type
    assert run(2.5) == (6.0, 1)
    assert len(kept(package / "__pycache__")) == 4
    assert not list(package.rglob("*.nb?"))  # numba's own
    umask = os.umask(0)
    os.umask(umask)
    assert files[0].stat().st_mode & 0o777 == 0o666 & ~umask


def replaced(by: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(by(file.read_bytes())) and None  # type: ignore[return-value]


class Trap:
    """What runs something where it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os._exit, (77,)


def linked(file: Path, to: str) -> None:
    file.unlink()
    file.symlink_to(to)


def folder_instead(file: Path) -> None:
    file.unlink()
    file.mkdir()
    (file / "x").touch()


FOREIGN: dict[str, Callable[[Path], None]] = {
    "empty": replaced(lambda _: b""),
    "garbage": replaced(lambda b: os.urandom(len(b))),
    "cut short": replaced(lambda b: b[: len(b) // 2]),
    "only the digest": replaced(lambda b: b[:32]),
    "one bit": replaced(lambda b: b[:2000] + bytes([b[2000] ^ 1]) + b[2001:]),
    "something pickled": replaced(lambda b: pickle.dumps(Trap())),
    "something pickled behind the digest": replaced(lambda b: b[:32] + pickle.dumps(Trap())),
    "more": replaced(lambda b: b + b"\0"),
    "a dangling link": lambda file: linked(file, "nowhere"),
    "a pipe": lambda file: (file.unlink(), os.mkfifo(file))[1],  # type: ignore[func-returns-value]
    "a link to itself": lambda file: linked(file, file.name),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_files_that_will_not_do_are_compiled_anew_and_replaced(package: Path, what: str) -> None:
    run()
    files = kept(package)
    before = [f.read_bytes() for f in files]
    for file in files:
        FOREIGN[what](file)
    assert run() == (41, 0)
    assert run() == (41, 1)
    assert [f.stat().st_size for f in files] == pytest.approx([len(b) for b in before], abs=64)


def test_a_folder_in_a_files_place(package: Path) -> None:
    """It stays, as nobody knows what is in it."""
    run()
    for file in kept(package):
        folder_instead(file)
    assert run() == run() == (41, 0)
    assert len([name for name in os.listdir(package / "__pycache__") if not name.endswith(".pyc")]) == 2  # no temporary files


def test_another_functions_code_under_this_name(package: Path) -> None:
    run()
    first, second = kept(package)
    second.write_bytes(first.read_bytes())
    assert run() == (41, 0)


def test_code_that_cannot_be_rebuilt(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it should be byte for byte, but not what this numba can use."""
    run()
    for content in (Trap, lambda: None, lambda: ("too", "few")):
        with monkeypatch.context() as patch:
            data = pickle.dumps(content())
            patch.setattr(jit_cache, "dumps", lambda _, data=data: data)
            if content is Trap:
                patch.setattr(Trap, "__reduce__", lambda _: (int, ("no number",)))
                patch.setattr(jit_cache, "dumps", lambda _: pickle.dumps(Trap()))
            for file in kept(package):
                file.unlink()
            run()
        assert run() == (41, 0)
        assert run() == (41, 1)


@pytest.mark.parametrize("name", ["functions", "callee", "constants"])
def test_code_is_as_old_as_all_it_was_made_of(package: Path, name: str) -> None:
    """Numba looks at the file of the function alone, and keeps what calls, or holds, what changed."""
    run()
    source = package / f"{name}.py"
    old = source.read_text()
    source.write_text(old.replace("2 * x", "3 * x").replace("TERM = 1", "TERM = 7").replace("+ TERM", "- TERM"))
    wanted = {"functions": 39, "callee": 61, "constants": 47}[name]
    assert run()[0] == run()[0] == wanted
    source.write_text(old)
    assert run()[0] == 41


@pytest.mark.parametrize(("library", "version"), [(numba, "0.1.0"), (jit_cache.llvmlite, "0.1.0"), (sys, "3.1.0 (other)")])  # type: ignore[attr-defined]
def test_code_of_another_version(package: Path, monkeypatch: pytest.MonkeyPatch, library: Any, version: str) -> None:
    run()
    monkeypatch.setattr(library, "version" if library is sys else "__version__", version)
    assert run() == (41, 0)
    assert run() == (41, 1)
    assert len(kept(package)) == 2  # in its place


def test_only_files_of_those_who_are_trusted_count(package: Path) -> None:
    if not ROOT:
        pytest.skip("only the administrator can give files away")
    run()
    for file in kept(package):
        os.chown(file, NOBODY, NOBODY)
    assert run() == (41, 0)
    assert run() == (41, 1)  # replaced by one's own
    for file in kept(package):
        os.chown(file, NOBODY, NOBODY)
    os.chown(package / "functions.py", NOBODY, NOBODY)  # whose owner decides anyway what the function does
    assert run() == (41, 1)


PLACES = """
import sys
from pkg.functions import f
from llmzip.system import jit_cache
print(f(20), sum(f.stats.cache_hits.values()))
print(*jit_cache._places(f.py_func.__code__.co_filename, jit_cache.config.CACHE_DIR), sep="\\n")
"""


def elsewhere(package: Path, variables: dict[str, str], *, code: str = PLACES) -> tuple[str, list[str]]:
    """What the function says in a process of a user with the ordinary rights, and where code is looked for."""
    environment = {k: v for k, v in os.environ.items() if k != "XDG_CACHE_HOME" and not k.startswith("NUMBA_")} | variables
    environment["PYTHONPATH"] = f"{TREE}{os.pathsep}{package.parent}"
    done = subprocess.run(unprivileged(sys.executable, "-c", code), env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    first, *places = done.stdout.splitlines()
    return first, places


def test_read_only_installation(package: Path, tmp_path: Path) -> None:
    """Code is kept in the user's own cache; what its owner left beside the source is used."""
    (package / "__pycache__").mkdir()
    give_away(package)
    home = {"HOME": str(tmp_path / "user")}
    for hits in (0, 1):
        said, places = elsewhere(package, home)
        assert said == f"41 {hits}"
    assert places[0] == str(package / "__pycache__")
    assert places[1].startswith(str(tmp_path / "user" / ".cache" / "llmzip" / "compiled" / "pkg-"))
    assert len(places) == 2
    nowhere = {"HOME": "/proc/nowhere"}
    assert elsewhere(package, nowhere) == ("41 0", [str(package / "__pycache__"), places[1].replace(home["HOME"], "/proc/nowhere")])
    if ROOT:
        os.environ["PYTHONPATH"] = os.pathsep.join((str(TREE), str(package.parent)))
        subprocess.run([sys.executable, "-c", PLACES], check=True, capture_output=True)  # the administrator's
        del os.environ["PYTHONPATH"]
        assert elsewhere(package, nowhere)[0] == "41 1"


@pytest.mark.parametrize("where", ["missing/deep", "/proc/nowhere", "~nobody-of-that-name/x", "a file", "read only"])
def test_the_users_place_for_caches(package: Path, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a file").touch()
    Path("read only").mkdir()
    give_away("read only")
    for hits in (0, 1):
        said, places = elsewhere(package, {"NUMBA_CACHE_DIR": where})
        assert said == f"41 {hits}"
    usable = where == "missing/deep"
    assert places[-1].startswith(str(tmp_path / "missing" / "deep") if usable else str(package / "__pycache__"))
    assert len(kept(package)) == (0 if usable else 2)
    assert not [name for name in os.listdir() if name.startswith("~")]


@pytest.mark.skipif(not ROOT, reason="only the administrator is believed by others")
def test_a_place_for_all_that_its_owner_filled(package: Path, tmp_path: Path) -> None:
    """What is in it is used by those who cannot write it; the rest they keep for themselves."""
    place = tmp_path / "for all"
    place.mkdir()
    variables = {"NUMBA_CACHE_DIR": str(place), "HOME": str(tmp_path / "user")}
    assert elsewhere(package, variables)[0] == "41 0"
    (package / "__pycache__").mkdir(exist_ok=True)
    for folder in (place, *place.iterdir(), package, package / "__pycache__"):
        folder.chmod(0o555)
    before = kept(place)
    assert elsewhere(package, variables)[0] == "41 1"
    for hits in (0, 1):
        said, places = elsewhere(package, variables, code=PLACES.replace("f(20)", "f(2.5)"))
        assert said == f"6.0 {hits}"
    assert [p.startswith(str(start)) for p, start in zip(places, (place, package, tmp_path / "user"), strict=True)] == [True] * 3
    assert kept(place) == before
    assert not kept(package)


def test_no_place_at_all(package: Path) -> None:
    """A function without a source that can be read, as in programs packed into one."""
    forget()
    functions = importlib.import_module("pkg.functions")
    sys.modules["pkg.functions"].__spec__ = None
    jit_cache._sources.cache_clear()
    bare = jit.compiled()(functions.f.py_func)
    assert bare(20) == 41
    assert not [f for f in kept(package) if "functions" in f.name]


def test_a_zip_file(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as packed:
        for file in package.glob("*.py"):
            packed.write(file, f"pkg/{file.name}")
    for file in package.glob("*.py"):
        file.unlink()
    monkeypatch.syspath_prepend(str(tmp_path / "app.pyz"))
    assert run() == (41, 0)
    assert run() == (41, 1)
    assert sys.modules["pkg"].__file__ == str(tmp_path / "app.pyz" / "pkg" / "__init__.py")
    assert {f.parent.parent for f in kept(tmp_path)} == {tmp_path / "home" / "llmzip" / "compiled"}


SETTINGS = """
import sys
from numba import config, njit
by_hand = len(sys.argv) > 1
if by_hand:
    config.DISABLE_JIT, config.BOUNDSCHECK = 1, 1
from pkg.functions import f
print(f(20), type(f).__name__)

@njit
def own(x):
    return x

import os
os.environ["NUMBA_LOOP_VECTORIZE"] = "1"  # numba looks at all of its variables again, before it compiles
print(config.DISABLE_JIT, config.BOUNDSCHECK, type(own).__name__, f(2.5), config.DISABLE_JIT if not by_hand else 1)
"""


@pytest.mark.parametrize("by_hand", [False, True])
def test_settings_for_the_users_own_functions(package: Path, by_hand: bool) -> None:
    """Ours are compiled all the same, and the settings stay as they were."""
    environment = os.environ | {"PYTHONPATH": f"{TREE}{os.pathsep}{package.parent}", "NUMBA_CACHE_DIR": ""}
    if not by_hand:
        environment |= {"NUMBA_DISABLE_JIT": "1", "NUMBA_BOUNDSCHECK": "1"}
    for _ in range(2):
        arguments = ["by hand"] if by_hand else []
        done = subprocess.run([sys.executable, "-c", SETTINGS, *arguments], env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "41 CPUDispatcher\n1 1 function 6.0 1\n"


def test_settings_stay_when_compiling_fails(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "DISABLE_JIT", 1)
    forget()
    functions = importlib.import_module("pkg.functions")
    for _ in range(2):
        with pytest.raises(numba.TypingError):
            functions.f("text")
        assert config.DISABLE_JIT == 1  # type: ignore[attr-defined]


def test_threads_that_compile_at_once(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "DISABLE_JIT", 1)
    forget()
    functions = importlib.import_module("pkg.functions")
    results: list[Any] = []
    threads = [threading.Thread(target=lambda x=x: results.append(functions.f(x))) for x in (1, 1.5, 1j, True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results, key=abs) == sorted([3, 4.0, 1 + 2j, 3], key=abs)
    assert config.DISABLE_JIT == 1  # type: ignore[attr-defined]


def test_processes_that_compile_at_once(package: Path) -> None:
    """One of them compiles, and the others take what it has made."""
    environment = os.environ | {"PYTHONPATH": f"{TREE}{os.pathsep}{package.parent}", "NUMBA_CACHE_DIR": ""}
    processes = [subprocess.Popen([sys.executable, "-c", PLACES], env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate()[0].splitlines()[0] for process in processes]
    assert sorted(said) == ["41 0", "41 1", "41 1", "41 1"]
    assert not list(package.rglob("*.lock"))


@pytest.mark.skipif(os.name != "posix", reason="others have no rights to folders elsewhere")
def test_no_turns_where_others_can_put_links(package: Path, tmp_path: Path) -> None:
    """Taking one would empty the file that a link leads to."""
    (precious := tmp_path / "precious").write_text("text")
    run()
    folder = package / "__pycache__"
    names = [file.with_suffix(".lock") for file in kept(folder)]
    for file, name in zip(kept(folder), names, strict=True):
        file.unlink()
        name.symlink_to(precious)
    folder.chmod(0o777)
    assert run() == (41, 0)
    assert run() == (41, 1)
    assert precious.read_text() == "text"
    assert all(name.is_symlink() for name in names)


HOLDING = """
import sys, time
from pathlib import Path
from llmzip.system.turns import Turn
turn = Turn(Path(sys.argv[1]))
print(turn.take(), flush=True)
time.sleep(600)
"""


def test_a_turn_ends_with_its_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDING, str(tmp_path / "made")]
    with subprocess.Popen(command, cwd=TREE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "False\n"
        ender = threading.Timer(0.5, process.kill)
        ender.start()
        turn = Turn(tmp_path / "made")
        assert turn.take()  # another one had it until it was killed
        assert not ender.is_alive()
        turn.give()
    assert not Turn(tmp_path / "made").take()


def test_turns_of_those_who_do_not_end_are_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_LONGEST", 0.2)
    first, second = Turn(tmp_path / "made"), Turn(tmp_path / "made")
    assert not first.take()
    assert second.take()
    second.give()
    first.give()


def test_where_no_turns_can_be_taken(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    turn = Turn(tmp_path / "file" / "made")
    assert not turn.take()
    turn.give()


def test_all_of_ours_are_compiled_in_one_way() -> None:
    """Numba's decorators appear in one module only, so that none of its caches is left."""
    for file in (TREE / "llmzip").rglob("*.py"):
        if file.name != "jit.py":
            text = textwrap.dedent(file.read_text())
            assert "njit(" not in text and "cache=True" not in text, file


def test_code_outside_depends_on_the_package() -> None:
    """Code that others compile contains ours: when ours changes, theirs is compiled anew."""
    user = ModuleType("user_of_kernels")
    user.__spec__ = ModuleSpec("user_of_kernels", Source("from llmzip.engine.kernels.rows import norm_rows\n"))
    rows = importlib.import_module("llmzip.engine.kernels.rows")
    found = dict[str, str]()
    sys.modules[user.__name__] = user
    try:
        jit_cache._collect(user.__name__, found)
    finally:
        del sys.modules[user.__name__]
    assert found[rows.__name__] == Path(str(rows.__file__)).read_text("utf-8")
    assert "llmzip.engine.kernels.simd" in found


class Source(Loader):
    """A loader that has a module's source."""

    def __init__(self, text: str) -> None:
        self._text = text

    def get_source(self, _name: str) -> str:
        return self._text
