"""JSON and TOML that anybody may have written: whatever is wrong with a text is a ValueError.

`read_toml` reads files of the user's own, and says in which line something is wrong.

Python's parsers give up on a text that is nested a thousand levels deep with a RecursionError,
which no reader would think of.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from features.errors import UserError
from features.files import require_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PLACE = re.compile(r"\(at (?:line (\d+), column \d+|end of document)\)")
_SHOWN = 60  # characters of a line
_MISTAKES = {  # how a message of Python's parser begins -> what to do
    "Invalid value": "as its value is of no kind: put texts in quotes",
    "Illegal character '\\n'": "as a text has no end in this line: close its quotes",
    "Expected '=' after a key": "as a key has no value: write KEY = VALUE",
    "Expected newline or end of document": "as something follows the value: begin a new line",
    "Cannot overwrite a value": "as the key is there already: keep one of the two",
    "Cannot declare": "as the table is there already: keep one of the two",
    "Expected ']' at the end of a table": "as the name of the table has no end: close it with ]",
    "Unclosed array": "as a list has no end: close it with ]",
    "Unclosed inline table": "as a table has no end: close it with }",
    "Unterminated string": "as a text has no end: close its quotes",
    'Expected "\'"': "as a text has no end: close its quotes",
    "Unescaped": "as a \\ stands alone in a text: write it twice",
    "Invalid statement": "as the line begins neither with a key nor with [",
}


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


def read_toml(path: Path, what: str) -> tuple[dict[str, Any], str]:
    """What a file of TOML says, and its text. what: what is expected to be there.

    Raises UserError, with the line if that is known, if it is missing or not TOML.
    """
    try:
        text = require_file(path, what).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not TOML, it is no text in UTF-8: save it as such") from error
    try:
        return parse_toml(text), text
    except ValueError as error:
        found = _PLACE.search(str(error))
        reason = _PLACE.sub("", str(error)).strip()
        told = next((told for begins, told in _MISTAKES.items() if reason.startswith(begins)), None)
        where, said, lines = str(path), "it", text.rstrip().splitlines()
        if found and lines:  # the end of the document is behind its last line
            number = min(int(found[1] or len(lines)), len(lines))
            line = lines[number - 1].strip()
            where = f"{path}, line {number}"
            said = f"`{line[:_SHOWN]}{'…' * (len(line) > _SHOWN)}`"
        raise UserError(f"{where}: {said} is not TOML, {told or reason}") from error


def _refuse_long(one: Any) -> None:
    if isinstance(one, dict | list):
        for inner in one.values() if isinstance(one, dict) else one:
            _refuse_long(inner)
    elif isinstance(one, int) and one.bit_length() > 63:
        raise ValueError(f"it has a whole number of {one.bit_length()} bits, more than 64")
