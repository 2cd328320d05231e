"""What is served together, and what of it fails while it is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.client import Client
from bridge.search import Embedder
from bridge.serving.limits import Limits
from bridge.serving.service import NotServed, Service
from bridge.serving.state import open_served
from tests.bridge.serving.place import NUMBERS, Place, serving

SENTENCE = f"the number {NUMBERS[3]}"


def test_what_fails_while_it_is_loaded_is_noted_and_the_rest_is_ready(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Embedder):
        def load(self, space, description):
            if space == "mini-clap":
                raise RuntimeError("no such\nlayer")
            return super().load(space, description)

    served = open_served([], [], [place.memory("texts"), place.memory("sounds")], device="cpu")
    served.embedder = Broken(device="cpu")
    unread = served.collections["texts"].rows
    monkeypatch.setattr(unread, "prepare", lambda: Path("/nowhere").read_bytes())
    service = Service(served, Limits(), keep_queries=0, state=None)
    try:
        with pytest.warns(NotServed) as noted:
            service.warm()
    finally:
        service.close()
    assert served.ready.is_set()
    assert served.queries == ["text", "image"]
    encoder, rows = (str(one.message) for one in noted)
    assert encoder == "no query is embedded in mini-clap: RuntimeError: no such layer"
    assert rows.startswith("texts is not read for searches: FileNotFoundError: ")


def test_an_index_is_served_with_the_memory_it_was_made_of(place: Place, tmp_path: Path) -> None:
    """For the neighbours in the memory's own space; both are called NAME by a recipe."""
    memory = tmp_path / "memories" / "pictures.h5"
    memory.parent.mkdir()
    memory.symlink_to(place.memory("pictures-own"))
    with (
        serving("--bridge", place.bridge, "--index", place.pictures, "--memory", memory) as running,
        Client(running.address) as client,
    ):
        told = {one.name: one.same_as for one in client.info().collections}
        assert told == {"pictures.faiss": None, "pictures.h5": "pictures.faiss"}
        everywhere = client.search(SENTENCE).hits  # no item twice
        assert {hit.collection for hit in everywhere} == {"pictures.faiss"}
        named = client.search(SENTENCE, collections=["pictures.h5"]).hits
        assert [hit.id for hit in named] == [hit.id for hit in everywhere]
        answer = client.search(SENTENCE, collections=["pictures.faiss"], neighbours=True)
        assert {hit.collection for hit in answer.hits} == {"pictures.faiss"}
        (near,) = answer.neighbours or []
        assert near.memory == "pictures.h5"
        hit = answer.hits[0]
        assert hit.media is not None
        assert client.media(hit.media.file) == client.media(
            client.item(hit.id, "pictures.h5").media.file
        )
