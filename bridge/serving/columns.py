"""Filters as they are asked for over HTTP: what is wrong with them is a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge.serving.refusal import UNPROCESSABLE, Refusal
from bridge.serving.requests import Range, Wanted
from features.search import filters


def passing(of: filters.Filters, where: Mapping[str, Wanted]) -> Any:
    """What passes, as the collection's rows take it; None if all do.

    Raises Refusal for values that are not of the column's kind.
    """
    plain = {name: _plain(wanted) for name, wanted in where.items()}
    try:
        return of.passing(plain)
    except filters.FilterError as error:
        raise Refusal(UNPROCESSABLE, str(error)) from None


def _plain(wanted: Wanted) -> filters.Wanted:
    return filters.Range(wanted.min, wanted.max) if isinstance(wanted, Range) else wanted
