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
    command = [sys.executable, "-m", "tests.support.compile_worker"]
    environment = os.environ | (matrix.CASCADE_LAKE if vnni else matrix.SKYLAKE)
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.stdout.strip() == str(vnni), result.stderr
