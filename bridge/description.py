"""Of what kinds the values in a bridge's `bridge.json` must be, which anybody may have written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MAPPING_OR_NOTHING = (dict, type(None))
_ABOUT: dict[str, tuple[type, ...]] = {
    "name": (str,), "fingerprint": (str,), "spaces": (list,), "memories": (list,),
    "settings": (dict,), "metrics": _MAPPING_OR_NOTHING, "versions": _MAPPING_OR_NOTHING,
    "origin": (str, type(None)), "matcher": _MAPPING_OR_NOTHING,
}  # fmt: skip
_SPACE: dict[str, tuple[type, ...]] = {
    "name": (str,), "dimension": (int,), "modalities": (list,), "encoder": (dict,),
    "projector": (dict,),
}  # fmt: skip
_MEMORY: dict[str, tuple[type, ...]] = {
    "path": (str,), "role": (str,), "space": (str,), "modality": (str,), "items": (int,),
    "fingerprint": (str,),
}  # fmt: skip
_LARGEST = 1 << 16  # width of a projector, which is allocated before the weights are compared


def require_kinds(about: Mapping[str, Any]) -> None:
    """Raise ValueError for a value that no bridge writes, or spaces that projectors do not fit."""
    _require(about, _ABOUT, "bridge")
    for space in about["spaces"]:
        _require(space, _SPACE, "space")
        _require_widths(space["projector"])
        if space["dimension"] != space["projector"].get("inputs"):
            raise ValueError(
                f"the space {space['name']} has dimension {space['dimension']}, and its projector "
                f"takes {space['projector'].get('inputs')}"
            )
    for memory in about["memories"]:
        _require(memory, _MEMORY, "memory")


def _require(described: Any, kinds: Mapping[str, tuple[type, ...]], what: str) -> None:
    if not isinstance(described, dict):
        raise ValueError(f"a {what} is {described!r:.50}")
    for name, allowed in kinds.items():
        value = described.get(name)
        if not isinstance(value, allowed) or isinstance(value, bool):
            raise ValueError(f"the {name} of a {what} is {value!r:.50}")


def _require_widths(projector: Any) -> None:
    _require(projector, {"shape": (str,), "inputs": (int,), "outputs": (int,)}, "projector")
    for name in ("inputs", "outputs", "hidden"):
        if not 0 <= (width := projector.get(name, 0)) <= _LARGEST:
            raise ValueError(f"the {name} of a projector are {width}")
    for part in projector.get("parts", ()):
        _require_widths(part)
