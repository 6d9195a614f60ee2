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
    for program in first_use.programs(config):
        command = python.command(program)
        assert command
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
