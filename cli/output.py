"""Answers on stdout: a table for people, JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import typer

from cli.boundary import SOME_FAILED

if TYPE_CHECKING:
    from pathlib import Path

    from features.extraction.partial import Failure
    from features.memories.memory import Memory


def print_json(answer: Any) -> None:
    """Print `answer` as JSON; figures that are not numbers become null."""
    typer.echo(json.dumps(_finite(answer), indent=2, ensure_ascii=False))


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print aligned columns, numbers to the right."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    numeric = [
        all(_is_number(row[i]) for row in cells[1:]) and len(cells) > 1 for i in range(len(header))
    ]
    for row in cells:
        line = "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        typer.echo(line.rstrip())


def print_memory(memory: Memory, *, json: bool, **more: Any) -> None:
    """What the commands that write a memory answer; `more` is for JSON alone."""
    if json:
        print_json({**_summary(memory), **more})
        return
    typer.echo(
        f"{memory.path}: {len(memory)} {memory.modality} embeddings of {memory.space}, "
        f"{memory.dimension}-d"
    )


def end_with_failures(failures: Sequence[Failure], path: Path, told: str) -> None:
    """Say how many items failed and where they are listed, and exit; nothing if none did.

    told: what happened to them, such as "items failed".
    """
    if failures:
        first = failures[0]
        note(
            f"{len(failures)} {told} and are listed in {path}; the first, {first.item}: "
            f"{first.reason}"
        )
        raise typer.Exit(SOME_FAILED)


def _summary(memory: Memory) -> dict[str, Any]:
    return {
        "memory": str(memory.path),
        "items": len(memory),
        "space": memory.space,
        "modality": memory.modality,
        "dimension": memory.dimension,
        "fingerprint": memory.fingerprint,
    }


def note(text: str) -> None:
    """Tell the user something on stderr."""
    typer.echo(text, err=True)


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "").rstrip("%"))
    except ValueError:
        return cell in ("", "-")
    return True


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
