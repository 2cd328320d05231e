"""`mcr init`: recipes that work, and that say nothing which `mcr run` does not know."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bridge.recipe.reading import read_recipe
from bridge.recipe.templates import RECIPES
from cli.vocabulary import vocabulary
from features import keypad
from tests.cli.conftest import done, mcr
from tests.cli.recipes import edit, made, run

GUIDE = Path(__file__).parents[2] / "docs" / "first-minutes.md"
FILES = {  # that the recipes name
    "clip-clap": ["data/texts.txt", "data/images/a.png", "data/sounds/a.wav", "data/test.csv"],
    "clip-ulip": [
        "data/texts.txt", "data/images/a.png", "data/clouds/a.npz", "data/shapes-test.csv",
        "pointbert_ULIP-2.pt",
    ],
    "own": [
        "data/texts.txt", "data/texts-one.npy", "data/texts-two.npy", "data/images-one.npy",
        "data/sounds-two.npy", "own.h5",
    ],
    "demo": [],
}  # fmt: skip
COMMENTED = re.compile(r"^# (?=\[[\w.-]+\]$|\w+ = )", re.MULTILINE)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def lay_out(name: str) -> None:
    for file in FILES[name]:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text("1")


def test_the_list_has_every_recipe():
    lines = done("init").stdout.splitlines()
    assert [line.split()[0] for line in lines[1 : len(RECIPES) + 1]] == list(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_read_as_it_is_written(name):
    lay_out(name)
    assert f"mcr run {name}.toml" in done("init", name).stdout
    steps = read_recipe(Path(f"{name}.toml"), vocabulary()).steps
    assert "train" in [step.name for step in steps]
    assert {step.stage for step in steps} >= {"train", "project", "index"}
    assert all(step.out.is_relative_to(name) for step in steps)


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_recipe_has_as_comments_is_known_as_well(name):
    lay_out(name)
    done("init", name)
    path = Path(f"{name}.toml")
    text, count = COMMENTED.subn("", path.read_text())
    assert count or name == "demo"
    text = re.sub(r'^encoder = "clip:ViT-B-32,openai"  # inst.*\n', "", text, flags=re.MULTILINE)
    for memory in re.findall(r'"(test-\w+)"', text):
        if f"[memory.{memory}]" not in text:
            text += f'\n[memory.{memory}]\nfile = "own.h5"\n'
    path.write_text(text.replace('preset = "best"', 'preset = "published"'))
    assert read_recipe(path, vocabulary()).steps


def test_nothing_is_overwritten_and_names_are_checked():
    done("init", "own", "-o", "mine.toml")
    before = Path("mine.toml").read_text()
    assert 'folder = "mine"' in before
    result = mcr("init", "demo", "-o", "mine.toml")
    assert (result.exit_code, Path("mine.toml").read_text()) == (1, before)
    assert result.stderr == (
        "error: mine.toml exists: remove it, or choose another file with --out\n"
    )
    result = mcr("init", "clip-clop")
    assert result.exit_code == 2
    assert (
        "there is no recipe 'clip-clop' (did you mean clip-clap?): choose demo, " in result.stderr
    )
    result = mcr("init", "own", "-o", 'my "own".toml')
    assert 'error: my "own".toml would need quoting in the recipe: choose a plain' in result.stderr
    result = mcr("init", "own", "-o", "mine.txt")
    assert "error: a recipe is called NAME.toml, not mine.txt: write mine.txt.toml" in result.stderr


def test_a_folder_of_the_demo_is_told_before_the_recipe_runs_into_it():
    assert done("init", "demo", "-o", "first.toml").stderr == ""
    Path("demo/data").mkdir(parents=True)  # as `mcr demo` makes it
    told = done("init", "demo").stderr
    assert told.startswith("demo is there already, and nothing of a recipe: give it another folder")
    assert told.endswith("such as mcr init demo -o first.toml\n")


def test_the_commands_of_the_guide_run_on_fewer_numbers(monkeypatch):
    everything = keypad.numbers
    monkeypatch.setattr(keypad, "numbers", lambda split: everything(split)[-12:])
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    lines = re.findall(r"^    mcr (.*)$", GUIDE.read_text("utf-8"), re.MULTILINE)
    assert len(lines) == 9
    for line in lines:
        if line != "--install-completion":  # which writes into the user's files
            done(*line.split())
    assert made(run(Path("first.toml"))) == []
    edit(Path("first.toml"), "seed = 0", "seed = 1")
    again = made(run(Path("first.toml")))
    assert again[0] == "numbers"
    assert "extract/images" in again
    assert "train" in again
