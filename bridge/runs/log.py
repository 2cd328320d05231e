"""The lines of a training's `metrics.jsonl`: a JSON object an epoch, each with a checksum."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.errors import UserError
from features.parsing import parse_json
from features.sealed import sealed, unsealed


def log_line(entry: Mapping[str, Any]) -> str:
    """The line of an entry."""
    return json.dumps(sealed(entry)) + "\n"


def read_log(path: Path) -> list[dict[str, Any]]:
    """All entries; none if there is no file. Raises UserError if a line is damaged."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(unsealed(parse_json(line)))
        except ValueError as error:
            raise UserError(
                f"line {number} of {path} is damaged ({error}): copy the file again, or delete it, "
                "as nothing but curves depends on it"
            ) from error
    return found
