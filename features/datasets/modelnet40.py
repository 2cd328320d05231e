"""ModelNet40, `modelnet40_test.txt` of PointNet++'s modelnet40_normal_resampled, or its train list.

One shape a line, `CLASS_NUMBER`; `modelnet40_shape_names.txt` beside it has the classes. The names
are those of Princeton's .off files as well.
"""

from __future__ import annotations

from pathlib import Path

from features.datasets.annotations import Annotations, Sample, read_lines, unique
from features.errors import UserError

NAMES = "modelnet40_shape_names.txt"


def read_modelnet40(path: Path) -> Annotations:
    """The shapes of a list; see `features.datasets.read_annotations`."""
    lines, fingerprint = read_lines(path)
    names = path.with_name(NAMES)
    known = [line for _, line in read_lines(names)[0]] if names.exists() else None
    samples = []
    for number, line in lines:
        label, _, index = line.rpartition("_")
        if not label or not index.isdigit():
            raise UserError(
                f"line {number} of {path} is '{line}', not CLASS_NUMBER as in ModelNet40's lists: "
                "check --dataset"
            )
        if known is not None and label not in known:
            raise UserError(
                f"line {number} of {path} is of the class '{label}', which {names} does not have: "
                "take both files from one download"
            )
        samples.append(Sample(line, line, line, label))
    classes = known or sorted({str(sample.label) for sample in samples})
    return Annotations(path, "modelnet40", unique(samples, path), fingerprint, classes=classes)
