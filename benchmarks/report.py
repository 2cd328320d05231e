"""Tables of the speed benchmarks: ours, the peers' and the limit, from one run.

Every benchmark of speed times its candidates in turns (`benchmarks.machine.medians`), prints a
Markdown table of them and, with `--json FILE`, adds a line to the file with the machine,
versions and sizes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.machine import machine

_PACKAGES = (
    "mcr-bridge", "torch", "numpy", "numba", "triton", "faiss-cpu", "faiss-gpu", "h5py",
    "sentence-transformers",
)  # fmt: skip


def parser(description: str | None, *, repeats: int = 5) -> argparse.ArgumentParser:
    """With the options that every benchmark of speed has."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--repeats", type=int, default=repeats, help="timed runs of each candidate")
    made.add_argument("--json", type=Path, help="add the result to this file, as a line of JSON")
    return made


def report(
    title: str,
    seconds: Mapping[str, float],
    *,
    ours: str,
    sizes: Mapping[str, object],
    notes: Mapping[str, Mapping[str, object]] | None = None,
    json_file: Path | None = None,
) -> None:
    """Print a table and keep it.

    seconds: of each candidate. ours: the candidate that the others' ratios are of: 2 is a
    candidate that takes twice as long. notes: further columns, by name and candidate.
    """
    notes = notes or {}
    print(f"\n{title}: {', '.join(f'{name} {value}' for name, value in sizes.items())}\n")
    print(f"| | time | ratio | {''.join(f'{name} | ' for name in notes)}".rstrip())
    print(f"|---|---|---|{'---|' * len(notes)}")
    for name, took in seconds.items():
        further = "".join(f" {column.get(name, '')} |" for column in notes.values())
        print(f"| {name} | {_time(took)} | {took / seconds[ours]:.2f} |{further}", flush=True)
    if json_file is not None:
        told: dict[str, Any] = {
            "title": title,
            "machine": machine(),
            "versions": _versions(),
            "sizes": dict(sizes),
            "seconds": dict(seconds),
            "ours": ours,
            "notes": {name: dict(column) for name, column in notes.items()},
        }
        with json_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(told) + "\n")


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
