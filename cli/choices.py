"""Values that the shell completes, found without loading anything heavy.

Typer calls a completer with the word so far. Those of closed sets are also what recipes check.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

Completer = Callable[[str], list[str]]


def _starting(values: Iterable[str], incomplete: str) -> list[str]:
    return [value for value in values if value.startswith(incomplete)]


def _modalities() -> Sequence[str]:
    from features.space import MODALITIES

    return MODALITIES


def _presets() -> Sequence[str]:
    from bridge.config import PRESETS

    return list(PRESETS)


def modality(incomplete: str) -> list[str]:
    """text, image, audio or points."""
    return _starting(_modalities(), incomplete)


def stored_dtype(incomplete: str) -> list[str]:
    """Of a memory's rows."""
    return _starting(("float16", "float32"), incomplete)


def encoder_precision(incomplete: str) -> list[str]:
    """Of an encoder's weights."""
    return _starting(("fp32", "bf16", "fp16"), incomplete)


def preset(incomplete: str) -> list[str]:
    """Of training."""
    return _starting(_presets(), incomplete)


def recipe(incomplete: str) -> list[str]:
    """What `mcr init` can write."""
    from bridge.recipe.templates import RECIPES

    return _starting(RECIPES, incomplete)


def step(incomplete: str) -> list[str]:
    """Stages and steps of the recipe that stands on the line."""
    from cli.vocabulary import steps_of

    # What bash asks, and the other shells: a line that is not whole yet is not parsed.
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")
    named = [word for word in line.split() if word.endswith(".toml")]
    return _starting(steps_of(Path(named[0])) if named else (), incomplete)


def encoder(incomplete: str) -> list[str]:
    """Known encoders; those that go on with a name of the user's end with their colon."""
    from features.encoders.catalogue import listed

    specs = (one.spec for one in listed())
    open_ended = ("FILE", "FOLDER", "MODEL,TAG", "MODEL,FILE", "ORG/REPO")
    shown = {
        next((spec.removesuffix(end) for end in open_ended if spec.endswith(end)), spec)
        for spec in specs
    }
    return _starting(sorted(shown), incomplete)


def device(incomplete: str) -> list[str]:
    """Where torch may compute; whether it can is seen when it is asked."""
    return _starting(("auto", "cpu", "cuda", "mps"), incomplete)


def index_kind(incomplete: str) -> list[str]:
    """Names beside FAISS's factory strings."""
    return _starting(("flat", "hnsw", "ivf"), incomplete)


def file_or_address(incomplete: str) -> list[str]:
    """Files and folders, and how an address of Milvus begins.

    An option that takes both is a string: as a path, an address would lose one of its //.
    """
    start = Path(incomplete)
    folder = start if incomplete.endswith("/") else start.parent
    before = incomplete[: incomplete.rfind("/") + 1]
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    names = [f"{before}{one.name}{'/' if one.is_dir() else ''}" for one in found]
    return _starting([*names, "milvus:", "milvus+http://"], incomplete)


def among(values: Sequence[str]) -> Completer:
    """A completer of fixed values."""

    def complete(incomplete: str) -> list[str]:
        return _starting(values, incomplete)

    return complete


CLOSED: dict[object, Callable[[], Sequence[str]]] = {
    modality: _modalities,
    stored_dtype: lambda: stored_dtype(""),
    encoder_precision: lambda: encoder_precision(""),
    preset: _presets,
}
