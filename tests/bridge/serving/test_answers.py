"""What the server answers is what `bridge.search` finds, in every way to ask."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from bridge.artefact import Bridge, load, make_projector
from bridge.client import Client, ServerError
from bridge.search import Embedder, Query, embed_for_bridge
from bridge.serving.answers import Answers
from bridge.serving.limits import Limits
from bridge.serving.metrics import Metrics
from bridge.serving.prepared import JobResult, PreparedQuery, SearchJob
from bridge.serving.refusal import Refusal
from bridge.serving.requests import EmbeddingQuery, SavedQuery, SearchRequest
from bridge.serving.saved import SavedQueries
from bridge.serving.service import Service
from bridge.serving.state import open_served
from features.errors import UserError
from features.memories.memory import Memory
from features.memories.writing import save_memory
from tests.bridge.serving.place import NUMBERS, SETTINGS, Place, Running

SENTENCE = f"the number {NUMBERS[3]}"


@pytest.fixture
def client(server: Running):
    with Client(server.address) as client:
        yield client


def _wanted(place: Place, query: Query, name: str) -> list[tuple[str, float]]:
    """Ids and cosines in float64 of every item of a collection, best first."""
    bridge = load(place.bridge, device="cpu")
    asked = embed_for_bridge([query], bridge, Embedder(device="cpu"))[0].double()
    memory = Memory(place.memory(name))
    rows = memory.tensor()
    if memory.space != bridge.name:
        rows = bridge.project(rows, memory.space, memory.modality)
    scores = torch.nn.functional.normalize(rows.double(), dim=-1) @ asked
    order = scores.argsort(descending=True)
    return [(memory.ids[row], float(scores[row])) for row in order.tolist()]


@pytest.mark.parametrize("name", ["pictures", "sounds", "texts"])
@pytest.mark.parametrize("kind", ["text", "image", "audio"])
def test_hits_are_those_of_float64(client: Client, place: Place, name: str, kind: str) -> None:
    asked = {
        "text": SENTENCE,
        "image": place.file("images", NUMBERS[3]),
        "audio": place.file("sounds", NUMBERS[3]),
    }[kind]
    wanted = _wanted(place, Query(kind, asked), name)
    answer = client.search(asked, collections=[name], k=5)
    assert [hit.id for hit in answer.hits] == [one for one, _ in wanted[:5]]
    assert [hit.score for hit in answer.hits] == pytest.approx(
        [score for _, score in wanted[:5]], abs=2e-3 if name == "pictures" else 1e-5
    )
    assert [hit.rank for hit in answer.hits] == [1, 2, 3, 4, 5]
    assert answer.total == len(NUMBERS)
    assert (answer.query.modality, answer.query.saved is None) == (kind, kind == "text")


def test_pages_follow_each_other(client: Client) -> None:
    everything = client.search(SENTENCE, k=100)
    assert [hit.score for hit in everything.hits] == sorted(
        (hit.score for hit in everything.hits), reverse=True
    )
    paged = list(client.pages(SENTENCE, k=7))
    assert paged == everything.hits
    assert everything.total == len(paged) == 3 * len(NUMBERS)


def test_a_filter_leaves_the_best_of_those_that_pass(client: Client) -> None:
    every = client.search(SENTENCE, k=100, collections=["pictures"]).hits
    for where, passes in (
        ({"parity": ["odd"]}, lambda hit: hit.columns["parity"] == "odd"),
        ({"digits": {"min": 3}}, lambda hit: hit.columns["digits"] >= 3),
        ({"digits": [2]}, lambda hit: hit.columns["digits"] == 2),
        ({"label": [NUMBERS[7], NUMBERS[8]]}, lambda hit: hit.label in NUMBERS[7:9]),
        ({"parity": ["even"], "digits": {"max": 2}},
         lambda hit: hit.columns == {"parity": "even", "digits": 2}),
    ):  # fmt: skip
        wanted = [hit.id for hit in every if passes(hit)]
        answer = client.search(SENTENCE, k=100, collections=["pictures"], where=where)
        assert [hit.id for hit in answer.hits] == wanted
        assert 0 < answer.total == len(wanted) < len(every)


def test_nothing_passes_and_the_page_is_empty(client: Client) -> None:
    answer = client.search(SENTENCE, where={"parity": ["neither"]})
    assert (answer.total, answer.hits) == (0, [])


def test_every_collection_has_a_page_of_its_own(client: Client, place: Place) -> None:
    names = ["pictures", "sounds", "clouds"]
    asked = {"k": 3, "offset": 2, "where": {"label": list(NUMBERS[:4])}}
    sound = place.file("sounds", NUMBERS[3])
    answer = client.search(sound, collections=names, grouped=True, **asked)
    assert answer.hits == []
    groups = {group.collection: group for group in answer.groups or []}
    assert list(groups) == names
    assert groups["clouds"].hits == []
    assert "cannot be searched in clouds" in (groups["clouds"].problem or "")
    for name in ("pictures", "sounds"):
        alone = client.search(sound, collections=[name], **asked)
        assert (groups[name].total, groups[name].hits) == (alone.total, alone.hits)
    assert answer.total == groups["pictures"].total + groups["sounds"].total
    with pytest.raises(ServerError, match="cannot be searched in any collection"):
        client.search(sound, collections=["clouds"], grouped=True)


def test_more_like_an_item(client: Client, place: Place) -> None:
    first = client.search(SENTENCE, collections=["sounds"]).hits[0]
    alike = client.search(first, collections=["sounds"]).hits
    assert alike[0].id == first.id
    assert alike[0].score == pytest.approx(1, abs=1e-5)
    sound = place.file("sounds", str(first.label))
    assert [hit.id for hit in alike] == [
        hit.id for hit in client.search(sound, collections=["sounds"]).hits
    ]


def test_a_query_that_is_kept_gives_the_same_hits(client: Client, place: Place) -> None:
    first = client.search(place.file("images", NUMBERS[0]), neighbours=True)
    again = client.search(SavedQuery(saved=first.query.saved or ""), neighbours=True)
    assert again.hits == first.hits
    assert again.neighbours == first.neighbours
    assert again.query.filename == f"{NUMBERS[0]}.png"


def test_neighbours_are_those_of_the_memory_itself(client: Client) -> None:
    answer = client.search(SENTENCE, neighbours=True)
    found = {one.memory: [hit.id for hit in one.hits] for one in answer.neighbours or []}
    assert set(found) == {"sounds", "texts", "clouds"}
    assert found["texts"][0] == f"texts/{NUMBERS[3]}"


def test_a_cloud_is_asked_for_in_its_own_space(client: Client, place: Place) -> None:
    cloud = place.file("clouds", NUMBERS[5])
    answer = client.search(cloud, collections=["clouds"])
    assert answer.hits[0].label == NUMBERS[5]
    with pytest.raises(ServerError, match="cannot be searched in any collection"):
        client.search(cloud)


def test_embeddings_are_those_of_the_encoder_and_the_bridge(client: Client, place: Place) -> None:
    bridge, embedder = load(place.bridge, device="cpu"), Embedder(device="cpu")
    wanted = embed_for_bridge([Query("text", SENTENCE)], bridge, embedder).numpy()
    assert client.embed([SENTENCE], bridge="joined") == pytest.approx(wanted, abs=1e-6)
    description = bridge.spaces["mini-clap"].encoder
    own = embedder.embed([Query("text", SENTENCE)], "mini-clap", description)
    rows = client.embed([SENTENCE, "another"], space="mini-clap")
    assert rows[:1] == pytest.approx(own.numpy(), abs=1e-6)
    assert rows.shape[0] == 2
    back = client.search(EmbeddingQuery(embedding=rows[0].tolist(), space="mini-clap"))
    assert back.hits


def test_several_queries_are_answered_in_their_order(client: Client, place: Place) -> None:
    asked = [SENTENCE, place.file("sounds", NUMBERS[1]), place.file("images", NUMBERS[2])]
    together = client.search_many(asked, k=4)
    apart = [client.search(one, k=4) for one in asked]
    for one, other in zip(together, apart, strict=True):
        assert [hit.id for hit in one.hits] == [hit.id for hit in other.hits]
        assert [hit.score for hit in one.hits] == pytest.approx(
            [hit.score for hit in other.hits], abs=1e-5
        )


def test_files_and_pictures_of_items(client: Client, place: Place) -> None:
    def media(collection: str, number: str):
        found = client.search(SENTENCE, collections=[collection], where={"label": [number]})
        assert found.hits[0].media is not None
        return found.hits[0].media

    picture, sound = media("pictures", NUMBERS[4]), media("sounds", NUMBERS[4])
    assert client.media(picture.file) == place.file("images", NUMBERS[4]).read_bytes()
    assert client.media(picture.thumbnail or "").startswith(b"\x89PNG")
    shape = json.loads(client.media(sound.waveform or ""))
    assert 0 < shape["seconds"] < 5
    assert all(low <= high for low, high in shape["peaks"])
    item = client.item(f"clouds/{NUMBERS[4]}", "clouds")
    cloud = json.loads(client.media(item.media.points if item.media else ""))
    assert np.array(cloud["points"]).shape[1] == 3


def test_a_sound_can_be_sought(http: httpx.Client, place: Place) -> None:
    whole = place.file("sounds", NUMBERS[0]).read_bytes()
    address = "/v1/media/sounds/0/file"
    part = http.get(address, headers={"range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, whole[100:200])
    assert part.headers["content-type"] == "audio/wav"


def test_what_is_served_is_told(client: Client) -> None:
    info = client.info()
    by_name = {one.name: one for one in info.collections}
    assert info.ready
    assert info.queries == ["text", "image", "audio", "points"]
    assert [bridge.name for bridge in info.bridges] == ["joined"]
    assert [by_name[name].shared for name in ("pictures", "sounds", "clouds")] == [1, 1, 0]
    columns = {one.name: one for one in by_name["pictures"].columns}
    assert set(columns) == {"label", "digits", "parity"}
    assert (columns["digits"].kind, columns["digits"].minimum) == ("number", 2)
    assert sum(one.count for one in columns["parity"].values) == len(NUMBERS)


def test_metrics_count_what_was_asked(http: httpx.Client) -> None:
    def answered() -> float:
        lines = http.get("/metrics").text.splitlines()
        wanted = 'mcr_requests_total{method="POST",route="/v1/search",status="200"}'
        return sum(float(line.split()[-1]) for line in lines if line.startswith(wanted))

    before = answered()
    for number in NUMBERS[:3]:
        http.post("/v1/search", json={"queries": [{"text": number}]})
    assert answered() == before + 3


def test_the_client_says_what_is_wrong(client: Client, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="no item 'nobody'") as caught:
        client.item("nobody", "sounds")
    assert caught.value.status == 404
    with pytest.raises(UserError, match="start a server with `mcr serve`"):
        Client("http://127.0.0.1:1").info()
    with pytest.raises(UserError, match="cannot be read"):
        client.search(tmp_path / "missing.png")


def test_an_upload_leaves_no_file(http: httpx.Client, place: Place) -> None:
    content = base64.b64encode(place.file("images", NUMBERS[0]).read_bytes()).decode()
    asked = {"queries": [{"content": content, "filename": "../../../tmp/elsewhere.png"}]}
    assert http.post("/v1/search", json=asked).status_code == 200
    assert list(place.temporary.iterdir()) == []
    assert not Path("/tmp/elsewhere.png").exists()


class _Fails(Embedder):
    """Fails at some sentences as no encoder should."""

    def embed(self, queries, space, description):
        if any(query.value == "bad" for query in queries):
            raise ZeroDivisionError("inside")
        return super().embed(queries, space, description)


def test_an_encoder_that_fails_at_a_query_harms_no_other(place: Place, capsys) -> None:
    served = open_served([], [], [place.memory("texts")], device="cpu")
    served.embedder = _Fails(device="cpu")
    queries = [PreparedQuery("text", Query("text", one), text=one) for one in ("a", "bad", "b")]
    jobs = [SearchJob([query], ("texts",), True, 3, 0, {}, False, False) for query in queries]
    first, second, third = Answers(served, SavedQueries(0), Metrics()).work(jobs)
    assert isinstance(second, Refusal)
    assert str(second) == "the text cannot be embedded (ZeroDivisionError): give another"
    assert isinstance(first, JobResult)
    assert isinstance(third, JobResult)
    assert len(first.found[0].places) == 3
    assert "ZeroDivisionError: inside" in capsys.readouterr().err


def test_a_memory_of_unknown_origin_is_asked_with_an_encoder_of_the_users(
    place: Place, tmp_path: Path
) -> None:
    known = Memory(place.memory("texts"))
    path = tmp_path / "unknown.h5"
    save_memory(path, known.embeddings, list(known.ids), space="theirs", modality="text")
    without = open_served([], [], [path], device="cpu")
    assert without.queries == []
    served = open_served([], [], [path], device="cpu", overrides={"theirs": "mini-clip"})
    served.warm()
    assert served.queries == ["text", "image"]


def test_a_kept_query_is_of_one_bridge(place: Place, tmp_path: Path) -> None:
    """Another bridge of the same name, as it is after training anew, does not take its vectors."""
    asked = EmbeddingQuery(embedding=[1.0] * 32, space="joined")

    def ask(folder: Path, query: EmbeddingQuery | SavedQuery):
        served = open_served([folder], [], [place.memory("sounds")], device="cpu")
        service = Service(served, Limits(), keep_queries=9, state=tmp_path / "state")
        try:
            return asyncio.run(service.search(SearchRequest(queries=[query]))).results[0]
        finally:
            service.close()

    first = ask(place.bridge, asked)
    again = SavedQuery(saved=first.query.saved or "")
    assert ask(place.bridge, again).hits == first.hits
    old = load(place.bridge, device="cpu")
    generator = torch.Generator().manual_seed(1)
    projectors = {
        name: make_projector(space.dimension, SETTINGS, generator)
        for name, space in old.spaces.items()
    }
    Bridge("joined", list(old.spaces.values()), projectors, SETTINGS).save(tmp_path / "joined")
    with pytest.raises(Refusal, match="no longer kept"):
        ask(tmp_path / "joined", again)
