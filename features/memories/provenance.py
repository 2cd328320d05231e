"""Whether embeddings come from the same encoder, and saying so when they do not.

Two encoders are the same when their weights and their preprocessing are, the latter as far as
both descriptions speak of it: a memory's says nothing of other modalities. Precision and library
versions are recorded, but do not make another space. Of embeddings whose encoder is not known,
or whose weights are not, that is told in a warning, and they are taken on trust.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from features.errors import UserError
from features.space import MODALITIES, Modality

Description = Mapping[str, Any]
_WIDEST = 44  # characters of a value in the table


class EncoderUnknown(UserWarning):
    """Embeddings are taken on trust, because their encoder is not known."""


def check_encoders(
    wanted: tuple[str, Description],
    found: tuple[str, Description],
    *,
    remedy: str,
    trust: bool = False,
) -> None:
    """Raise UserError, with both descriptions side by side, unless two encoders are the same.

    wanted, found: what each belongs to ("the bridge b"), and its description.
    trust: accept any. Warns with EncoderUnknown if the weights of either are not known, unless
    nothing is known of both.
    """
    (of_wanted, one), (of_found, other) = wanted, found
    if trust:
        return
    known = [bool(description.get("weights")) for description in (one, other)]
    if not all(known) and (one or other):
        unknown = [
            name
            for name, is_known in zip((of_wanted, of_found), known, strict=True)
            if not is_known
        ]
        warnings.warn(
            f"which weights made the embeddings of {' and of '.join(unknown)} is not recorded: "
            f"that {of_wanted} and {of_found} have one encoder is taken on trust",
            EncoderUnknown,
            stacklevel=3,
        )
    different = differing(one, other)
    if different:
        raise UserError(
            f"{of_found} and {of_wanted} have encoders with other {' and '.join(different)}: "
            f"{remedy}, or pass --trust-encoder (trust_encoder=True)",
            details=side_by_side(wanted, found),
        )


def differing(one: Description, other: Description) -> list[str]:
    """What of weights (or else names) and preprocessing differs, as far as both are known."""
    different = []
    if one.get("weights") and other.get("weights") and one["weights"] != other["weights"]:
        different.append("weights")
    elif not (one.get("weights") or other.get("weights")) and _told_apart(one, other):
        different.append("names")
    steps, others = (description.get("preprocessing") or {} for description in (one, other))
    if any(steps[key] != others[key] for key in steps.keys() & others.keys()):
        different.append("preprocessing")
    return different


def _told_apart(one: Description, other: Description) -> bool:
    """Whether two descriptions without weights at least say that they are of two encoders."""
    return all(d.get("spec") for d in (one, other)) and one["spec"] != other["spec"]


def for_modality(description: Description, modality: Modality) -> dict[str, Any]:
    """A description without what it says of preprocessing other modalities."""
    steps = description.get("preprocessing") or {}
    others = [key for key in steps if key in MODALITIES and isinstance(steps[key], Mapping)]
    kept = {key: step for key, step in steps.items() if key == modality or key not in others}
    return {**description, "preprocessing": kept}


def merged(descriptions: Sequence[Description]) -> dict[str, Any]:
    """The description of one encoder from those of its memories, of several modalities.

    The last one says how it is loaded; preprocessing is what all of them say together.
    """
    joined: dict[str, Any] = {}
    steps: dict[str, Any] = {}
    for description in descriptions:
        joined |= description
        steps |= description.get("preprocessing") or {}
    return {**joined, "preprocessing": steps} if steps else joined


def side_by_side(one: tuple[str, Description], other: tuple[str, Description]) -> str:
    """Two descriptions as a table of three columns; rows that differ are marked."""
    left, right = flat(one[1]), flat(other[1])
    rows = [("", one[0], other[0])]
    for key in dict.fromkeys([*left, *right]):
        mark = "  <- differs" if left.get(key) != right.get(key) else ""
        rows.append((key, left.get(key, "-"), right.get(key, "-") + mark))
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    return "\n".join(
        f"  {row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}".rstrip() for row in rows
    )


def flat(description: Description, prefix: str = "") -> dict[str, str]:
    """Nested settings as one level: `preprocessing.image.size: 224`."""
    told: dict[str, str] = {}
    for key, value in description.items():
        if isinstance(value, Mapping):
            told |= flat(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            told[f"{prefix}{key}"] = text if len(text) <= _WIDEST else f"…{text[-_WIDEST:]}"
    return told
