from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest

from tests.bridge.serving.place import Place, Running, make_place, serving

pytest.importorskip("fastapi")


@pytest.fixture(scope="package")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Files, memories, an index and a bridge."""
    return make_place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="package")
def server(place: Place) -> Iterator[Running]:
    """A server of all of it, ready, that takes 1 MB of uploads and ten seconds of sound."""
    limits = ("--max-upload", "1", "--max-seconds", "10", "--max-pixels", "1")
    with serving(*place.arguments, *limits, temporary=place.temporary) as running:
        deadline = time.monotonic() + 60
        while httpx.get(f"{running.address}/readyz").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield running


@pytest.fixture
def http(server: Running) -> Iterator[httpx.Client]:
    """Connections to the server, which is alive afterwards."""
    with httpx.Client(base_url=server.address, timeout=60) as client:
        yield client
        assert client.get("/healthz").json() == {"status": "ok"}
    assert server.process.poll() is None
