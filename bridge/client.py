"""A client of `mcr serve`: asks with sentences, files, items or embeddings, and gets typed answers.

client = Client("http://127.0.0.1:8000")
answer = client.search("a dog barks", k=5, where={"year": {"min": 2020}})
more = client.search(answer.hits[0])
client.search(Path("bark.wav"), collections=["pictures"])
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import numpy as np
from jaxtyping import Float

from features.errors import UserError
from features.extras import require_package

require_package("httpx", "the client")
require_package("pydantic", "the client")

import httpx  # noqa: E402  # after it is known to be there
from pydantic import TypeAdapter, ValidationError  # noqa: E402

from bridge.serving import models, requests  # noqa: E402

if TYPE_CHECKING:
    from numpy.typing import NDArray

Asked = str | Path | models.Hit | models.Item | requests.AnyQuery
Answered = TypeVar("Answered")
_BUSY = 503
_LONGEST_WAIT = 10.0  # seconds


class ServerError(UserError):
    """A server refused; the message is its sentence, `status` the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """Asks one server; for several threads, and as a context manager."""

    def __init__(
        self, address: str = "http://127.0.0.1:8000", *, timeout: float = 60.0, retries: int = 3
    ) -> None:
        """timeout: seconds until an answer is given up. retries: of a server that is busy."""
        self.address, self.retries = address.rstrip("/"), retries
        self._http = httpx.Client(base_url=self.address, timeout=timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def info(self) -> models.Info:
        """What is served, and the limits."""
        return _read(models.Info, self._ask("GET", "/v1/info"))

    def search(
        self,
        query: Asked,
        *,
        collections: Sequence[str] | None = None,
        k: int = 12,
        offset: int = 0,
        where: Mapping[str, Any] | None = None,
        grouped: bool = False,
        neighbours: bool = False,
    ) -> models.Answer:
        """The items nearest to a query, best first.

        query: a sentence; the path of a file; a hit or item, for more like it; or a query of
        `bridge.serving.models`. where: column -> a list of values, or {"min": .., "max": ..}.
        grouped: the best of every collection on its own, in the answer's `groups`.
        Raises ServerError if the server refuses, and UserError if it does not answer.
        """
        (answer,) = self.search_many(
            [query], collections=collections, k=k, offset=offset, where=where,
            grouped=grouped, neighbours=neighbours,
        )  # fmt: skip
        return answer

    def search_many(
        self,
        queries: Sequence[Asked],
        *,
        collections: Sequence[str] | None = None,
        k: int = 12,
        offset: int = 0,
        where: Mapping[str, Any] | None = None,
        grouped: bool = False,
        neighbours: bool = False,
    ) -> list[models.Answer]:
        """As `search`, for several queries in one request."""
        body = {
            "queries": [_query(one) for one in queries],
            "collections": None if collections is None else list(collections),
            "k": k, "offset": offset, "where": dict(where or {}), "grouped": grouped,
            "neighbours": neighbours,
        }  # fmt: skip
        return _read(models.SearchResponse, self._ask("POST", "/v1/search", json=body)).results

    def embed(
        self, queries: Sequence[Asked], *, bridge: str | None = None, space: str | None = None
    ) -> Float[NDArray[np.float32], "q d"]:
        """Unit embeddings in a bridge's shared space, or in a space of its own encoder.

        Raises as `search`.
        """
        body = {"queries": [_query(one) for one in queries], "bridge": bridge, "space": space}
        answer = _read(models.EmbedResponse, self._ask("POST", "/v1/embed", json=body))
        return np.array(answer.embeddings, dtype=np.float32)

    def item(self, name: str, collection: str) -> models.Item:
        """What is known of the item that is called `name`. Raises as `search`."""
        path = f"/v1/items/{quote(name, safe='')}"
        return _read(models.Item, self._ask("GET", path, params={"collection": collection}))

    def pages(self, query: Asked, *, k: int = 50, **more: Any) -> Iterator[models.Hit]:
        """All hits that paging reaches, page by page. more: as `search` takes them."""
        deepest, offset = int(self.info().limits["deepest"]), 0
        while offset < deepest:
            answer = self.search(query, k=min(k, deepest - offset), offset=offset, **more)
            yield from answer.hits
            offset += k
            if offset >= answer.total or not answer.hits:
                return

    def media(self, address: str) -> bytes:
        """A file or picture, by its address in an item's `media`. Raises as `search`."""
        return self._ask("GET", address).content

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        for left in range(self.retries, -1, -1):
            try:
                response = self._http.request(method, path, **more)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise UserError(
                    f"{self.address} does not answer ({_oneline(error)}): start a server with "
                    "`mcr serve`, or check the address"
                ) from error
            if response.status_code != _BUSY or not left:
                break
            wait = response.headers.get("retry-after", "1")
            time.sleep(min(float(wait) if wait.isdigit() else 1.0, _LONGEST_WAIT))
        if response.is_success:
            return response
        raise ServerError(response.status_code, _sentence(response))


def _query(asked: Asked) -> dict[str, Any]:
    """A query as JSON."""
    if isinstance(asked, str):
        return {"text": asked}
    if isinstance(asked, Path):
        try:
            content = asked.read_bytes()
        except OSError as error:
            raise UserError(f"{asked} cannot be read ({error.strerror}): check the path") from error
        return {"content": base64.b64encode(content).decode(), "filename": asked.name}
    if isinstance(asked, models.Hit | models.Item):
        return {"item": {"collection": asked.collection, "id": asked.id}}
    return asked.model_dump(exclude_none=True)


def _read(kind: type[Answered], response: httpx.Response) -> Answered:
    try:
        return TypeAdapter(kind).validate_json(response.content)
    except ValidationError as error:
        raise UserError(
            f"{response.url} did not answer as `mcr serve` does ({error.error_count()} problems): "
            "use a server and a client of the same version"
        ) from error


def _sentence(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{response.url} answered {response.status_code} {response.reason_phrase}"


def _oneline(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
