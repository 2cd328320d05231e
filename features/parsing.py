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
    """What a text of TOML says. Raises ValueError if it is not TOML, or is nested too deeply."""
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
