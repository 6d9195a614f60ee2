"""What other processes compile at the first use, for each kind of model."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from llmzip.codec import first_use
from llmzip.models.convert import convert
from llmzip.models.sources import load_float_model
from llmzip.system import python
from tests.support import families


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen3", "gemma3", "gpt_neox", "llama3"])
def test_programs_of_other_processes(family: str, tmp_path: Path) -> None:
    """Nobody sees what they say, so here it is seen that they come to their end."""
    config = convert(load_float_model(families.write(tmp_path / family, families.checkpoint(family)))).config
    for program in (*first_use.programs(config), *first_use.programs(config, first_use.LEARNING)):
        command = python.command(program)
        assert command
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


_USE = """
from llmzip.adapter import probe
from llmzip.engine import build, questions
from llmzip.models.config import ModelConfig
from llmzip.system import jit
with jit.noticing(lambda: print("compiled")):
    build.build(questions.small_model(ModelConfig.from_dict({config})), "cpu", 2)
    probe.prove(2)
"""


@pytest.mark.slow
def test_others_compile_all_that_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they compile is what this processor runs, with AMX or without; nothing is left to compile."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    config = convert(load_float_model(families.write(tmp_path / "model", families.checkpoint("qwen3")))).config
    for program in (*first_use.programs(config), _USE.format(config=config.as_dict())):
        command = python.command(program)
        assert command
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
