"""Whether embeddings come from the same encoder, and saying so when they do not.

Two encoders are the same when their weights and their preprocessing are. Precision and library
versions are recorded, but do not make another space. Of embeddings whose encoder is not known,
or whose weights are not, that is told in a warning, and they are taken on trust.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any

from features.errors import UserError

Description = Mapping[str, Any]
_DECISIVE = ("weights", "preprocessing")
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
    trust: accept any. Warns with EncoderUnknown if one is known and the other is not.
    """
    (of_wanted, one), (of_found, other) = wanted, found
    if trust:
        return
    known = [bool(description.get("weights")) for description in (one, other)]
    if known[0] != known[1]:
        unknown = of_found if known[0] else of_wanted
        warnings.warn(
            f"which weights made the embeddings of {unknown} is not recorded: that they are those "
            f"of {of_wanted if known[0] else of_found} is taken on trust",
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
    """What of weights and preprocessing differs, as far as both are known."""
    return [key for key in _DECISIVE if one.get(key) and other.get(key) and one[key] != other[key]]


def side_by_side(one: tuple[str, Description], other: tuple[str, Description]) -> str:
    """Two descriptions as a table of three columns; rows that differ are marked."""
    left, right = _flat(one[1]), _flat(other[1])
    rows = [("", one[0], other[0])]
    for key in dict.fromkeys([*left, *right]):
        mark = "  <- differs" if left.get(key) != right.get(key) else ""
        rows.append((key, left.get(key, "-"), right.get(key, "-") + mark))
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    return "\n".join(
        f"  {row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}".rstrip() for row in rows
    )


def _flat(description: Description, prefix: str = "") -> dict[str, str]:
    """Nested settings as `image.size: 224`."""
    flat: dict[str, str] = {}
    for key, value in description.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            flat[f"{prefix}{key}"] = text if len(text) <= _WIDEST else f"…{text[-_WIDEST:]}"
    return flat
