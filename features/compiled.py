"""Loops that torch has no operation for, compiled by numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])
# Sums may be taken in another order; infinities and NaN keep their meaning. Division by zero gives
# one of them, as in NumPy.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "fastmath": {"reassoc", "contract", "arcp", "nsz"},
    "error_model": "numpy",
}


def compiled(function: Function) -> Function:
    """The function in machine code, made when it is first called and kept for other processes.

    It holds no lock while it runs.
    """
    try:
        made = numba.njit(**_OPTIONS, cache=True)(function)
    except RuntimeError:  # no folder can be written to
        made = numba.njit(**_OPTIONS)(function)
    return cast(Function, made)
