"""The process that serves: its socket, and connections that take too long."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from bridge.serving.guard import Guard
from bridge.serving.limits import Limits
from features.errors import UserError

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_HEAD_BYTES = 1 << 16  # of a request's first lines
_KEEP_ALIVE, _GRACE = 30, 5  # seconds


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises UserError if the address is taken, or not of this machine."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(128)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"{host}:{port} cannot be served on ({reason}): choose another --port or --host"
        ) from error
    return made


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host."""
    return host in ("localhost", "::1") or host.startswith("127.")


def hosts_of(host: str, further: Collection[str] = ()) -> set[str] | None:
    """The names by which a server on `host` may be called; any where others reach it.

    further: names of the user's, such as that of a proxy before it. A page of another site could
    have its own name lead to this machine, and then read answers.
    """
    return {*LOOPBACK, host, *further} if is_loopback(host) or further else None


def run(app: Guard, listening: socket.socket, limits: Limits) -> None:
    """Serve until Ctrl-C."""
    _Connection.limits = limits
    config = uvicorn.Config(
        app, http=_Connection, ws="none", log_level="warning", access_log=False,
        server_header=False, timeout_keep_alive=_KEEP_ALIVE, timeout_graceful_shutdown=_GRACE,
        lifespan="on",
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listening])


class _Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's connection, with a bound on the time and bytes of a request's first lines."""

    limits = Limits()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._head_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        if len(self.connections) > self.limits.connections:
            transport.abort()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._answering():
            super().data_received(data)
            return
        if self._deadline is None:
            self._await_head()
        self._head_bytes += len(data)
        super().data_received(data)
        if self._answering():
            self._head_is_there()
        elif self._head_bytes > _HEAD_BYTES:
            self.transport.abort()

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_head(self) -> None:
        self._deadline = self.loop.call_later(self.limits.head_seconds, self._give_up)

    def _head_is_there(self) -> None:
        self._head_bytes = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if not self._answering():
            self.transport.abort()
