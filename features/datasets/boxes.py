"""Boxes of one's own: a table with a row for each box.

Columns image, left, top, right, bottom, in fractions of the picture, and optionally audio and
label. A row without edges says that its picture has no box.
"""

from __future__ import annotations

from pathlib import Path

from features.datasets.annotations import Annotations, Boxes, Sample, digest, require_fields
from features.errors import UserError
from features.tables import read_table

EDGES = ("left", "top", "right", "bottom")


def read_boxes(path: Path) -> Annotations:
    """The pictures of a table of boxes; see `features.datasets.read_annotations`."""
    table = read_table(path)
    require_fields(
        dict.fromkeys(table.columns), ("image", *EDGES), f"the header of {path}", ("audio", "label")
    )
    boxes = Boxes(path)
    found: dict[tuple[str, str], tuple[str | None, list[tuple[float, ...]]]] = {}
    for number, row in zip(table.numbers, table.rows, strict=True):
        missing = [name for name in ("image", *EDGES) if name not in row]
        if missing:
            raise UserError(
                f"row {number} of {path} lacks {', '.join(missing)}: give the same fields in all "
                "rows, null where there is no box"
            )
        image = str(row["image"])
        key = (image, str(row.get("audio") or image))
        label, mine = found.setdefault(key, (row.get("label") or None, []))
        if label != (row.get("label") or None):
            raise UserError(f"row {number} of {path} gives {image} another label than '{label}'")
        edges = [row[name] for name in EDGES]
        if any(edge not in (None, "") for edge in edges):
            mine.append(_numbers(edges, number, path))
    samples = [
        Sample(image if audio == image else f"{image} {audio}", image, audio, label,
               boxes.checked(mine, image))
        for (image, audio), (label, mine) in found.items()
    ]  # fmt: skip
    return Annotations(path, "boxes", samples, digest(path.read_bytes()), notes=boxes.notes())


def _numbers(edges: list[object], number: int, path: Path) -> tuple[float, ...]:
    try:
        return tuple(float(str(edge)) for edge in edges)
    except ValueError as error:
        raise UserError(
            f"row {number} of {path} has an edge that is not a number ({error}): give fractions of "
            "the picture"
        ) from error
