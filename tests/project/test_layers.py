"""The folders' order: what may import what, and how little lies outside of folders."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.codecs import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

PACKAGE = ROOT / "llmzip"
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]


def test_each_folder_imports_only_those_below_it() -> None:
    code = "import sys; from importlinter.cli import lint_imports_command; sys.argv = ['lint-imports']; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 kept, 0 broken" in done.stdout


def test_nothing_is_exempt() -> None:
    (contract,) = SETTINGS["contracts"]
    assert contract["type"] == "layers"
    assert contract["exhaustive"]
    assert not SETTINGS.get("exclude_type_checking_imports")
    assert not {"ignore_imports", "exhaustive_ignores"} & set(contract)


def test_few_modules_lie_outside_of_folders() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 6


def imports_of_the_root(path: Path) -> list[str]:
    """Names that a module takes from `llmzip` itself and that are no folders or modules: import-linter does not see them."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "llmzip":
            found += [a.name for a in node.names if not (PACKAGE / a.name).is_dir() and not (PACKAGE / f"{a.name}.py").exists()]
        elif isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name == "llmzip"]
    return found


def test_only_the_command_line_uses_the_public_api() -> None:
    """It is above everything else."""
    users = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if imports_of_the_root(path)]
    assert {path.parts[0] for path in users} <= {"cli"}


def test_modules_are_short() -> None:
    lengths = {str(p.relative_to(PACKAGE)): len(p.read_text("utf-8").splitlines()) for p in PACKAGE.rglob("*.py")}
    assert not {name for name, lines in lengths.items() if lines > 350}
    assert len([lines for lines in lengths.values() if lines >= 300]) <= 4


def test_the_quick_loop_reaches_every_module() -> None:
    """It comes last, and only if all of `tests` is run: by then every module of the package was imported, by tests or by what they test."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in PACKAGE.rglob("*.py")}
    assert names - set(sys.modules) == set()
