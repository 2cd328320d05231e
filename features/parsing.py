"""JSON and TOML that anybody may have written: whatever is wrong with a text is a ValueError.

Python's parsers give up on a text that is nested a thousand levels deep with a RecursionError,
which no reader would think of.
"""

from __future__ import annotations

import json
import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def parse_json(text: str | bytes) -> Any:
    """What a text of JSON says. Raises ValueError if it is not JSON, or is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def parse_toml(text: str) -> dict[str, Any]:
    """What a text of TOML says.

    Raises ValueError if it is not TOML, is nested too deeply, or has a number of more than 64 bits,
    which TOML does not have and Python may not even print.
    """
    try:
        told = tomllib.loads(text)
        _refuse_long(told)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return told


def _refuse_long(one: Any) -> None:
    if isinstance(one, dict | list):
        for inner in one.values() if isinstance(one, dict) else one:
            _refuse_long(inner)
    elif isinstance(one, int) and one.bit_length() > 63:
        raise ValueError(f"it has a whole number of {one.bit_length()} bits, more than 64")
