"""The model card of a bridge: what a person reads first in its folder.

It begins with the metadata that model hubs read, as YAML between two lines of dashes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from features.errors import UserError

if TYPE_CHECKING:
    from bridge.artefact import Bridge
    from bridge.evaluation.results import Result

LIBRARY = "mcr-bridge"
_TAGS = (LIBRARY, "multimodal", "embeddings", "cross-modal-retrieval")
_MODALITY_TAGS = {"points": "point-cloud"}
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")  # what YAML takes as a string without quotes
_WORDS = ("true", "false", "null", "yes", "no", "on", "off", "y", "n")  # and what it does not
_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")
_FRONT = re.compile(r"\A---\n(.*?)^---\n+", re.DOTALL | re.MULTILINE)
_BEGIN, _END = "<!-- results of mcr eval -->", "<!-- end of results -->"

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


def model_card(made: Bridge, *, licence: str | None = None) -> str:
    """The card, Markdown: what is joined, how to use it, and what it was made of.

    licence: an identifier such as `apache-2.0`. Raises UserError for one that is none.
    """
    space = next(iter(made.spaces.values()))
    joined = "\n".join(
        f"- **{one.name}**, {one.dimension}-d: {', '.join(one.modalities)}"
        for one in made.spaces.values()
    )
    parts = [
        f"""{front_matter(made, licence=licence)}
# {made.name}

A bridge between frozen embedding spaces, {origin_of(made)}.
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


def origin_of(made: Bridge) -> str:
    """How the bridge came to be, in words."""
    kind = made.settings.kind
    return made.origin or f"made with mcr-bridge by {_RECIPES.get(kind, kind)}"


def front_matter(made: Bridge, *, licence: str | None = None) -> str:
    """The metadata of the card: library, kind of task, tags, and the licence if it is given."""
    modalities = dict.fromkeys(m for space in made.spaces.values() for m in space.modalities)
    tags = [*_TAGS, *(_MODALITY_TAGS.get(m, m) for m in modalities), *made.spaces]
    lines = [
        "---",
        f"library_name: {LIBRARY}",
        "pipeline_tag: feature-extraction",
        *([] if licence is None else [_licence_line(licence)]),
        "tags:",
        *(f"- {_yaml(tag)}" for tag in dict.fromkeys(tags)),
        "---",
    ]
    return "\n".join(lines) + "\n"


def card_with(
    card: str, made: Bridge, *, results: Sequence[Result] | None = None, licence: str | None = None
) -> str:
    """A card with these results in place of earlier ones, unless they are None.

    What its owner wrote stays.

    Metadata is added where there is none, and a licence, if it is given, takes the place of
    another. Raises UserError for an identifier that is none.
    """
    found = _FRONT.match(card)
    if found is None:
        card = f"{front_matter(made, licence=licence)}\n{card.lstrip()}"
    elif licence is not None:
        lines = [one for one in found[1].splitlines() if not one.startswith("license:")]
        matter = "\n".join(["---", *lines, _licence_line(licence), "---"])
        card = f"{matter}\n\n{card[found.end() :]}"
    if results is None:
        return card
    start, end = card.find(_BEGIN), card.find(_END)
    if 0 <= start < end:
        card = card[:start].rstrip("\n") + "\n\n" + card[end + len(_END) :].lstrip("\n")
    if not results:
        return card
    return f"{card.rstrip()}\n\n{_BEGIN}\n\n{_results(results)}\n\n{_END}\n"


def check_licence(licence: str) -> None:
    """Raise UserError unless this can be the identifier of a licence."""
    if not _LICENCE.fullmatch(licence):
        raise UserError(
            f"'{licence}' is not the identifier of a licence: give one such as apache-2.0, "
            "cc-by-4.0 or other"
        )


def _licence_line(licence: str) -> str:
    check_licence(licence)
    return f"license: {licence.lower()}"


def _yaml(text: str) -> str:
    plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    return text if plain else json.dumps(text, ensure_ascii=False)


def _results(results: Sequence[Result]) -> str:
    rows = [
        [result.protocol, _cell(part), _cell(name), _figure(value, result, part, name)]
        for result in results
        for part, figures in result.figures.items()
        for name, value in figures.items()
    ]
    return "## Results\n\n" + _table(["protocol", "part", "figure", "value"], rows)


def _figure(value: Any, result: Result, part: str, name: str) -> str:
    ends = result.intervals.get(part, {}).get(name)
    told = "-" if value is None else f"{value:.3f}"
    return told + (f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


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
