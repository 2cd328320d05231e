"""Hostile requests: refused with 4xx and a sentence, and the process lives."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress

import httpx
import pytest
from PIL import Image

from bridge.serving.shown import item_file
from bridge.serving.state import open_served
from features.memories.strings import StringColumn, write_strings
from tests.bridge.serving.hostile import REFUSED, SLACK, raw, refused
from tests.bridge.serving.place import Place, Running
from tests.features.helpers import changing


@pytest.mark.parametrize("way", [
    "/v1/media/pictures/0/../../../../etc/passwd", "/v1/media/..%2f..%2fetc/0/file",
    "/v1/media/pictures/..%2f..%2f..%2fetc%2fpasswd/file", "/v1/media/pictures/-1/file",
    "/v1/media/pictures/1e9/file", "/v1/media/pictures/99999999999999999999999/file",
    "/v1/media/nowhere/0/file", "/v1/media/pictures/0/secret", "/v1/media/texts/0/file",
    "/v1/items/..%2f..%2fetc%2fpasswd?collection=pictures", "/v1/items/a", "/page/../app.py",
    "/page/%2e%2e/app.py", "/page/..%2fapp.py", "/page//etc/passwd", "/page/%00", "//etc/passwd",
    "/v1/items/%ff%fe?collection=%ff", "/v1/items/a?collection=" + "x" * 9000,
])  # fmt: skip
def test_no_path_leads_to_a_file(server: Running, http: httpx.Client, way: str) -> None:
    """Sent as it is: a client library would tidy it first."""
    status, body = raw(
        server, f"GET {way} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    assert status in REFUSED, body
    assert "root:" not in body
    assert "import" not in body
    assert http.get("/healthz").status_code == 200


def test_a_memory_names_no_file_outside_its_folder(place: Place, tmp_path) -> None:
    """Someone's memory may name what it likes: only files in its folder, of its kind, are sent."""
    secret = tmp_path / "secret.png"
    Image.new("L", (4, 4)).save(secret)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "key.txt").write_text("secret")
    (folder / "link.png").symlink_to(secret)
    path = tmp_path / "theirs.h5"
    shutil.copy(place.memory("pictures-own"), path)
    with changing(path) as file:
        count = len(file["embeddings"])
        names = ["../secret.png", str(secret), "key.txt", "link.png", "missing.png", "."]
        del file["items"]
        write_strings(file, "items", StringColumn.of((names * count)[:count]))
        file.attrs["root"] = str(folder)
    (theirs,) = open_served([], [], [path], device="cpu").collections.values()
    assert [item_file(theirs, row) for row in range(len(names))] == [None] * len(names)
    inside = folder / "inside.png"
    shutil.copy(secret, inside)
    theirs.table.items = ["inside.png"]
    assert item_file(theirs, 0) == inside


WRONG: list[object] = [
    None, [], "text", 3, {}, {"queries": []}, {"queries": None}, {"queries": {}},
    {"queries": [None]}, {"queries": [[]]}, {"queries": ["text"]}, {"queries": [{"text": None}]},
    {"queries": [{"text": ""}]}, {"queries": [{"text": " "}]}, {"queries": [{"text": 3}]},
    {"queries": [{"text": "a" * 5000}]}, {"queries": [{"text": "a", "more": 1}]},
    {"queries": [{"content": "!!", "filename": "a.png"}]}, {"queries": [{"content": "aaaa"}]},
    {"queries": [{"item": {"collection": "nowhere", "id": "a"}}]},
    {"queries": [{"item": {"collection": "pictures", "id": "a"}}]},
    {"queries": [{"saved": "x"}]}, {"queries": [{"saved": "0" * 32}]},
    {"queries": [{"embedding": [], "space": "joined"}]},
    {"queries": [{"embedding": [0] * 32, "space": "joined"}]},
    {"queries": [{"embedding": [1e308] * 32, "space": "joined"}]},
    {"queries": [{"embedding": [1], "space": "joined"}]},
    {"queries": [{"embedding": [1] * 32, "space": "nowhere"}]},
    {"queries": [{"embedding": ["a"] * 32, "space": "joined"}]},
    {"queries": [{"text": "a"}] * 33},
    {"queries": [{"text": "a"}], "k": 0}, {"queries": [{"text": "a"}], "k": -1},
    {"queries": [{"text": "a"}], "k": 101}, {"queries": [{"text": "a"}], "k": 2**70},
    {"queries": [{"text": "a"}], "k": 1.5}, {"queries": [{"text": "a"}], "k": "3"},
    {"queries": [{"text": "a"}], "offset": -1}, {"queries": [{"text": "a"}], "offset": 10**9},
    {"queries": [{"text": "a"}], "collections": []},
    {"queries": [{"text": "a"}], "collections": ["nowhere"]},
    {"queries": [{"text": "a"}], "collections": "pictures"},
    {"queries": [{"text": "a"}], "where": {"nothing": ["a"]}},
    {"queries": [{"text": "a"}], "where": {"parity": "odd"}},
    {"queries": [{"text": "a"}], "where": {"parity": []}},
    {"queries": [{"text": "a"}], "where": {"parity": {"min": 1}}},
    {"queries": [{"text": "a"}], "where": {"digits": {}}},
    {"queries": [{"text": "a"}], "where": {"digits": ["a"]}},
    {"queries": [{"text": "a"}], "where": {"digits": {"min": "a"}}},
    {"queries": [{"text": "a"}], "where": []}, {"queries": [{"text": "a"}], "neighbours": "yes"},
    {"queries": [{"text": "a"}], "unknown": 1},
]  # fmt: skip


@pytest.mark.parametrize("body", WRONG, ids=lambda body: json.dumps(body)[:50])
def test_a_wrong_type_is_refused_in_a_sentence(http: httpx.Client, body: object) -> None:
    refused(http.post("/v1/search", json=body), 404, 413, 422)
    refused(http.post("/v1/embed", json=body), 404, 413, 422)


RAW = {
    "not JSON": b"{",
    "deep": b'{"queries":' + b"[" * 200_000,
    "not a number": b'{"queries":[{"embedding":[NaN,Infinity],"space":"joined"}],"k":NaN}',
    "half a character": b'{"queries":[{"text":"\\ud800"}]}',
    "a number of many digits": b'{"queries":[{"text":"a"}],"k":' + b"9" * 10_000 + b"}",
    "no UTF-8": b'{"queries":[{"text":"\xff\xfe"}]}',
    "another key twice": b'{"queries":[{"text":"a"}],"k":1,"k":"x"}',
    "empty": b"",
}


@pytest.mark.parametrize("name", RAW)
def test_a_body_that_is_no_proper_json_is_refused(http: httpx.Client, name: str) -> None:
    headers = {"content-type": "application/json"}
    refused(http.post("/v1/search", content=RAW[name], headers=headers), 400, 422)


def test_another_content_type_is_refused(http: httpx.Client) -> None:
    """A form of another site may send this without asking first."""
    body = b'{"queries":[{"text":"a"}]}'
    refused(http.post("/v1/search", content=body, headers={"content-type": "text/plain"}), 422)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "GET", "TRACE"])
def test_other_methods_are_refused(http: httpx.Client, method: str) -> None:
    refused(http.request(method, "/v1/search"), 405)


def test_a_body_is_not_read_beyond_its_limit(server: Running, http: httpx.Client) -> None:
    """Whatever length it gives, or none."""
    before = server.resident()
    huge = {"content-length": str(10**12), "content-type": "application/json"}
    head = "".join(f"{key}: {value}\r\n" for key, value in huge.items())
    status, _ = raw(server, f"POST /v1/search HTTP/1.1\r\nHost: localhost\r\n{head}\r\n")
    assert status == 413

    def endless():
        for _ in range(300):
            yield b" " * (1 << 20)

    with suppress(httpx.HTTPError):  # the connection may end before the answer is read
        typed = {"content-type": "application/json"}
        refused(http.post("/v1/search", content=endless(), headers=typed), 413)
    assert server.resident() - before < SLACK


def test_the_server_answers_to_its_own_name_only(http: httpx.Client) -> None:
    """A page of another site, whose name leads to this machine, gets nothing."""
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", ""):
        refused(http.get("/v1/info", headers={"host": host}), 400)
    for host in ("localhost", "127.0.0.1:8000", "[::1]:8000"):
        assert http.get("/v1/info", headers={"host": host}).status_code == 200


def test_every_answer_keeps_a_browser_safe(http: httpx.Client) -> None:
    for path in ("/", "/v1/info", "/nothing", "/v1/media/pictures/0/file"):
        headers = http.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
