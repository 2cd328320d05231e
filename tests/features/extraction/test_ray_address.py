"""Addresses where something listens that is not Ray: Ray would ask it for minutes, unstoppably."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from features.errors import UserError
from features.extraction.on_ray import cluster
from features.extras import installed
from features.tasks import open_tasks

pytestmark = pytest.mark.skipif(not installed("ray"), reason="needs the extra [ray]")


@pytest.fixture(params=[None, b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """Of what says nothing, hangs up, is a web server, or hangs up in the middle."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with suppress(OSError):  # closed
                while True:
                    connection, _ = server.accept()
                    held.append(connection)
                    if request.param is not None:
                        connection.sendall(request.param)
                        connection.shutdown(socket.SHUT_WR)

        held: list[socket.socket] = []
        threading.Thread(target=answer, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        for connection in held:
            connection.close()


def test_what_is_not_ray_is_told_at_once(
    address: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.2)
    started = time.monotonic()
    for place in (address, f"ray://{address}"):
        why = "timed out" if "None" in request.node.name else "what answers there is not Ray"
        with (
            pytest.raises(UserError, match=rf"no Ray cluster answers at {place} \({why}\): start"),
            open_tasks("ray", processes=None, address=place),
        ):
            pass
    assert time.monotonic() - started < 10
