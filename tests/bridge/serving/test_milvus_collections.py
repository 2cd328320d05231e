"""A collection in Milvus is served as an index of FAISS is: the same requests, the same answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")

from starlette.testclient import TestClient

from bridge.serving.app import create_app
from bridge.serving.state import open_served
from features.search.backends import build_index
from tests.features.search.milvus_places import IDS, make_memory, unit_queries

NAMES = ("faiss", "milvus")


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder: Path = tmp_path_factory.mktemp("served")
    memory = make_memory(folder / "m.h5")
    places = [folder / "faiss.faiss", f"milvus:{folder}/all.db#milvus"]
    for place in places:
        build_index(memory, place)
    with TestClient(create_app(open_served([], places, [], device="cpu"), hosts=None)) as client:
        yield client


def _asked(http: TestClient, name: str, **more: Any) -> dict[str, Any]:
    query = {"embedding": unit_queries(1)[0].tolist(), "space": "s"}
    answer = http.post("/v1/search", json={"queries": [query], "collections": [name], **more})
    assert answer.status_code == 200, answer.text
    result = answer.json()["results"][0]
    hits = [{**hit, "collection": "", "media": bool(hit["media"])} for hit in result["hits"]]
    return {
        "total": result["total"],
        "hits": [{**hit, "score": round(hit["score"], 5)} for hit in hits],
    }


@pytest.mark.parametrize(
    "where",
    [
        {},
        {"year": {"min": 2004, "max": 2010}},
        {"label": ["class 1", "class 3"], "sold": ["true"]},
        {"share": [-2.875, 1], "code": ["08"]},
        {"code": ['" or "" == "']},
    ],
)
def test_answers_are_the_same(http: TestClient, where: dict[str, Any]) -> None:
    for more in ({}, {"offset": 3, "k": 5}):
        one, other = (_asked(http, name, where=where, **more) for name in NAMES)
        assert one == other


def test_both_together_are_as_one(http: TestClient) -> None:
    query = {"item": {"collection": "milvus", "id": IDS[50]}}
    asked = {"queries": [query], "k": 4}
    named = http.post("/v1/search", json={**asked, "collections": list(NAMES)}).json()["results"][0]
    assert [hit["id"] for hit in named["hits"][:2]] == [IDS[50]] * 2
    assert {hit["collection"] for hit in named["hits"][:2]} == {*NAMES}
    once = http.post("/v1/search", json=asked).json()["results"][0]["hits"]  # of the same items
    assert len({hit["id"] for hit in once}) == len(once) == 4


def test_what_is_told_is_the_same(http: TestClient) -> None:
    one, other = http.get("/v1/info").json()["collections"]
    assert (one.pop("same_as"), other.pop("same_as")) == (None, one["name"])
    assert [told.pop("memory") for told in (one, other)] == [one["name"], other["name"]]
    assert {**one, "name": ""} == {**other, "name": ""}
    items = [http.get(f"/v1/items/{IDS[5]}", params={"collection": name}) for name in NAMES]
    assert [answer.status_code for answer in items] == [200, 200]
    for key in ("id", "label", "columns", "text", "modality"):
        assert items[0].json()[key] == items[1].json()[key]
    assert http.get("/v1/items/none", params={"collection": "milvus"}).status_code == 404


def test_a_filter_of_the_wrong_kind_is_refused_alike(http: TestClient) -> None:
    query = {"embedding": unit_queries(1)[0].tolist(), "space": "s"}
    for where in ({"code": {"min": 1}}, {"year": ["new"]}, {"nothing": ["x"]}):
        one, other = (
            http.post(
                "/v1/search", json={"queries": [query], "collections": [name], "where": where}
            )
            for name in NAMES
        )
        assert (one.status_code, one.json()) == (other.status_code, other.json())
        assert one.status_code == 422


def test_a_server_of_milvus_that_goes_away_is_told_and_all_else_goes_on(tmp_path: Path) -> None:
    from milvus_lite.adapter.grpc.server import start_server_in_thread

    server, database, port = start_server_in_thread(str(tmp_path / "served"))
    memory = make_memory(tmp_path / "m.h5")
    places = [f"milvus+http://127.0.0.1:{port}#far", tmp_path / "near.faiss"]
    for place in places:
        build_index(memory, place)
    served = open_served([], places, [], device="cpu")
    with TestClient(create_app(served, hosts=None)) as client:
        before = _asked(client, "far")
        server.stop(0)
        database.close()
        query = {"embedding": unit_queries(1)[0].tolist(), "space": "s"}
        item = {"item": {"collection": "far", "id": IDS[3]}}
        answers = [
            client.post("/v1/search", json={"queries": [one], "collections": [name], **more})
            for one, name, more in (
                (query, "far", {}),
                (query, "far", {"where": {"label": ["class 1"]}}),
                (item, "near", {}),
            )
        ]
        answers.append(client.get(f"/v1/items/{IDS[9]}", params={"collection": "far"}))
        for answer in answers:
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert answer.json() == {
                "detail": "the server of an index does not answer: try again in a second"
            }
        for path in ("/", "/v1/info", "/readyz"):
            assert client.get(path).status_code == 200
        assert _asked(client, "near") == before
