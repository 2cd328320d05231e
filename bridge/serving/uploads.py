"""Turning the queries of a request into what can be embedded, within the limits."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bridge.search import Query
from bridge.serving import requests
from bridge.serving.collection import bridge_place
from bridge.serving.decoders import Decoded, Decoders
from bridge.serving.limits import Limits
from bridge.serving.prepared import PreparedQuery
from bridge.serving.refusal import NOT_FOUND, TOO_LARGE, UNPROCESSABLE, UNSUPPORTED, Refusal
from bridge.serving.saved import SavedQueries
from bridge.serving.shown import item_file, row_named
from bridge.serving.state import Served
from features.space import Modality

# What is taken of each modality; the page and the client ask by these suffixes.
TAKEN: dict[Modality, tuple[str, ...]] = {
    "image": (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"),
    "audio": (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif"),
    "points": (".npz", ".npy", ".ply", ".pcd", ".xyz", ".pts", ".off"),
}
_MADE = {"image": ".png", "audio": ".wav", "points": ".npz"}  # by the decoder


@dataclass(frozen=True)
class Reading:
    """How a request's queries are read.

    folder: of its own. places: where its queries are to be known: spaces, or `bridge NAME`.
    deadline: by `time.monotonic()`.
    """

    folder: Path
    places: Collection[str]
    deadline: float


class Uploads:
    """Reads queries; files lie in a folder of the request's own until it is answered."""

    def __init__(
        self, served: Served, saved: SavedQueries, decoders: Decoders, limits: Limits
    ) -> None:
        self.served, self.saved, self.decoders, self.limits = served, saved, decoders, limits

    def read(self, queries: Sequence[requests.AnyQuery], reading: Reading) -> list[PreparedQuery]:
        """The queries, ready to be embedded; blocks while files are decoded. Raises Refusal."""
        if len(queries) > self.limits.batch:
            raise Refusal(
                UNPROCESSABLE,
                f"{len(queries)} queries in a request, at most {self.limits.batch} are taken",
            )
        sizes = [len(q.content) * 3 // 4 for q in queries if isinstance(q, requests.ContentQuery)]
        if sum(sizes) > self.limits.upload_bytes + 2 * len(sizes):
            raise Refusal(
                TOO_LARGE,
                f"the files have {sum(sizes)} bytes, at most {self.limits.upload_bytes} are taken",
            )
        read = []
        for place, query in enumerate(queries):
            try:
                read.append(self._read(query, place, reading))
            except Refusal as refusal:
                which = f"query {place + 1}: " if len(queries) > 1 else ""
                raise Refusal(refusal.status, f"{which}{refusal}") from refusal
        return read

    def _read(self, query: requests.AnyQuery, place: int, reading: Reading) -> PreparedQuery:
        if isinstance(query, requests.TextQuery):
            return self._text(query.text)
        if isinstance(query, requests.ContentQuery):
            return self._content(query, reading.folder / str(place), reading.deadline)
        if isinstance(query, requests.ItemQuery):
            return self._item(query.item, reading.folder / str(place), reading)
        if isinstance(query, requests.SavedQuery):
            return self._saved(query.saved)
        return self._embedding(query)

    def _text(self, text: str) -> PreparedQuery:
        if len(text) > self.limits.text_characters:
            raise Refusal(
                TOO_LARGE,
                f"the text has {len(text)} characters, at most {self.limits.text_characters} are "
                "taken",
            )
        if not text.strip() or not _is_unicode(text):
            raise Refusal(UNPROCESSABLE, "the text is empty or no Unicode: give a sentence")
        return PreparedQuery("text", Query("text", text), text=text)

    def _content(self, query: requests.ContentQuery, place: Path, deadline: float) -> PreparedQuery:
        suffix = Path(query.filename.replace("\\", "/")).suffix.lower()
        modality = next((m for m, suffixes in TAKEN.items() if suffix in suffixes), None)
        if modality is None or not _is_unicode(query.filename):
            known = ", ".join(one for suffixes in TAKEN.values() for one in suffixes)
            raise Refusal(UNSUPPORTED, f"a file called '{suffix[:20]}' is none of {known}")
        try:
            content = base64.b64decode(query.content, validate=True)
        except (binascii.Error, ValueError):
            raise Refusal(UNPROCESSABLE, f"{query.filename} is not in base64") from None
        place.mkdir()
        received = place / f"received{suffix}"
        received.write_bytes(content)
        made = self._decoded(f"query_{modality}", received, query.filename, deadline)
        received.unlink()
        return PreparedQuery(
            modality, _readable(made, modality, place), filename=query.filename, keep=True
        )

    def _decoded(self, task: str, path: Path, name: str, deadline: float) -> Decoded:
        """A file made anew in a process of its own: no encoder reads a file that came."""
        try:
            return self.decoders.run(task, path, deadline)
        except Refusal as refusal:
            raise Refusal(refusal.status, f"{name[:80]}: {refusal}") from refusal

    def _item(self, item: requests.ItemName, place: Path, reading: Reading) -> PreparedQuery:
        collection, row = row_named(self.served, item.collection, item.id)
        modality, path, source, note = collection.modality, item_file(collection, row), None, None
        vectors = {collection.place: collection.rows.vector(row)}
        if collection.own is not None:
            vectors[collection.header.space] = collection.own.vector(row)
        if path is not None:
            if self._embeds(modality, reading.places, vectors):
                place.mkdir()
                source, note = self._item_file(item.id, modality, path, place, reading.deadline)
        elif modality == "text":
            source = Query("text", collection.table.items[row])
        return PreparedQuery(
            collection.modality, source, vectors,
            item={"collection": collection.name, "id": item.id}, note=note,
        )  # fmt: skip

    def _item_file(
        self, name: str, modality: Modality, path: Path, place: Path, deadline: float
    ) -> tuple[Query | None, str | None]:
        """What an encoder takes of an item's file, and what was left out.

        None if the file is not fit: where its embedding is known, it is searched with that.
        """
        try:
            made = self._decoded(f"item_{modality}", path, name, deadline)
        except Refusal as refusal:
            if refusal.status in (TOO_LARGE, UNPROCESSABLE, UNSUPPORTED):
                return None, str(refusal)
            raise
        return _readable(made, modality, place), made.note

    def _embeds(self, modality: Modality, places: Collection[str], known: Collection[str]) -> bool:
        """Whether a query is to be embedded on the way to places where it is not known."""
        bridges = {bridge_place(name): bridge for name, bridge in self.served.bridges.items()}
        spaces = [
            space
            for place in places
            if place not in known
            for space in (bridges[place].spaces if place in bridges else [place])
        ]
        return any(s not in known and modality in self.served.usable(s) for s in spaces)

    def _saved(self, key: str) -> PreparedQuery:
        saved = self.saved.get(key)
        if saved is None:
            raise Refusal(NOT_FOUND, "this query is no longer kept: ask it again")
        return PreparedQuery(
            saved.modality, None, dict(saved.vectors), filename=saved.filename, saved=key
        )

    def _embedding(self, query: requests.EmbeddingQuery) -> PreparedQuery:
        place, dimension = self.place_named(query.space)
        vector = torch.tensor(query.embedding, dtype=torch.float64)
        norm = float(torch.linalg.vector_norm(vector))
        if len(vector) != dimension or not 0 < norm < float("inf"):
            raise Refusal(
                UNPROCESSABLE,
                f"the embedding has {len(vector)} numbers and norm {norm:g}, {query.space} has "
                f"{dimension} and a direction",
            )
        unit = (vector / norm).float()
        return PreparedQuery(query.modality, None, {place: unit}, keep=True)

    def place_named(self, name: str) -> tuple[str, int]:
        """The place of a bridge or space, and its dimension. Raises Refusal if it is unknown."""
        if name in self.served.bridges:
            return bridge_place(name), self.served.bridges[name].dimension
        for bridge in self.served.bridges.values():
            if name in bridge.spaces:
                return name, bridge.spaces[name].dimension
        for one in self.served.collections.values():
            if one.bridge is None and one.header.space == name:
                return name, one.header.dimension
        known = ", ".join([*self.served.bridges, *self.served.spaces])
        raise Refusal(NOT_FOUND, f"'{name[:80]}' is neither a bridge nor a space, known: {known}")


def _readable(made: Decoded, modality: Modality, place: Path) -> Query:
    """A query of what a decoder made, kept in a file of the folder `place`."""
    path = place / f"query{_MADE[modality]}"
    path.write_bytes(made.content)
    return Query(modality, path)


def _is_unicode(text: str) -> bool:
    """Whether a text can be encoded: JSON may hold halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
