"""Where a recipe's indices are: files in its folder, or collections of Milvus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bridge.recipe.tables import Tables
from features.errors import UserError
from features.search.milvus.place import ADDRESSES, Place, collection_for, parse_place

_WHERE = ("index", "place")


def index_outputs(
    text: str | None, names: Sequence[str], folder: Path, tables: Tables
) -> dict[str, Path | str]:
    """The file, or the address, of the index of each memory.

    text: an address that the recipe names. Raises UserError, with its place in the recipe, if it is
    none, or one collection for several memories.
    """
    if text is None:
        return {name: folder / "shared" / f"{name}.faiss" for name in names}
    try:
        place = _parsed(text)
    except UserError as error:
        raise tables.wrong(*_WHERE, told=f"is {text!r}: {error}") from error
    if place.collection is None:
        return {name: str(place.named(collection_for(Path(name)))) for name in names}
    if len(names) > 1:
        raise tables.wrong(
            *_WHERE,
            told=f"is {text!r}, one collection for {len(names)} memories: leave out what is behind "
            "the #, each then has its own",
        )
    return {name: str(place) for name in names}


def _parsed(text: str) -> Place:
    from features.search.backends import is_address

    if not is_address(text):
        raise UserError(f"it is no address of Milvus: write {ADDRESSES}")
    return parse_place(text)
