"""The recipes that `mcr init` writes: commented TOML, to be changed by its reader."""

from __future__ import annotations

from pathlib import Path

RECIPES = {
    "demo": "sounds and pictures of numbers, made up: nothing to download, half a minute",
    "clip-clap": "sounds and images, joined through texts (C-MCR's first bridge)",
    "clip-ulip": "3D objects and texts, joined through images (C-MCR's second bridge)",
    "own": "embeddings that you have already, of any two spaces",
}


def template(name: str) -> str:
    """The text of the recipe called `name`, one of RECIPES."""
    return (Path(__file__).parent / f"{name}.toml").read_text("utf-8")
