"""What is parsed on the event loop is bounded: files may be large, all else may not."""

from __future__ import annotations

import asyncio
import base64
import json
import time

import httpx
import pytest
from fastapi import FastAPI

from bridge.serving.bodies import BoundedRoute, beside_files
from bridge.serving.limits import JSON_BYTES
from tests.bridge.serving.hostile import post, refused

FILE = base64.b64encode(bytes(range(256)) * 60_000).decode()  # 20 MB
QUERY = {"content": FILE, "filename": "a.png"}


@pytest.mark.parametrize("escaped", [False, True])
def test_a_file_counts_as_nothing(escaped: bool) -> None:
    """Some languages write `/` as `\\/`."""
    body = json.dumps({"queries": [QUERY, {"text": "a"}]})
    told = (body.replace("/", "\\/") if escaped else body).encode()
    assert beside_files(told) == sum(map(len, told.replace(told.split(b'"')[5], b"").split(b'"')))


@pytest.mark.parametrize("body", [
    {"queries": [{"embedding": [0] * 3_000_000, "space": "a"}]},
    {"queries": [{"text": "a"}] * 200_000},
    {"queries": [QUERY], "where": {"a": list(range(300_000))}},
    {"queries": [{"text": "\"\\" * 2_000_000}]},
    {"queries": [{"text": 'a"' + ",1" * 1_000_000 + '"'}]},
    {"queries": [{"text": "\u00e4" * 2_000_000}]},
])  # fmt: skip
def test_everything_else_counts(body: object) -> None:
    assert beside_files(json.dumps(body).encode()) > JSON_BYTES


def test_it_is_refused_before_it_is_parsed() -> None:
    app = FastAPI()
    app.router.route_class = BoundedRoute

    @app.post("/")
    async def told(asked: dict[str, list[int]]) -> int:
        return len(asked["a"])

    async def ask(numbers: int) -> tuple[httpx.Response, float]:
        body = b'{"a":[' + b"0," * numbers + b"0]}"
        typed = {"content-type": "application/json"}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            began = time.process_time()
            answer = await http.post("/", content=body, headers=typed)
            return answer, time.process_time() - began

    answer, small = asyncio.run(ask(300_000))
    assert answer.json() == 300_001
    answer, large = asyncio.run(ask(10_000_000))
    assert answer.status_code == 413
    assert "bytes beside its files, at most 1048576 are taken" in answer.json()["detail"]
    assert large < 10 * small  # thirty times as many numbers


def test_the_server_takes_no_large_request_without_files(http: httpx.Client) -> None:
    asked = {"embedding": [0.25] * 65_000, "space": "joined"}
    assert "beside its files" in refused(post(http, *[asked] * 4), 413)
    assert "embedding has 65000 numbers" in refused(post(http, asked), 422)
