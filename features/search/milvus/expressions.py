"""Filters as Milvus' boolean expressions.

Texts come from whoever asks: they are written as literals in which nothing but their own characters
has a meaning. Fields are never named by them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from features.search.filters import Range, Wanted, Where, wanted_numbers, wanted_texts
from features.search.milvus.fields import EXACT, Column

_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def expression(columns: Mapping[str, Column], where: Where) -> str | None:
    """The expression for what passes; None if nothing can, as where there is no such column.

    Raises UserError for values that are not of the column's kind.
    """
    parts = []
    for name, wanted in where.items():
        column = columns.get(name)
        parts.append(None if column is None else _part(column, wanted))
    if not all(parts):
        return None
    return " and ".join(f"({part})" for part in parts)


def literal(text: str) -> str:
    """A text as a literal.

    >>> print(literal('say "no" \\\\ or 1 == 1'))
    "say \\"no\\" \\\\ or 1 == 1"
    """
    return f'"{text.translate(_ESCAPED)}"'


def _part(column: Column, wanted: Wanted) -> str | None:
    if column.kind in ("whole", "number"):
        if isinstance(wanted, Range):
            return _within(column, wanted)
        numbers = [one for one in wanted_numbers(column.name, wanted) if math.isfinite(one)]
        if column.kind == "whole":
            whole = [int(one) for one in numbers if one.is_integer() and abs(one) <= EXACT]
            return _one_of(column, map(str, whole))
        return _one_of(column, (repr(one + 0.0) for one in numbers))
    texts = wanted_texts(column.name, wanted)
    if column.spelled is not None:
        known = [
            str(bool(place)).lower() for place, one in enumerate(column.spelled) if one in texts
        ]
        some = _one_of(column, known)
    else:
        some = _one_of(column, (literal(one) for one in texts if one and _is_unicode(one)))
    if "" not in texts:
        return some
    return f"{some} or {column.field} is null" if some else f"{column.field} is null"


def _within(column: Column, wanted: Range) -> str | None:
    low = -math.inf if wanted.min is None else wanted.min
    high = math.inf if wanted.max is None else wanted.max
    if not low <= high or low == math.inf or high == -math.inf:
        return None
    if column.kind == "whole":
        if low > EXACT or high < -EXACT:
            return None
        bounds = math.ceil(max(low, -EXACT)), math.floor(min(high, EXACT))
        return f"{column.field} >= {bounds[0]} and {column.field} <= {bounds[1]}"
    parts = [f"{column.field} >= {float(low)!r}"] if math.isfinite(low) else []
    parts += [f"{column.field} <= {float(high)!r}"] if math.isfinite(high) else []
    return " and ".join(parts) or f"{column.field} is not null"


def _one_of(column: Column, literals: Iterable[str]) -> str | None:
    listed = ", ".join(dict.fromkeys(literals))
    return f"{column.field} in [{listed}]" if listed else None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
