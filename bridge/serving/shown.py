"""What is told of items, and the files that may be sent: those that a served memory names, in the
folder that it names.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from bridge.serving.collection import Collection
from bridge.serving.models import Hit, Item, Media
from bridge.serving.refusal import NOT_FOUND, Refusal
from bridge.serving.state import Served
from features.extraction.decode import SUFFIXES

TYPES = {
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp",
    ".gif": "image/gif", ".bmp": "image/bmp", ".tif": "image/tiff", ".tiff": "image/tiff",
    ".wav": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg", ".opus": "audio/ogg",
    ".mp3": "audio/mpeg", ".aiff": "audio/aiff", ".aif": "audio/aiff",
}  # fmt: skip
PICTURE = {"image": "thumbnail", "audio": "waveform", "points": "points"}


def collection_named(served: Served, name: str) -> Collection:
    """A collection. Raises Refusal with those there are."""
    if name not in served.collections:
        known = ", ".join(served.collections)
        raise Refusal(NOT_FOUND, f"there is no collection '{name[:80]}', there are {known}")
    return served.collections[name]


def row_named(served: Served, name: str, item: str) -> tuple[Collection, int]:
    """A collection, and the row of an item in it. Raises Refusal if there is none."""
    collection = collection_named(served, name)
    row = collection.table.row_of(item)
    if row is None:
        raise Refusal(NOT_FOUND, f"{name} has no item '{item[:80]}'")
    return collection, row


def item_file(collection: Collection, row: int) -> Path | None:
    """The file of an item, if it lies in its memory's folder and has a suffix of its modality.

    A memory may come from somebody else, and names that folder itself: `mcr serve` says which
    folders these are, and refuses those that hold the home folder (`bridge.serving.roots`).
    """
    if not _may_have_file(collection, row):
        return None
    root = Path(collection.table.root or "").resolve()
    path = (root / collection.table.items[row]).resolve()
    inside = path.is_relative_to(root) and path.is_file()
    return path if inside and path.suffix.lower() in SUFFIXES[collection.modality] else None


def _may_have_file(collection: Collection, row: int) -> bool:
    """Whether an item's name is one of a file that may be sent, without a look at the disk."""
    if collection.table.root is None:
        return False
    return collection.table.items[row].lower().endswith(SUFFIXES[collection.modality])


def item(collection: Collection, row: int) -> Item:
    """What is told of an item."""
    table = collection.table
    is_text = table.root is None and collection.modality == "text"
    return Item(
        id=table.ids[row],
        collection=collection.name,
        modality=collection.modality,
        text=table.items[row] if is_text else None,
        label=None if table.labels is None else table.labels[row],
        columns=collection.filters.values(row),
        media=media(collection, row),
    )


def hit(collection: Collection, row: int, rank: int, score: float) -> Hit:
    """An item as a hit."""
    return Hit(rank=rank, score=score, **vars(item(collection, row)))


def media(collection: Collection, row: int) -> Media | None:
    """The addresses of an item's file and picture, if it is a file; whether it is there is not
    looked up for every hit.
    """
    if not _may_have_file(collection, row):
        return None
    start = f"/v1/media/{quote(collection.name, safe='')}/{row}"
    picture = PICTURE.get(collection.modality)
    return Media(file=f"{start}/file", **({picture: f"{start}/{picture}"} if picture else {}))
