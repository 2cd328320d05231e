"""Answers of the protocols: the result as a file, and a table or JSON of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from bridge.evaluation.results import Result


def check_out(out: Path | None) -> None:
    """Raise UserError if the user said a place where no result can be: before it is computed."""
    from bridge.evaluation.results import check_place

    if out is not None:
        check_place(out)


def write(result: Result, out: Path | None, folder: Path) -> Path:
    """Write a result where the user said, or under its own name in `folder`."""
    from bridge.evaluation.results import write_result

    return write_result(result, out or folder / result.name)


def answer(result: Result, path: Path, *, json: bool) -> None:
    """A row for each part, its figures with their intervals, and what was left out."""
    if json:
        print_json(told(result, path))
        return
    parts = {name: dict(figures) for name, figures in result.figures.items()}
    header = list(dict.fromkeys(name for figures in parts.values() for name in figures))
    print_table(
        ["", *header],
        [[part, *(_cell(result, part, name) for name in header)] for part in parts],
    )
    finish(result, path)


def finish(result: Result, path: Path) -> None:
    """What was left out, on stderr, and where the result is."""
    left_out = {
        name: count for name, count in result.counts.items() if _is_left_out(name) and count
    }
    for name, count in left_out.items():
        note(f"{name}, left out: {count}")
    typer.echo(f"written to {path}")


def told(result: Result, path: Path) -> dict[str, Any]:
    """The result without its samples, and where it is."""
    return {**result.about(samples=False), "result": str(path)}


def intervals_told(result: Result) -> str:
    """What the intervals are of."""
    return f"95 % intervals of {result.resamples:,} resamples"


def _cell(result: Result, part: str, name: str) -> str:
    value = result.figures[part].get(name)
    if value is None:
        return "-"
    ends = result.intervals.get(part, {}).get(name)
    return f"{value:.3f}" + (f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else "")


def _is_left_out(name: str) -> bool:
    return any(f" {word} " in f" {name} " for word in ("without", "whose", "lacks", "not"))
