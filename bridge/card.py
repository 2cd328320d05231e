"""The model card of a bridge: what a person reads first in its folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.artefact import Bridge

_RECIPES = {
    "cmcr": "the C-MCR recipe (arXiv 2305.14381)",
    "cwcl": "the C-MCR recipe (arXiv 2305.14381) with CWCL's weights (arXiv 2309.14580)",
    "tcl": "the C-MCR recipe (arXiv 2305.14381) with TCL's terms (arXiv 2202.10401)",
    "distil": "routed distillation: projectors that learn what hub routing answers",
    "mixture": "a mixture of methods, weighed on left-out hub items",
    "cca": "canonical correlation analysis of the hub items",
    "ridge": "ridge regression between the hub items",
    "procrustes": "orthogonal Procrustes between the hub items",
    "relative": "relative representations over the hub items (arXiv 2209.15430)",
    "routing": "hub routing: an item is its softmax distribution over the hub items",
}


def model_card(made: Bridge) -> str:
    """The card, Markdown: what is joined, how to use it, and what it was made of."""
    space = next(iter(made.spaces.values()))
    joined = "\n".join(
        f"- **{one.name}**, {one.dimension}-d: {', '.join(one.modalities)}"
        for one in made.spaces.values()
    )
    kind = made.settings.kind
    how = made.origin or f"made with mcr-bridge by {_RECIPES.get(kind, kind)}"
    parts = [
        f"""# {made.name}

A bridge between frozen embedding spaces, {how}.
It projects into a shared space of {made.dimension} dimensions:

{joined}

```python
import bridge

b = bridge.load("{made.name}")
shared = b.project(embeddings, space="{space.name}", modality="{space.modalities[0]}")
```"""
    ]
    if not made.origin:
        parts += [_memories(made), _settings(asdict(made.settings))]
    return "\n\n".join(parts) + "\n"


def _memories(made: Bridge) -> str:
    return _table(
        ["role", "space", "modality", "items", "fingerprint"],
        (
            [m.role, m.space, m.modality, f"{m.items:,}", f"`{m.fingerprint}`"]
            for m in made.memories
        ),
    )


def _settings(settings: Mapping[str, object]) -> str:
    return _table(["setting", "value"], ([name, str(value)] for name, value in settings.items()))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = ["---"] * len(head)
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(rule)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
