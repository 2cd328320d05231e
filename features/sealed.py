"""JSON with a checksum in it, so that a reader notices damage that is still JSON.

The checksum is over the values, not the bytes: a file that another program laid out anew is whole.
Files of earlier versions have none; they are read without.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash

from features.parsing import parse_json

KEY = "checksum"
_DIGITS = 16  # of a checksum
_COMMENT = "# checksum of the lines below: "


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with its checksum, to be written as JSON."""
    return {**content, KEY: checksum(content)}


def checksum(content: Mapping[str, Any]) -> str:
    """XXH3-64 of the values of JSON, without the checksum itself.

    Raises ValueError if they are nested too deeply to be written again.
    """
    rest = {name: one for name, one in content.items() if name != KEY}
    try:
        # Read back, as a tuple or a number that is a key is another value in JSON.
        told = parse_json(json.dumps(rest))
        return str(xxhash.xxh3_64_hexdigest(json.dumps(told, sort_keys=True).encode()))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_sealed(path: Path) -> dict[str, Any]:
    """The object in a JSON file, without its checksum. Raises ValueError if it is damaged."""
    return unsealed(parse_json(path.read_text(encoding="utf-8")))


def unsealed(told: Any) -> dict[str, Any]:
    """What `sealed` was given. Raises ValueError if it is no object, or not what was written."""
    if not isinstance(told, dict):
        raise ValueError("it is no JSON object")  # as for what is no JSON
    written = told.pop(KEY, None)
    if (written is not None and written != checksum(told)) or (written is None and _renamed(told)):
        raise ValueError("its content does not match its checksum")
    return told


def _renamed(told: Mapping[str, Any]) -> bool:
    """Whether it is the name of the checksum that is damaged."""
    return any(
        isinstance(value, str)
        and len(value) == _DIGITS
        and value == checksum({other: told[other] for other in told if other != name})
        for name, value in told.items()
    )


def sealed_text(lines: str) -> str:
    """Lines behind a first one, a comment, with their checksum.

    For what is also written by hand: who changes a line may leave the checksum as it is.
    """
    return f"{_COMMENT}{xxhash.xxh3_64_hexdigest(lines.encode())}\n{lines}"


def text_is_changed(text: str) -> bool:
    """Whether `sealed_text` wrote other lines than these; False where there is no checksum."""
    first, ended, lines = text.partition("\n")
    if not ended and _COMMENT.startswith(first[: len(_COMMENT)]):
        return True  # cut off in the comment, or before
    before, found, written = first.partition(_COMMENT)
    if not found:
        return _COMMENT in lines
    return bool(before) or xxhash.xxh3_64_hexdigest(lines.encode()) != written


def sealed_line(entry: Any) -> bytes:
    """A line of JSON behind its own checksum, for files that grow."""
    content = json.dumps(entry).encode()
    return xxhash.xxh3_64_hexdigest(content).encode() + b" " + content + b"\n"


def unsealed_line(line: bytes) -> Any:
    """What `sealed_line` was given, or None if the line is not as it was written."""
    digest, _, content = line.partition(b" ")
    if not content.endswith(b"\n"):
        return None
    content = content[:-1]
    if xxhash.xxh3_64_hexdigest(content).encode() != digest:
        return None
    try:
        return parse_json(content)
    except ValueError:
        return None
