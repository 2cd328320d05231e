"""A small recipe on the workshop's files, and what running it tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cli.conftest import Workshop, mcr

STEPS = [
    "extract/text-sees", "extract/text-hears", "extract/images", "extract/sounds", "train",
    "project/images", "index/images", "eval/sounds-to-images",
]  # fmt: skip
AFTER_TRAINING = STEPS[4:]


def write_recipe(workshop: Workshop, folder: Path, *, name: str = "small.toml") -> Path:
    """The workshop's sound bridge as a recipe in `folder`, its outputs in `folder`/out."""
    texts, specs = workshop.files / "texts.csv", workshop.specs
    path = folder / name
    path.write_text(f"""
folder = "out"
device = "cpu"

[extract]
label_column = "number"

[memory.text-sees]
extract = "{texts}"
encoder = "{specs["sees"]}"
modality = "text"

[memory.text-hears]
extract = "{texts}"
encoder = "{specs["hears"]}"
modality = "text"

[memory.images]
extract = "{workshop.files / "images.csv"}"
encoder = "{specs["sees"]}"
modality = "image"
id_column = "key"

[memory.sounds]
extract = "{workshop.files / "sounds.csv"}"
encoder = "{specs["hears"]}"
modality = "audio"
id_column = "key"

[train]
hub = ["text-hears", "text-sees"]
leaf = ["sounds", "images"]
preset = "published"
dimension = 8
hidden = 16
epochs = 2

[project]
memories = ["images"]

[index]
kind = "flat"

[eval.sounds-to-images]
query = "sounds"
gallery = "images"
resamples = 50
""")
    return path


def edit(recipe: Path, old: str, new: str) -> None:
    """Replace a part of a recipe that is there once."""
    text = recipe.read_text()
    assert text.count(old) == 1, old
    recipe.write_text(text.replace(old, new))


def run(recipe: Path, *options: object, code: int = 0) -> dict[str, Any]:
    """What `mcr run --json` tells."""
    result = mcr("run", recipe, *options, "--json")
    assert result.exit_code == code, (result.stderr, result.exception)
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def made(told: dict[str, Any]) -> list[str]:
    """The steps that were not skipped."""
    return [step["step"] for step in told["steps"] if step["action"] != "skip"]


def files_below(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
