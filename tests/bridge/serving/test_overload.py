"""Clients that are slow, many, or gone: the others are answered, and everyone is told."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import pytest

from bridge.serving.batching import Batcher
from bridge.serving.limits import Limits
from bridge.serving.refusal import Refusal
from bridge.serving.requests import SearchRequest, TextQuery
from bridge.serving.service import Service
from bridge.serving.state import open_served
from tests.bridge.serving.place import NUMBERS, Place, Running, started

LIMITS = {"head_seconds": 0.5, "body_seconds": 0.5, "connections": 6, "write_seconds": 0.5}


@pytest.fixture(scope="module", params=["h11", "httptools"])
def strict(place: Place, request: pytest.FixtureRequest) -> Iterator[Running]:
    """A server that waits half a second for a client, and has six connections."""
    if request.param == "httptools":
        pytest.importorskip("httptools")
    module = ("-m", "tests.bridge.serving.limited")
    with started(*module, json.dumps(LIMITS), place.memory("texts"), request.param) as running:
        yield running


def _connect(running: Running) -> socket.socket:
    address = urlsplit(running.address)
    return socket.create_connection((address.hostname, address.port or 0), timeout=20)


def _answers(running: Running) -> bool:
    return httpx.get(f"{running.address}/healthz", timeout=20).status_code == 200


def test_a_head_that_drips_ends_the_connection(strict: Running) -> None:
    began = time.monotonic()
    with _connect(strict) as sock:
        sock.sendall(b"GET /v1/info HTTP/1.1\r\nHost: localhost\r\n")
        with suppress(ConnectionError):
            while True:
                sock.sendall(b"X: y\r\n")
                time.sleep(0.05)
                assert time.monotonic() - began < 20
    assert _answers(strict)


def test_a_connection_that_says_nothing_is_ended(strict: Running) -> None:
    with _connect(strict) as sock:
        assert sock.recv(1) == b""


def test_a_second_request_that_drips_is_ended_too(strict: Running) -> None:
    with _connect(strict) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while b'"ok"' not in answer:
            answer += sock.recv(1 << 16)
        sock.sendall(b"GET /hea")
        assert sock.recv(1) == b""


def test_a_body_that_drips_is_answered_with_408(strict: Running) -> None:
    with _connect(strict) as sock:
        sock.sendall(
            b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000\r\n\r\n{"
        )
        answer = b""
        while piece := sock.recv(1 << 16):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"did not come within 0.5 s" in answer


def test_endless_first_lines_end_the_connection(strict: Running) -> None:
    with _connect(strict) as sock, pytest.raises(OSError):  # noqa: PT012
        sock.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(1000):
            sock.sendall(b"X: " + b"y" * 10_000 + b"\r\n")
    assert _answers(strict)


def test_a_client_that_leaves_in_the_middle_harms_nobody(strict: Running) -> None:
    body = json.dumps({"queries": [{"text": "one"}]}).encode()
    for cut in range(0, len(body), 7):
        with _connect(strict) as sock:
            sock.sendall(
                b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + body[:cut]
            )
    assert _answers(strict)
    assert strict.process.poll() is None


def test_there_are_no_more_connections_than_the_limit(strict: Running) -> None:
    held = [_connect(strict) for _ in range(5)]
    one_too_many = [_connect(strict) for _ in range(3)]
    assert one_too_many[-1].recv(1) == b""
    for sock in held + one_too_many:
        sock.close()
    time.sleep(0.2)
    assert _answers(strict)


def test_many_clients_at_once_all_have_their_answer(http: httpx.Client) -> None:
    """Sixteen clients, who share batches: each has the hits of its own sentence."""
    sentences = [f"the number {number}" for number in NUMBERS] * 4

    def ask(sentence: str) -> tuple[str, httpx.Response]:
        asked = {"queries": [{"text": sentence}], "k": 4, "collections": ["texts", "pictures"]}
        return sentence, http.post("/v1/search", json=asked)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, sentences))
    alone = {one: ask(one)[1].json()["results"][0]["hits"] for one in set(sentences)}
    for sentence, response in answers:
        hits = response.json()["results"][0]["hits"]
        assert [hit["id"] for hit in hits] == [hit["id"] for hit in alone[sentence]]
        assert [hit["score"] for hit in hits] == pytest.approx(
            [hit["score"] for hit in alone[sentence]], abs=1e-5
        )


def test_a_bad_query_in_a_batch_harms_no_other(http: httpx.Client) -> None:
    sentences = [f"number {n}" for n in range(20)] + ["_", "__"] * 5

    def ask(sentence: str) -> int:
        asked = {"queries": [{"text": sentence}], "collections": ["texts"]}
        return http.post("/v1/search", json=asked).status_code

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, sentences)) == [200] * 20 + [422] * 10
    assert ask("_") == 422  # neither a word nor a digit nor a sign


def test_what_waits_is_bounded_and_worked_on_together() -> None:
    begun, go_on = threading.Event(), threading.Event()
    batches: list[list[int]] = []

    def work(jobs):
        begun.set()
        go_on.wait(10)
        batches.append(list(jobs))
        return [ValueError("odd") if job % 2 else job * 10 for job in jobs]

    batcher: Batcher[int, int] = Batcher(work, waiting=3, most=10, name="test")
    first = batcher.submit(0)
    assert begun.wait(10)
    waiting = [batcher.submit(job) for job in (1, 2, 4)]
    assert len(batcher) == 3
    with pytest.raises(Refusal, match="3 requests are waiting") as caught:
        batcher.submit(5)
    assert caught.value.status == 503
    assert waiting[2].cancel()  # whose client has gone
    go_on.set()
    wait([first, *waiting[:2]], timeout=10)
    assert (first.result(), waiting[1].result()) == (0, 20)
    assert isinstance(waiting[0].exception(), ValueError)
    assert batches == [[0], [1, 2]]
    batcher.close()


def test_a_search_that_takes_too_long_is_given_up(place: Place) -> None:
    served = open_served([], [], [place.memory("texts")], device="cpu")
    service = Service(served, Limits(seconds=1e-4), keep_queries=0, state=None)
    asked = SearchRequest(queries=[TextQuery(text="one")])
    with pytest.raises(Refusal, match=r"within 0\.0001 s") as caught:
        asyncio.run(service.search(asked))
    assert caught.value.status == 504
    service.close()
