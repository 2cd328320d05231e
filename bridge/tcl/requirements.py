"""What TCL's terms need of the memories, checked before anything is computed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

from bridge.config import TrainSettings
from bridge.tcl.items import MAKE_PARTS, Items
from features.errors import UserError
from features.memories.memory import Memory


class LeftOutOfLmi(UserWarning):
    """LMI does not train on some memories, as their items have no parts."""


def check_items(
    settings: TrainSettings, hub: Sequence[Memory], leaf: Mapping[str, Sequence[Memory]]
) -> None:
    """Raise UserError unless the memories have the parts and sentences that the terms need.

    Warns of memories that LMI leaves out. leaf: by space.
    """
    if settings.kind != "tcl" or not any(settings.need):
        return
    names = [name for name, needed in settings.need._asdict().items() if needed]
    if settings.pseudo_pairs != "hub":
        raise UserError(
            f"{names[0]}_weight is set but pseudo_pairs is '{settings.pseudo_pairs}': terms on "
            "parts need pseudo pairs centred on the hub, leave pseudo_pairs out"
        )
    items = [Items((memory,)) for memory in hub]
    leaves = {space: Items(tuple(memories)) for space, memories in leaf.items() if memories}
    if settings.need.lmi:
        _check_lmi([*items, *leaves.values()])
    sides = [leaves.get(memory.space, own) for memory, own in zip(hub, items, strict=True)]
    if settings.need.fusion:
        for side in sides:
            side.require_parts("itm_weight" if settings.need.itm else "mlm_weight")
    if settings.need.mlm:
        _check_sentences(items[0], sides)


def _check_lmi(every: Sequence[Items]) -> None:
    """Memories without parts are left out, but not all, and none beside others of its kind."""
    for one in every:
        if not one.length and any(memory.header.local_length for memory in one.memories):
            one.require_parts("lmi_weight")
    if not any(one.length for one in every):
        named = ", ".join(str(memory.path) for one in every for memory in one.memories)
        raise UserError(
            f"lmi_weight is set but no memory has the parts of its items ({named}): "
            f"{MAKE_PARTS}, or set lmi_weight to 0"
        )
    left_out = [str(memory.path) for one in every if not one.length for memory in one.memories]
    if left_out:
        warnings.warn(
            f"LMI leaves out what has no parts of items ({', '.join(left_out)}): {MAKE_PARTS}, "
            "for LMI to train on it, too",
            LeftOutOfLmi,
            stacklevel=4,
        )


def _check_sentences(hub: Items, sides: Sequence[Items]) -> None:
    readers = [one for one in (hub, *sides) if one.modality == "text"]
    if not readers or all(side.modality == "text" for side in sides):
        kinds = " and ".join(dict.fromkeys(one.modality for one in (hub, *sides)))
        raise UserError(
            f"mlm_weight is set but the memories hold {kinds}: to guess words takes a text memory, "
            "and parts of another modality to guess them from; set mlm_weight to 0"
        )
    for memory in readers[0].memories:
        if memory.header.root is not None:
            raise UserError(
                f"mlm_weight is set but {memory.path} was made of text files and does not hold "
                "their sentences: extract sentences, or set mlm_weight to 0"
            )
