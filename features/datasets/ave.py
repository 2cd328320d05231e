"""AVE, `Annotations.txt` of YapengTian/AVE-ECCV18, and `trainSet.txt`, `valSet.txt`, `testSet.txt`.

One event a line, `Category&VideoID&Quality&StartTime&EndTime`, in seconds; the first line may be
this header. A few videos have several events.
"""

from __future__ import annotations

from pathlib import Path

from features.datasets.annotations import Annotations, Sample, read_lines
from features.errors import UserError

FIELDS = ("Category", "VideoID", "Quality", "StartTime", "EndTime")


def read_ave(path: Path) -> Annotations:
    """The videos of `Annotations.txt`; see `features.datasets.read_annotations`.

    A video with several events has the category of its first.
    """
    lines, fingerprint = read_lines(path)
    first: dict[str, Sample] = {}
    other = 0
    for number, line in lines:
        values = line.split("&")
        if tuple(values) == FIELDS:
            continue
        if len(values) != len(FIELDS):
            raise UserError(
                f"line {number} of {path} has {len(values)} fields between &, not the "
                f"{len(FIELDS)} of AVE ({'&'.join(FIELDS)}): check --dataset"
            )
        category, video, _, start, end = values
        if not (_is_number(start) and _is_number(end)):
            raise UserError(
                f"line {number} of {path} is from '{start}' to '{end}', which are not seconds: "
                "check --dataset"
            )
        sample = Sample(video, video, video, category)
        other += first.setdefault(video, sample).label != category
    if not first:
        raise UserError(f"{path} has a header alone: download it again")
    notes = [f"events of another category than their video's first, left out ({path}): {other}"]
    return Annotations(
        path,
        "ave",
        list(first.values()),
        fingerprint,
        classes=sorted({str(sample.label) for sample in first.values()}),
        notes=notes if other else [],
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
