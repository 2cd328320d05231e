"""What is served: bridges, and collections of items that are searched."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bridge.artefact import Bridge, load
from bridge.search import Embedder, Query
from bridge.serving.collection import (
    Collection,
    find_same,
    index_collection,
    memory_collections,
)
from bridge.serving.roots import check_roots, file_roots
from features.errors import UserError
from features.memories.provenance import check_encoders
from features.search.backends import backend_of
from features.space import MODALITIES, Modality


@dataclass(frozen=True)
class ServedSpace:
    """A space that queries are embedded in. encoder: the description of what made it."""

    name: str
    modalities: tuple[Modality, ...]
    encoder: Mapping[str, Any]


class Served:
    """Bridges, collections and the encoders that queries need."""

    def __init__(
        self,
        bridges: Sequence[Bridge],
        collections: Sequence[Collection],
        embedder: Embedder,
    ) -> None:
        """Raises UserError for two of one name, or spaces of one name and different encoders."""
        self.bridges = {bridge.name: bridge for bridge in bridges}
        self.collections = {one.name: one for one in collections}
        self.embedder = embedder
        _refuse_same("bridges", [bridge.name for bridge in bridges])
        _refuse_same("collections", [one.name for one in collections])
        self.spaces = _spaces(bridges, collections, trust=embedder.trust_encoder)
        embedder.check_overrides(self.spaces)
        self.unusable: dict[str, str] = {}  # space -> why its encoder does not load
        self.unprepared: dict[str, str] = {}  # collection -> why what searches need is not read
        self.ready = threading.Event()
        self.embedding = threading.Lock()  # held while the embedder works: encoders load once

    @property
    def queries(self) -> list[Modality]:
        """The modalities that some collection can be asked in."""
        askable = {m for one in self.collections.values() for m in self.askable(one)}
        return [modality for modality in MODALITIES if modality in askable]

    @property
    def roots(self) -> dict[Path, list[str]]:
        """The folders that files are sent from, and the collections that name them."""
        return file_roots({name: one.table.root for name, one in self.collections.items()})

    def askable(self, collection: Collection) -> list[Modality]:
        """The modalities that a collection can be asked in."""
        return [m for m in MODALITIES if self.spaces_for(collection, m)]

    def spaces_for(self, collection: Collection, modality: Modality) -> list[str]:
        """The spaces in which a query of `modality` is embedded to search a collection."""
        names = [collection.header.space] if collection.bridge is None else collection.bridge.spaces
        return [name for name in names if modality in self.usable(name)]

    def usable(self, space: str) -> tuple[Modality, ...]:
        """The modalities that are embedded in a space; none if its encoder does not load."""
        return () if space in self.unusable else self.spaces[space].modalities

    def warm(self) -> None:
        """Load every encoder and read what searches need; what fails is noted, and the rest ready.

        Encoders are code of others, and may raise anything.
        """
        for space in list(self.spaces.values()):
            if not space.encoder.get("spec") and space.name not in self.embedder.overrides:
                continue
            try:
                with self.embedding:
                    self._warm(space)
            except Exception as error:
                self.unusable[space.name] = _reason(error)
        for name, collection in self.collections.items():
            try:
                collection.rows.prepare()
                if collection.own is not None:
                    collection.own.prepare()
            except Exception as error:
                self.unprepared[name] = _reason(error)
        self.ready.set()

    def _warm(self, space: ServedSpace) -> None:
        """Load an encoder, and use it once. Raises UserError, or what the encoder raises."""
        encoder = self.embedder.load(space.name, space.encoder)
        if not space.modalities:  # what the memory did not say, the user's own encoder does
            self.spaces[space.name] = replace(space, modalities=encoder.space.modalities)
        if "text" in self.spaces[space.name].modalities:
            self.embedder.embed([Query("text", "a query")], space.name, space.encoder)


def open_served(
    bridge_folders: Sequence[Path],
    index_paths: Sequence[str | Path],
    memory_paths: Sequence[Path],
    *,
    device: str = "auto",
    overrides: Mapping[str, str] | None = None,
    trust_encoder: bool = False,
    files: Sequence[Path] = (),
) -> Served:
    """Open what is to be served; nothing large is read.

    index_paths: files of FAISS, or addresses of Milvus.
    files: folders that files are sent from although they hold the user's home folder.
    Raises UserError if something is missing or damaged, does not belong together, or names such a
    folder that is not among `files`.
    """
    if not index_paths and not memory_paths:
        raise UserError("there is nothing to search: give an --index or a --memory")
    embedder = Embedder(device=device, overrides=overrides, trust_encoder=trust_encoder)
    bridges = [load(folder, device=device) for folder in bridge_folders]
    names = _names([*index_paths, *memory_paths])
    collections = [index_collection(path, names[path], bridges) for path in index_paths]
    for path in memory_paths:
        collections += memory_collections(path, names[path], bridges, trust=trust_encoder)
    find_same(collections)
    served = Served(bridges, collections, embedder)
    check_roots(served.roots, files)
    return served


def _names(paths: Sequence[str | Path]) -> dict[str | Path, str]:
    """What files are called: NAME, or NAME.faiss and NAME.h5 where there are both, as recipes make
    them.
    """
    known = {path: backend_of(path).names(str(path)) for path in paths}
    short = Counter(known[path][0] for path in paths)
    return {path: one if short[one] == 1 else longer for path, (one, longer) in known.items()}


def _reason(error: Exception) -> str:
    """What an error says, with its kind where it is none of our own, in one line."""
    said = " ".join(str(error).split())
    return said if isinstance(error, UserError) else f"{type(error).__name__}: {said}"


def _refuse_same(what: str, names: Sequence[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise UserError(f"{count} {what} are called {name}: rename one of their files")


def _spaces(
    bridges: Sequence[Bridge], collections: Sequence[Collection], *, trust: bool
) -> dict[str, ServedSpace]:
    """The spaces of all, each once. Raises UserError if two of a name have different encoders."""
    spaces: dict[str, ServedSpace] = {}
    of: dict[str, str] = {}
    found = [
        (f"the bridge {bridge.name}", ServedSpace(space.name, space.modalities, space.encoder))
        for bridge in bridges
        for space in bridge.spaces.values()
    ]
    for one in collections:
        if one.bridge is None:
            encoder = one.header.encoder
            known = tuple(m for m in MODALITIES if m in encoder.get("modalities", ()))
            found.append((one.name, ServedSpace(one.header.space, known, encoder)))
    for whose, space in found:
        if space.name not in spaces:
            spaces[space.name], of[space.name] = space, whose
            continue
        check_encoders(
            (f"the space {space.name} of {of[space.name]}", spaces[space.name].encoder),
            (f"that of {whose}", space.encoder),
            remedy="serve them separately",
            trust=trust,
        )
    return spaces
