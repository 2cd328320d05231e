"""Completion by the shell: what bash asks, and what it is answered, without torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.config import METHODS, setting_fields
from cli.evaluations import PROTOCOLS
from cli.main import COMMANDS
from tests.cli.recipes import STEPS, write_recipe

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "faiss", "h5py", "numpy", "matplotlib", "sklearn")
CODE = (
    "import sys; sys.argv[0] = 'mcr'; from cli.main import run\n"
    "try: run()\n"
    f"finally: print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
)


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def completed(*words: str, cwd: Path = ROOT) -> list[str]:
    """What the last word can become, as bash's completion function asks."""
    ask = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    run = subprocess.run(
        [sys.executable, "-c", CODE], cwd=cwd, capture_output=True, text=True, check=False,
        env=environment(_MCR_COMPLETE="complete_bash", **ask),
    )  # fmt: skip
    assert run.stderr.splitlines()[-1] == "[]", run.stderr
    return run.stdout.split()


EVERYTHING = {
    "commands": (("mcr", "ex"), ["extract", "export"]),
    "options": (("mcr", "train", "--ep"), ["--epochs"]),
    "settings' values": (
        ("mcr", "train", "--method", ""), list(METHODS)
    ),
    "presets": (("mcr", "train", "--preset", "b"), ["best"]),
    "encoders": (
        ("mcr", "extract", "x", "-e", "mini"), ["mini-clap", "mini-clip", "mini-ulip", "mini:"]
    ),
    "encoders behind a colon": (
        ("mcr", "extract", "x", "-e", "clip", ":", "ViT-L"), ["ViT-L-14,openai"]
    ),
    "encoders at the colon": (
        ("mcr", "extract", "x", "-e", "ulip", ":"), []
    ),
    "modalities": (("mcr", "extract", "x", "-m", ""), ["text", "image", "audio", "points"]),
    "devices": (("mcr", "project", "x", "--device", "c"), ["cpu", "cuda"]),
    "recipes": (("mcr", "init", "clip"), ["clip-clap", "clip-ulip"]),
    "protocols": (("mcr", "eval", ""), list(PROTOCOLS)),
    "kinds of indices": (("mcr", "index", "x", "--kind", "h"), ["hnsw"]),
}  # fmt: skip


@pytest.mark.parametrize("name", EVERYTHING)
def test_bash_is_answered_without_loading_torch(name):
    words, wanted = EVERYTHING[name]
    assert completed(*words) == wanted


def test_steps_are_those_of_the_recipe_on_the_line(workshop, tmp_path):
    recipe = write_recipe(workshop, tmp_path)
    assert completed("mcr", "run", recipe.name, "--only", "extract/", cwd=tmp_path) == STEPS[:4]
    assert completed("mcr", "run", recipe.name, "--from", "t", cwd=tmp_path) == ["train"]
    assert completed("mcr", "run", "gone.toml", "--only", "", cwd=tmp_path) == []


def test_every_setting_with_choices_completes_them():
    from cli.options import _setting_parameters

    for parameter, setting in zip(_setting_parameters(), setting_fields(), strict=True):
        (info,) = parameter.annotation.__metadata__
        values = list(setting.metadata.get("choices", ()))
        assert (info.autocompletion("") if info.autocompletion else []) == values


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_the_script_that_is_installed_completes_in_bash(tmp_path):
    """A bash that reads the script and completes as the Tab key does."""
    mcr = tmp_path / "mcr"
    mcr.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{CODE}" "$@" 2>/dev/null\n')
    mcr.chmod(0o755)
    env = environment(
        PATH=f"{tmp_path}:{os.environ['PATH']}",
        _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1",  # no shell may have started the tests
    )
    script = subprocess.run(
        ["mcr", "--show-completion", "bash"], env=env, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "_MCR_COMPLETE=complete_bash" in script
    ask = f"""{script}
COMP_WORDS=(mcr extract x -e clip : ViT-B-32,op); COMP_CWORD=6
_mcr_completion mcr
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    answer = subprocess.run(
        ["bash", "--norc", "-c", ask], env=env, capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == ["ViT-B-32,openai"]


def test_commands_that_are_told_exist():
    assert set(completed("mcr", "")) == {*COMMANDS, "eval", "plot"}
