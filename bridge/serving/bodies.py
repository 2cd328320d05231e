"""Bodies of requests: JSON is parsed on the event loop, where everybody else waits for it.

Files in base64 are long strings, which take no time to parse. All the rest of a body is bounded
before anything is parsed.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from bridge.serving.limits import JSON_BYTES
from bridge.serving.refusal import TOO_LARGE

_LONG = 4096  # bytes of a string that may be a file
_STRINGS = 1 << 16  # of a body that are looked at


class BoundedRoute(APIRoute):
    """A route whose requests are not parsed if they hold too much beside files."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `fastapi.routing.APIRoute`."""
        handle = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            return await handle(_Bounded(request.scope, request.receive))

        return bounded


class _Bounded(Request):
    async def json(self) -> Any:
        """The parsed body. Raises HTTPException for one that would take too long."""
        beside = beside_files(await self.body())
        if beside > JSON_BYTES:
            raise HTTPException(
                TOO_LARGE,
                f"the request has {beside} bytes beside its files, at most {JSON_BYTES} are taken",
            )
        return await super().json()


def beside_files(body: bytes) -> int:
    """Bytes of a body that take time to parse: all but long strings that may be base64.

    >>> beside_files(b'{"content": "' + b"A" * 10_000 + b'"}')
    11
    """
    if body.count(b'"') > 2 * _STRINGS:
        return len(body)
    return sum(len(part) for part in body.split(b'"') if not _may_be_a_file(part))


def _may_be_a_file(part: bytes) -> bool:
    """Whether what stands between two quotes is one long value, with no escapes but of `/`."""
    if len(part) < _LONG or b"," in part:
        return False
    if b"\\" not in part:
        return True
    return part.count(b"\\") <= len(part) // 32 and b"\\" not in part.replace(b"\\/", b"")
