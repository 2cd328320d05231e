"""ESC-50, `meta/esc50.csv` of karolpiczak/ESC-50.

Columns filename, fold, target, category, esc10, src_file, take; the files are in `audio/`.
"""

from __future__ import annotations

from pathlib import Path

from features.datasets.annotations import Annotations, Sample, digest, require_columns, unique
from features.tables import read_table

COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")


def read_esc50(path: Path) -> Annotations:
    """The sounds of `esc50.csv`; see `features.datasets.read_annotations`."""
    table = read_table(path)
    require_columns(table.columns, COLUMNS, path)
    samples = [
        Sample(name, name, name, category)
        for name, category in zip(table.column("filename"), table.column("category"), strict=True)
    ]
    classes = sorted({str(sample.label) for sample in samples})
    return Annotations(
        path, "esc50", unique(samples, path), digest(path.read_bytes()), classes=classes
    )
