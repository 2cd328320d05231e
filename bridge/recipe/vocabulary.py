"""What the tables of a recipe may say: the options of the commands that its steps run.

The commands are those of `cli/`, which hands in what they take: nothing is listed twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.suggest import did_you_mean


@dataclass(frozen=True)
class Key:
    """One option of a command, as a key of a table.

    kind: str, int, float, bool or Path. many: whether it is a list. form: of the strings of such
    a list, `NAME=VALUE`, which may also be written as a table. low, high: inclusive.
    choices: all values that there are, if they are few. default: None if it must be given or has
    none.
    """

    name: str
    option: str
    kind: type = str
    many: bool = False
    form: str | None = None
    required: bool = False
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    default: Any = None


Vocabulary = Mapping[str, Mapping[str, Key]]  # command -> name -> key

_TYPES = {
    str: "a string",
    Path: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


class WrongValueError(ValueError):
    """A value that a key cannot take; the message goes on after "KEY is VALUE but"."""


def converted(key: Key, value: Any) -> Any:
    """A value of TOML as the command takes it. Raises WrongValueError if it cannot."""
    if key.many:
        if key.form and isinstance(value, dict):
            value = [f"{name}={one}" for name, one in value.items()]
        if not isinstance(value, list):
            told = "a table or a list" if key.form else "a list"
            raise WrongValueError(f"must be {told} of which each is {_TYPES[key.kind]}")
        return [_one(key, one) for one in value]
    return _one(key, value)


def _one(key: Key, value: Any) -> Any:
    wanted: Any = {Path: str, float: (int, float)}.get(key.kind, key.kind)
    if not isinstance(value, wanted) or isinstance(value, bool) != (key.kind is bool):
        raise WrongValueError(f"must be {_TYPES[key.kind]}")
    if key.choices and value not in key.choices:
        meant = did_you_mean(str(value), key.choices)
        raise WrongValueError(f"must be one of {', '.join(key.choices)}{meant}")
    if key.low is not None and value < key.low:
        raise WrongValueError(f"must be at least {key.low}")
    if key.high is not None and value > key.high:
        raise WrongValueError(f"must be at most {key.high}")
    if key.form and "=" not in str(value):
        raise WrongValueError(f"must read {key.form}")
    return key.kind(value)
