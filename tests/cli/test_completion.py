"""Completion, tried with a Tab in each shell."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmzip.models import resolve
from llmzip.models.registry import DEFAULT_MODEL, REGISTRY
from tests.support.packages import apt_get

pytestmark = pytest.mark.slow

PATIENCE = 60.0  # seconds a shell may take for anything
# How a shell starts without anyone's settings; and how it is told to complete, and to print what it has in its line on Ctrl-T.
START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "--private", "-i"],
}
SETUP = {
    "bash": ['bind -x \'"\\C-t": printf "<%s>\\n" "$READLINE_LINE"\'', 'eval "$(llmzip completion bash)"'],
    "zsh": [
        "autoload -Uz compinit; compinit -u -D; show() { print -r -- \"<$BUFFER>\" }; zle -N show; bindkey -e; bindkey '^T' show",
        'eval "$(llmzip completion zsh)"',
    ],
    "fish": ["bind \\ct 'printf \"<%s>\\n\" (commandline)'", "llmzip completion fish | source"],
}
CASES = {
    "llmzip comple": "llmzip completion",
    "llmzip models pull smollm2-135m-": f"llmzip models pull {DEFAULT_MODEL}",
    "llmzip compress --la": "llmzip compress --lanes",
    "llmzip compress --device cu": "llmzip compress --device cuda",
    "llmzip compress no": "llmzip compress notes.txt",
    "llmzip compress -1 -o no": "llmzip compress -1 -o notes.txt",
    "llmzip compress a\\ f": "llmzip compress a\\ file.llz",
    "llmzip compress notes.txt f": "llmzip compress notes.txt folder/",
    # as gzip and xz
    "llmzip no": "llmzip notes.txt",
    "llmzip -d no": "llmzip -d notes.txt",
    "llmzip -dc --de": "llmzip -dc --device",
    "llmzip --decom": "llmzip --decompress",
}


class Shell:
    """A shell at a terminal of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        self._process, self._terminal = pty.fork()
        if not self._process:
            os.chdir(folder)
            names = ("PATH", "HOME", "LANG", "PYTHONPATH", "LLMZIP_CACHE")
            kept = {key: os.environ[key] for key in names if key in os.environ}
            path = shutil.which(START[name][0])
            assert path
            os.execve(path, START[name], kept | {"TERM": "xterm", "HOME": str(folder), "PATH": f"{folder / 'bin'}:{kept['PATH']}"})
        self._said = ""
        for command in SETUP[name]:
            self._send(f"{command}\r")
        self._send("echo rea''dy\r")
        self._wait(r"ready")

    def complete(self, line: str) -> str:
        """What the line is after a Tab."""
        self._said = ""
        self._send(f"\x15{line}\t\x14")
        return self._wait(r"<([^<>]*)>")[1].strip()

    def close(self) -> None:
        os.kill(self._process, signal.SIGKILL)
        os.close(self._terminal)
        os.waitpid(self._process, 0)

    def _send(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def _wait(self, pattern: str) -> re.Match[str]:
        end = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self._said)):
            assert select.select([self._terminal], [], [], max(0.0, end - time.monotonic()))[0], self._said
            self._said += os.read(self._terminal, 1 << 16).decode(errors="replace")
        return found


def need(shell: str) -> None:
    """Skips the test where the shell neither is nor can be installed."""
    if not shutil.which(shell):
        tried = apt_get(shell)
        if not shutil.which(shell):
            pytest.skip(f"{shell} is not here, and cannot be installed: {' '.join(tried)}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Some files, and the command in a folder of its own."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "llmzip").write_text(f'#!/bin/sh\nexec {sys.executable} -m llmzip "$@"\n')
    (tmp_path / "bin" / "llmzip").chmod(0o755)
    (tmp_path / "folder").mkdir()
    for file in ("notes.txt", "a file.llz"):
        (tmp_path / file).touch()
    return tmp_path


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_tab(name: str, folder: Path) -> None:
    need(name)
    shell = Shell(name, folder)
    try:
        assert {line: shell.complete(line) for line in CASES} == CASES
    finally:
        shell.close()


def test_fish_shows_whole_descriptions(folder: Path) -> None:
    need("fish")
    command = "llmzip completion fish | source; complete -C 'llmzip '; complete -C 'llmzip compress --l'"
    env = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "HOME": str(folder), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    out = subprocess.run(["fish", "--no-config", "-c", command], cwd=folder, env=env, capture_output=True, text=True, check=True).stdout
    shown = dict(line.split("\t") for line in out.splitlines())
    assert shown["models"] == "List, name, fetch, check, move and delete models."
    assert shown["--lanes"] == "Parallel streams; by default chosen from the size and level."
    assert not any(text.endswith("...") for text in shown.values())


def offered(words: str, **env: str) -> list[tuple[str, str]]:
    """What the program itself offers, which is what bash is told; kind and value."""
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1), "_LLMZIP_COMPLETE": "bash_complete"}
    out = subprocess.run([sys.executable, "-m", "llmzip"], env=os.environ | asked | env, capture_output=True, text=True, check=True).stdout
    return [(kind, value) for kind, _, value in (line.partition(",") for line in out.split())]


def test_what_is_offered(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert offered("llmzip com") == [("plain", "compress"), ("plain", "completion")]
    own = [value for _, value in offered("llmzip -")]
    assert len(own) == len(set(own))
    assert {"-d", "-t", "-l", "-9", "--help", "--version", "--stdout"} <= set(own)
    assert offered("llmzip compress --level") == []
    assert offered("llmzip completion ") == [("plain", shell) for shell in ("bash", "zsh", "fish")]
    monkeypatch.setenv("LLMZIP_CACHE", str(tmp_path / "cache"))
    model_id = resolve.pull(str(tiny_folder), quiet=True).model_id
    for command in ("path", "verify", "rm", "export"):
        assert offered(f"llmzip models {command} ") == [("plain", model_id)]
        assert offered(f"llmzip models {command} /t") == [("file", "/t")]
    assert offered("llmzip models pull ") == offered("llmzip compress --model ") == [("plain", name) for name in REGISTRY]
    for path in ("bench --plot", "bench --csv", "inspect --html", "models export x -o", "decompress --model", "-o"):
        assert offered(f"llmzip {path} no") == [("file", "no")], path
