"""What the matrix passed with is what pyproject asks for; and what it takes no other processor to try."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys

import pytest

from scripts import environments, matrix
from tests.support.codecs import ROOT

pytestmark = pytest.mark.slow


def test_ranges_are_those_that_were_tried() -> None:
    ranges = environments.ranges()
    assert {name: high for name, (_, high) in ranges.items()} == {name: environments.bound(name) for name in environments.NEWEST}
    listed = re.search(r"\ndependencies = \[\n(.*?)\n\]", (ROOT / "pyproject.toml").read_text("utf-8"), re.S)
    assert listed
    assert [line.strip(' ",') for line in listed[1].splitlines()] == [f"{name}>={low},<{high}" for name, (low, high) in ranges.items()]


def test_steps_leave_no_minor_version_out() -> None:
    tried = {requirement for e in environments.between("python") for requirement in e.requirements}
    for name in environments.FIXED_BETWEEN:
        (major, first), last = environments.ranges()[name][0].split("."), int(environments.NEWEST[name].split(".")[1])
        assert {f"{name}=={major}.{minor}.*" for minor in range(int(first) + 1, last)} <= tried


def test_settings_are_told_apart() -> None:
    """No two are the same, and those with several threads let the libraries have them."""
    told = [(s.variables, s.options) for s in matrix.settings()]
    assert all(told.count(one) == 1 for one in told)
    for s in matrix.settings():
        for option in s.options:
            if option.startswith("--threads="):
                assert s.variables["NUMBA_NUM_THREADS"] == option.split("=")[1]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="for x86-64")
@pytest.mark.parametrize("vnni", [True, False])
def test_products_compile_for_other_processors(vnni: bool) -> None:
    assert set(instructions(matrix.CASCADE_LAKE if vnni else matrix.SKYLAKE)) == ({"vpdpbusd"} if vnni else set())


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="for x86-64")
def test_products_compile_for_amx() -> None:
    """Tiles are configured, loaded, multiplied and stored in this order; and without AMX the same processor gets none of it."""
    found = [line for line in instructions(matrix.SAPPHIRE_RAPIDS, "amx") if line != "vpdpbusd"]
    assert found.count("ldtilecfg") == found.count("tilerelease") == 1
    assert found[0] == "ldtilecfg"
    text = " ".join(found)
    for rows in (1, 2):
        sums, left, right = range(0, 2 * rows), range(4, 4 + rows), (6, 7)
        zeros = [f"tilezero tmm{s}" for s in sums]
        loads = [f"tileloadd tmm{t}" for t in (*left, *right)]
        products = [f"tdpbsud tmm{b} tmm{a} tmm{2 * i + c}" for i, a in enumerate(left) for c, b in enumerate(right)]
        stores = [f"tilestored tmm{s}" for s in sums]
        assert text.count(" ".join([*zeros, *loads, *products, *stores])) == 2  # asking for the weights ahead, or not
    assert set(instructions(matrix.SAPPHIRE_RAPIDS)) == {"vpdpbusd"}


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="for x86-64")
def test_attention_compiles_for_amx() -> None:
    """Four blocks of keys, each multiplied with the same tile of queries; then four tiles of sums of values. Without AMX nothing of it."""
    found = instructions(matrix.SAPPHIRE_RAPIDS, "amx", "attention")
    keys = [
        line
        for b in range(4)
        for line in (
            f"tilezero tmm{b % 2}",
            f"tileloadd tmm{6 + b % 2}",
            f"tdpbsud tmm{6 + b % 2} tmm2 tmm{b % 2}",
            f"tilestored tmm{b % 2}",
        )
    ]
    values = ["tileloadd tmm4", *(line for c in range(4) for line in (f"tileloadd tmm{6 + c % 2}", f"tdpbusd tmm{6 + c % 2} tmm4 tmm{c}"))]
    clear, keep = ([f"{what} tmm{c}" for c in range(4)] for what in ("tilezero", "tilestored"))
    assert found == [
        "ldtilecfg",
        "tileloadd tmm2",
        *keys,
        *clear,
        *values,
        *clear,
        *keep,
        "tilerelease",
    ]  # cleared only, if there is no value
    assert not instructions(matrix.SAPPHIRE_RAPIDS, "attention")


def instructions(variables: dict[str, str], *options: str) -> list[str]:
    command = [sys.executable, "-m", "tests.support.compile_worker", *options]
    result = subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True)
    assert not result.returncode, result.stderr
    return result.stdout.splitlines()
