"""Asking a server what it must refuse, and checking how it does."""

from __future__ import annotations

import base64
import socket
from urllib.parse import urlsplit

import httpx

from tests.bridge.serving.place import Running

REFUSED = {400, 404, 405, 408, 413, 415, 422}
SLACK = 120 << 20  # bytes of RAM that allocators keep


def post(http: httpx.Client, *queries: object, **more: object) -> httpx.Response:
    return http.post("/v1/search", json={"queries": list(queries), **more})


def file(content: bytes, name: str) -> dict[str, str]:
    return {"content": base64.b64encode(content).decode(), "filename": name}


def refused(response: httpx.Response, *statuses: int) -> str:
    assert response.status_code in (statuses or REFUSED), response.text
    detail = response.json()["detail"]
    assert isinstance(detail, str)
    assert "\n" not in detail
    assert "/tmp" not in detail
    assert "Traceback" not in detail
    return detail


def raw(server: Running, request: str) -> tuple[int, str]:
    """The status and body of a request that is sent as it is."""
    address = urlsplit(server.address)
    with socket.create_connection((address.hostname, address.port or 0), timeout=20) as sock:
        sock.sendall(request.encode("latin-1"))
        answer = b""
        while piece := sock.recv(1 << 16):
            answer += piece
    head, _, body = answer.decode("latin-1").partition("\r\n\r\n")
    return int(head.split()[1]), body
