"""What a kind of fault is, and finding all kinds that there are."""

from __future__ import annotations

import importlib
import pkgutil
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tests.faults


class MissedError(Exception):
    """Nothing was disturbed: the command had ended before, or makes no such call."""


@dataclass(frozen=True)
class Fault:
    """One kind of fault at one stage.

    stage: what is disturbed: extract, import, merge, index, pseudo-pairs, train, query, ...
    kind: how: SIGKILL, ENOSPC, bit flip, ...
    inject: injects one fault, at a place and a time that the generator chooses, into work in an
    empty folder; finishes that work as a user would; raises AssertionError if anything that was
    finished is lost, anything comes twice, the result differs from the undisturbed one, or the
    message is a traceback; raises MissedError if it could not inject any; and says in one line what
    was done.
    """

    stage: str
    kind: str
    inject: Callable[[Path, random.Random], str]

    @property
    def name(self) -> str:
        return f"{self.stage}-{self.kind}".replace(" ", "-")


def every_kind() -> list[Fault]:
    """`FAULTS` of all modules beside this one, in the order of their names."""
    found: list[Fault] = []
    for module in sorted(info.name for info in pkgutil.iter_modules(tests.faults.__path__)):
        if not module.startswith(("test_", "__")):
            found += getattr(importlib.import_module(f"tests.faults.{module}"), "FAULTS", ())
    return found
