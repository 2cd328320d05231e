"""The readers that are fuzzed, a module for each kind of files; `TARGETS` of all of them."""

from __future__ import annotations

from importlib import import_module

from tests.fuzz.target import Target

# How the names of their targets begin.
_KINDS = {
    "exchange": ("import-", "neighbours-", "weights-"),
    "clouds": ("cloud-",),
    "memories": ("memory", "index-"),
    "bridges": ("bridge-", "run-", "result-", "checkpoint-", "mixture-", "kept-pairs", "mini-"),
    "tables": ("table-", "list-", "settings-", "recipe-", "partial-", "failures-"),
    "datasets": ("annotations-",),
    "media": ("image", "sound", "text"),
    "serving": ("request", "kept-query", "upload-"),
}


def every_target() -> dict[str, Target]:
    """All targets by their names."""
    return {name: target for kind in _KINDS for name, target in _of(kind).items()}


def target_named(name: str) -> Target:
    """One target; only what it reads with is imported. Raises KeyError."""
    for kind, starts in _KINDS.items():
        if name.startswith(starts):
            return _of(kind)[name]
    raise KeyError(name)


def _of(kind: str) -> dict[str, Target]:
    targets = import_module(f"tests.fuzz.readers.{kind}").TARGETS
    wrong = [one.name for one in targets if not one.name.startswith(_KINDS[kind])]
    assert not wrong, wrong
    return {one.name: one for one in targets}
