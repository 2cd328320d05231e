"""The way to model hubs: at once without one, and what is said of every way that it can fail."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from features.encoders import hub
from features.encoders.hub import comes_from_hub, hub_access
from features.errors import ItemError, UserError

constants = pytest.importorskip("huggingface_hub.constants")
hub_errors = pytest.importorskip("huggingface_hub.errors")

HttpError: Any = hub_errors.HfHubHTTPError.__bases__[0]  # of requests, httpx or what comes next


@pytest.fixture(autouse=True)
def _a_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@contextmanager
def server(status: int) -> Iterator[tuple[str, list[str]]]:
    """A hub on this machine: its address, and what it was asked."""
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}", asked
    finally:
        running.shutdown()
        running.server_close()


def look_up(offline: list[bool], error: Exception | None = None) -> None:
    with hub_access("the model", "give a file"):
        offline.append(constants.HF_HUB_OFFLINE)
        if error is not None:
            raise error


@pytest.mark.parametrize("status", [200, 404, 503])
def test_a_hub_that_answers_anything_is_there(monkeypatch: pytest.MonkeyPatch, status: int):
    offline: list[bool] = []
    with server(status) as (endpoint, asked):
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        look_up(offline)
    assert (offline, asked) == ([False], ["/"])
    assert constants.HF_HUB_OFFLINE is False


def test_offline_means_that_nothing_is_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    offline: list[bool] = []
    with server(200) as (endpoint, asked):
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        look_up(offline)
        with pytest.raises(UserError) as error:
            look_up(offline, hub_errors.LocalEntryNotFoundError("not here"))
    assert (offline, asked) == ([True, True], [])
    assert constants.HF_HUB_OFFLINE is True
    assert str(error.value) == (
        f"the model is not in the local cache {constants.HF_HUB_CACHE} and cannot be downloaded "
        "(HF_HUB_OFFLINE is set): give a file"
    )


def test_a_hub_that_refuses_means_the_local_cache(monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    offline: list[bool] = []
    start = time.perf_counter()
    look_up(offline)  # what is in the cache is found
    with pytest.raises(UserError, match=rf"cannot be downloaded \({endpoint} is unreachable\): gi"):
        look_up(offline, hub_errors.LocalEntryNotFoundError("not here"))
    assert time.perf_counter() - start < 2
    assert offline == [True, True]
    assert constants.HF_HUB_OFFLINE is False


@contextmanager
def black_hole(*, accepts: bool) -> Iterator[int]:
    """The port of a server that never answers; unless it accepts, its queue is full."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8 if accepts else 0)
        waiting = [socket.socket() for _ in range(0 if accepts else 4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
        for one in waiting:
            one.close()


@pytest.mark.parametrize("accepts", [True, False])
def test_a_hub_that_never_answers_costs_seconds_whatever_its_addresses(
    monkeypatch: pytest.MonkeyPatch, accepts: bool
):
    assert hub.REACH_SECONDS <= 5
    monkeypatch.setattr(hub, "REACH_SECONDS", 0.4)
    find = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *a, **k: find("127.0.0.1" if host == "hub.invalid" else host, *a, **k) * 8,
    )
    offline: list[bool] = []
    with black_hole(accepts=accepts) as port:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://hub.invalid:{port}")
        start = time.perf_counter()
        look_up(offline)
        assert time.perf_counter() - start < 1.5
    assert offline == [True]


def test_a_name_server_that_never_answers_costs_no_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub, "REACH_SECONDS", 0.4)
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.invalid")
    over = threading.Event()

    def wait(*_: object, **__: object) -> None:
        over.wait(20)
        raise OSError("no name server")

    monkeypatch.setattr(socket, "getaddrinfo", wait)
    offline: list[bool] = []
    start = time.perf_counter()
    look_up(offline)
    took = time.perf_counter() - start
    over.set()
    assert took < 1.5
    assert offline == [True]


def chained(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError("\n\n  \n404: no such repository\nmore"), "404: no such repository"),
        (HttpError("the connection was cut"), "the connection was cut"),
        (chained(RuntimeError("cannot load"), HttpError("cut")), "cannot load"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_what_a_hub_that_is_there_refuses_is_told(
    monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
):
    offline: list[bool] = []
    with server(200) as (endpoint, _):
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        with pytest.raises(UserError) as caught:
            look_up(offline, error)
    assert str(caught.value) == (
        f"the model cannot be had from {endpoint} ({told}): check the name, or give a file"
    )
    assert caught.value.__cause__ is error
    assert (offline, constants.HF_HUB_OFFLINE) == ([False], False)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA out of memory"),
        chained(RuntimeError("size mismatch"), KeyError("weight")),
        ValueError("of the caller's"),
        UserError("one sentence; mend it"),
        ItemError("an item"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_errors_pass_and_leave_the_flag_as_it_was(
    monkeypatch: pytest.MonkeyPatch, error: Exception
):
    for before in (True, False):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", before)
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
        with pytest.raises(type(error)) as caught:
            look_up([], error)
        assert caught.value is error
        assert constants.HF_HUB_OFFLINE is before


def test_errors_of_the_hub_are_known_through_others():
    missing = hub_errors.LocalEntryNotFoundError("not here")
    assert comes_from_hub(missing)
    assert comes_from_hub(hub_errors.OfflineModeIsEnabled("offline"))
    assert comes_from_hub(chained(ValueError("a"), chained(KeyError("b"), missing)))
    handling = RuntimeError("while handling another")
    handling.__context__ = missing
    assert comes_from_hub(handling)
    assert not comes_from_hub(chained(RuntimeError("a"), OSError("b")))
