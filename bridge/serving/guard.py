"""The outer layer of the app: what every request and every answer goes through.

It bounds the body and the time that it takes, the requests under way and the bytes of all their
bodies, and the time that an answer may lie unread; it checks the name that the server is called
by, sets the headers that keep a browser safe, counts, and turns what goes wrong into one sentence.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import traceback
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import anyio
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.serving.limits import Limits
from bridge.serving.metrics import Metrics
from bridge.serving.refusal import BAD_REQUEST, BUSY, TIMED_OUT, TOO_LARGE, Refusal
from features.room import give_back

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; font-src 'self'; connect-src 'self'; worker-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"microphone=(self), camera=(), geolocation=()"),
)
_METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH")
_LARGE = 1 << 20  # bytes of a body
_SOON = 1.0  # seconds
_BODIES = 8  # of the largest kind, that all requests under way hold together at most
_UNLIMITED = ("/healthz", "/metrics")  # answered also when the server is full


class Guard:
    """An ASGI app around another."""

    def __init__(
        self, app: ASGIApp, *, limits: Limits, metrics: Metrics, hosts: Collection[str] | None
    ) -> None:
        """hosts: the names that the server may be called by; None for any."""
        self.app, self.limits, self.metrics = app, limits, metrics
        self.hosts = None if hosts is None else {host.lower() for host in hosts}
        self.under_way = 0
        self._trimming = False
        self.held = _Held(_BODIES * limits.body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its answer back."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer, body = _Answer(scope, send, self.limits), _Body(receive, self.limits, self.held)
        started = time.perf_counter()
        self.under_way += 1
        try:
            self._check(scope)
            await self.app(scope, body, answer)
        except (Refusal, HTTPException) as error:
            await answer.refuse(error)
        except _UnreadError:
            pass  # the connection is closed by the server, as the answer is not complete
        except Exception:
            traceback.print_exc(file=sys.stderr)
            await answer.refuse(Refusal(500, "the server failed: its log says how"))
        finally:
            self.under_way -= 1
            self.held.bytes -= body.held
            if body.held > _LARGE:
                self._trim_soon()
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self.metrics.requests.labels(method, route, answer.status).inc()
            self.metrics.seconds.labels(route).observe((answer.began or started) - started)

    def _trim_soon(self) -> None:
        """Give back what large requests took, once for all that come together."""
        if not self._trimming:
            self._trimming = True
            asyncio.get_running_loop().call_later(_SOON, self._trim)

    def _trim(self) -> None:
        self._trimming = False
        give_back()

    def _check(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if self.hosts is not None and _without_port(host).lower() not in self.hosts:
            raise Refusal(
                BAD_REQUEST,
                f"this server is not called '{host[:100]}' but {' or '.join(sorted(self.hosts))}",
            )
        if self.under_way > self.limits.queue * 2 and scope["path"] not in _UNLIMITED:
            raise Refusal(BUSY, f"{self.under_way} requests are under way: try again in a second")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > self.limits.body_bytes:
            raise too_large(self.limits)


def too_large(limits: Limits) -> Refusal:
    """A body is larger than any that would be taken."""
    return Refusal(
        TOO_LARGE, f"the request is too large: at most {limits.upload_bytes} bytes of files"
    )


def _without_port(host: str) -> str:
    return host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host


class _UnreadError(Exception):
    """The client does not read what it asked for."""


@dataclass
class _Held:
    """Bytes of the bodies of all requests under way, and how many they may be."""

    most: int
    bytes: int = 0


class _Body:
    """`receive`, with a bound on the bytes and on the time that they take.

    held: what it has taken of the bytes that all bodies share.
    """

    def __init__(self, receive: Receive, limits: Limits, shared: _Held) -> None:
        self.receive, self.limits, self.shared = receive, limits, shared
        self.held, self.deadline = 0, time.monotonic() + limits.body_seconds
        self.complete = False

    async def __call__(self) -> Message:
        if self.complete:  # what follows is only told when the client goes
            return await self.receive()
        message: Message = {}
        with anyio.move_on_after(max(0.0, self.deadline - time.monotonic())):
            message = await self.receive()
        if not message:
            seconds = self.limits.body_seconds
            raise HTTPException(TIMED_OUT, f"the request did not come within {seconds:g} s")
        size = len(message.get("body", b""))
        if self.held + size > self.limits.body_bytes:
            raise HTTPException(TOO_LARGE, str(too_large(self.limits)))
        if self.shared.bytes + size > self.shared.most:
            raise HTTPException(
                BUSY,
                f"the requests under way have {self.shared.bytes} bytes already: try again in a "
                "second",
            )
        self.held += size
        self.shared.bytes += size
        self.complete = not message.get("more_body", False)
        return message


class _Answer:
    """`send`, with headers, and a bound on the time that the client leaves an answer unread."""

    def __init__(self, scope: Scope, send: Send, limits: Limits) -> None:
        self.scope, self.send, self.limits = scope, send, limits
        self.status = 0
        self.began: float | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.began = message["status"], time.perf_counter()
            known = {name.lower() for name, _ in message["headers"]}
            added = [one for one in HEADERS if one[0] not in known]
            if b"cache-control" not in known:
                added.append((b"cache-control", b"no-store"))
            message = {**message, "headers": [*message["headers"], *added]}
            await self.send(message)
            return
        with anyio.move_on_after(self.limits.write_seconds) as scope:
            await self.send(message)
        if scope.cancelled_caught:
            raise _UnreadError

    async def refuse(self, error: Refusal | HTTPException) -> None:
        """Answer with a sentence, unless an answer has begun."""
        if self.status:
            return
        status = error.status if isinstance(error, Refusal) else error.status_code
        detail = str(error) if isinstance(error, Refusal) else str(error.detail)
        await self(start_message(status))
        content = json.dumps({"detail": detail}).encode()
        await self({"type": "http.response.body", "body": content})


def start_message(status: int) -> Message:
    """The start of an answer that refuses; a body that may be unread ends the connection."""
    headers: list[tuple[bytes, Any]] = [(b"content-type", b"application/json")]
    if status == BUSY:
        headers.append((b"retry-after", b"1"))
    if status in (TIMED_OUT, TOO_LARGE, BUSY):
        headers.append((b"connection", b"close"))
    return {"type": "http.response.start", "status": status, "headers": headers}
