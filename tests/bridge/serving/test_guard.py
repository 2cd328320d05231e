"""The layer around the app: what all requests hold together, and the names it answers to."""

from __future__ import annotations

import asyncio
import json

import httpx
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from bridge.serving.app import create_app
from bridge.serving.guard import Guard
from bridge.serving.limits import Limits
from bridge.serving.metrics import Metrics
from bridge.serving.state import open_served
from tests.bridge.serving.place import Place

LIMITS = Limits(upload_bytes=1000)


class _Reader:
    """An app that reads the body, and answers when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await self.go_on.wait()
        await PlainTextResponse("read")(scope, receive, send)


def _client(app: Guard) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


def test_bodies_under_way_are_bounded_together() -> None:
    async def ask() -> None:
        reader = _Reader()
        guard = Guard(reader, limits=LIMITS, metrics=Metrics(), hosts=None)
        body = b"x" * LIMITS.body_bytes
        async with _client(guard) as http:
            waiting = [asyncio.create_task(http.post("/", content=body)) for _ in range(8)]
            while guard.held.bytes < 8 * len(body):
                await asyncio.sleep(0.01)
            refused = await http.post("/", content=b"one more")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.headers["connection"] == "close"  # its body is unread
            assert f"have {8 * len(body)} bytes already" in refused.json()["detail"]
            reader.go_on.set()
            assert [one.status_code for one in await asyncio.gather(*waiting)] == [200] * 8
            assert guard.held.bytes == 0
            assert (await http.post("/", content=body)).status_code == 200
            assert (await http.post("/", content=body + b"x")).status_code == 413
        assert guard.held.bytes == 0

    asyncio.run(asyncio.wait_for(ask(), 20))


def test_a_full_server_says_so_through_the_app(place: Place) -> None:
    """FastAPI reads the body, and would make another error a 400."""

    async def ask() -> httpx.Response:
        served = open_served([], [], [place.memory("texts")], device="cpu")
        guard = create_app(served, limits=LIMITS)
        guard.held.bytes = guard.held.most
        async with _client(guard) as http:
            return await http.post("/v1/search", json={"queries": [{"text": "one"}]})

    response = asyncio.run(ask())
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert "try again" in json.loads(response.text)["detail"]


def test_names_of_the_server_are_the_same_in_capitals() -> None:
    async def ask() -> list[int]:
        reader = _Reader()
        reader.go_on.set()
        guard = Guard(reader, limits=LIMITS, metrics=Metrics(), hosts={"Mine.example", "localhost"})
        async with _client(guard) as http:
            hosts = ("LOCALHOST:80", "mine.example", "MINE.EXAMPLE", "yours.example")
            return [(await http.get("/", headers={"host": one})).status_code for one in hosts]

    assert asyncio.run(ask()) == [200, 200, 200, 400]
