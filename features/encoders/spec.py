"""How encoders are named: `NAME`, `NAME:ARGUMENT`, and options after commas.

`clip:ViT-B-32,openai` names a model and its weights; `clap:630k-audioset-best,windows=tiled`
sets an option.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from features.errors import UserError

_SPACE_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Argument:
    """What follows the colon of a spec: values in their order, and options by name."""

    values: tuple[str, ...]
    options: dict[str, str]

    @property
    def path(self) -> str:
        """The values as one path, which may have commas of its own."""
        return ",".join(self.values)

    def option(self, name: str, default: str, among: Collection[str]) -> str:
        """The option called `name`. Raises UserError if it is not one of `among`."""
        value = self.options.get(name, default)
        if value not in among:
            raise UserError(f"{name}={value} is not known: use {name}={'|'.join(among)}")
        return value


def parse_argument(text: str, *, family: str, options: Collection[str] = ()) -> Argument:
    """Split at commas; `KEY=VALUE` is an option where KEY is one of `options`.

    Raises UserError for an option that `family` does not have, or one given twice.
    """
    values: list[str] = []
    found: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        key, separator, value = part.partition("=")
        if not separator or "/" in key:  # paths may hold an equals sign
            values.append(part)
        elif key not in options:
            known = ", ".join(options) or "none"
            raise UserError(f"the encoder {family} has no option '{key}': its options are {known}")
        elif key in found:
            raise UserError(f"the encoder {family} is given {key} twice: keep one of them")
        else:
            found[key] = value
    return Argument(tuple(values), found)


def space_name(argument: Argument, default: str) -> str:
    """What `space=` says, or `default`: bridges name their tensors SPACE/NAME.

    Raises UserError if it is empty or has other than letters of ASCII, digits, dots, underscores
    and hyphens.
    """
    name = argument.options.get("space", default)
    if "space" in argument.options and not _SPACE_NAME.fullmatch(name):
        raise UserError(
            f"space={name} does not name a space: use letters, digits, dots, underscores and "
            "hyphens, such as space=clip-large"
        )
    return name
