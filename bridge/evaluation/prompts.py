"""Prompt templates: sentences with a place for the name of a class.

A list for each modality comes with the package; the first are the most general. The first k of a
list show how much a space depends on its prompts (CWCL, arXiv 2309.14580, section 4.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from features.errors import UserError
from features.files import require_file
from features.space import Modality
from features.tables import read_table, read_utf8

PLACE = "{}"
FIRST = (1, 5, 10)


def templates_for(modality: Modality) -> list[str]:
    """The list that comes with the package for items of a modality."""
    text = files("bridge.evaluation").joinpath("templates", f"{modality}.txt").read_text("utf-8")
    return text.splitlines()


def read_templates(path: Path) -> list[str]:
    """Templates from a file, one a line. Raises UserError for a line without one place."""
    lines = [line.strip() for line in read_utf8(require_file(path, "template file")).splitlines()]
    templates = [line for line in lines if line]
    if not templates:
        raise UserError(f"{path} has no templates: give one a line, such as a photo of {PLACE}")
    for template in templates:
        if template.count(PLACE) != 1:
            raise UserError(
                f"the template '{template}' of {path} has {template.count(PLACE)} places "
                f"{PLACE} for the name of a class: give it one"
            )
    return templates


def read_classes(path: Path) -> dict[str, str]:
    """Labels and the names that prompts say, from a table of `label` and `name`."""
    table = read_table(path)
    labels, names = table.column("label"), table.column("name")
    repeated = [label for i, label in enumerate(labels) if label in labels[:i]]
    if repeated:
        raise UserError(f"{path} names the class '{repeated[0]}' twice: keep one of them")
    return dict(zip(labels, names, strict=True))


def names_of(labels: Sequence[str]) -> dict[str, str]:
    """Labels as prompts say them: `chirping_birds` as chirping birds."""
    return {label: label.replace("_", " ") for label in labels}


def prompts(classes: Mapping[str, str], templates: Sequence[str]) -> list[str]:
    """Every template of the first class, then of the next."""
    return [one.replace(PLACE, name) for name in classes.values() for one in templates]


def check_first(first: Sequence[int], templates: Sequence[str], where: str) -> None:
    """Raise UserError unless there are at least as many templates as the numbers ask for."""
    if not first or min(first) < 1 or list(first) != sorted(set(first)):
        raise UserError(
            f"the numbers of templates are {', '.join(map(str, first)) or 'none'} but should rise "
            "from 1 or more: give such as --first 1 --first 5"
        )
    if max(first) > len(templates):
        raise UserError(
            f"the first {max(first)} templates are asked for but {where} has {len(templates)}: "
            "give more templates, or ask for fewer with --first"
        )
