"""The app: which address gives what. `bridge.serving.guard` is around all of it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

from bridge.serving import models, requests
from bridge.serving.bodies import BoundedRoute
from bridge.serving.guard import Guard, start_message
from bridge.serving.item_files import PICTURES
from bridge.serving.limits import Limits
from bridge.serving.refusal import BUSY, NOT_FOUND, UNPROCESSABLE, Refusal
from bridge.serving.service import Service
from bridge.serving.state import Served
from features.errors import UnreachableError

PAGE = Path(__file__).parent / "page"
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": models.Problem} for status in (400, 404, 408, 413, 415, 422, 500, 503, 504)
}
_Collection = Annotated[str, Query(min_length=1, max_length=4096, description="Its name.")]
_Row = Annotated[int, InPath(ge=0, le=requests.MAX_ROW)]


class _Json(Response):
    """Dataclasses as JSON; ASCII, as ids may hold what is no Unicode."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, default=vars, allow_nan=False).encode()


def create_app(
    served: Served,
    *,
    limits: Limits | None = None,
    keep_queries: int = 1000,
    state: Path | None = None,
    hosts: Collection[str] | None = None,
) -> Guard:
    """The app that serves bridges and collections.

    keep_queries: whose embeddings are kept, so that a query can be asked again by its key; in the
    folder `state` also after the server has ended. hosts: the names that it may be called by; None
    for any.
    """
    service = Service(served, limits or Limits(), keep_queries=keep_queries, state=state)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=service.warm, name="warm", daemon=True).start()
        yield
        service.close()

    app = FastAPI(
        title="mcr-bridge", version=service.version, lifespan=lifespan, responses=_REFUSALS,
        docs_url=None, redoc_url=None,  # their pages load scripts from elsewhere
        description="Search across modalities that were never paired.",
    )  # fmt: skip
    app.router.route_class = BoundedRoute
    app.exception_handler(Refusal)(_refused)
    app.exception_handler(UnreachableError)(_unreachable)
    app.exception_handler(HTTPException)(_refused)
    app.exception_handler(RequestValidationError)(_not_valid)
    app.exception_handler(Exception)(_failed)
    _add_status(app, service)
    _add_search(app, service)
    _add_items(app, service)
    _add_page(app)
    guard = Guard(app, limits=service.limits, metrics=service.metrics, hosts=hosts)
    service.metrics.gauge("requests_under_way", "Requests under way.", lambda: guard.under_way)
    return guard


async def _unreachable(request: Request, _: Exception) -> Response:
    busy = Refusal(BUSY, "the server of an index does not answer: try again in a second")
    return await _refused(request, busy)


def _add_status(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", response_model=models.Status)
    async def healthz() -> Response:
        """Whether the server answers."""
        return _Json(models.Status("ok"))

    @app.get("/readyz", response_model=models.Status)
    async def readyz() -> Response:
        """Whether all encoders are loaded; a search before that waits for its own."""
        if service.served.ready.is_set():
            return _Json(models.Status("ready"))
        return _Json(models.Status("loading"), 503, headers={"retry-after": "1"})

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/info", response_model=models.Info)
    def info() -> Response:
        """What is served, and the limits."""
        return _Json(service.info())


def _add_search(app: FastAPI, service: Service) -> None:
    @app.post("/v1/search", response_model=models.SearchResponse)
    async def search(asked: requests.SearchRequest) -> Response:
        """The items nearest to each query, best first."""
        return _Json(await service.search(asked))

    @app.post("/v1/embed", response_model=models.EmbedResponse)
    async def embed(asked: requests.EmbedRequest) -> Response:
        """Embeddings of queries, in a bridge's shared space or a space of its own encoder."""
        return _Json(await service.embed(asked))


def _add_items(app: FastAPI, service: Service) -> None:
    @app.get("/v1/items/{id:path}", response_model=models.Item)
    def item(
        id: Annotated[str, InPath(max_length=4096)],  # as the address has it
        collection: _Collection,
    ) -> Response:
        """What is known of an item."""
        return _Json(service.item(collection, id))

    @app.get("/v1/media/{collection}/{row}/file", response_class=FileResponse)
    def file(collection: str, row: _Row) -> Response:
        """An item's own file."""
        path, media_type = service.files.file(collection, row)
        return FileResponse(path, media_type=media_type, headers=_KEPT)

    @app.get("/v1/media/{collection}/{row}/{kind}", response_class=Response)
    async def picture(collection: str, row: _Row, kind: PICTURES, request: Request) -> Response:
        """A thumbnail (PNG or WebP), a sound's waveform or a cloud's points (JSON)."""
        made = await service.files.picture(collection, row, kind)
        headers = {**_KEPT, "etag": made.etag}
        if request.headers.get("if-none-match") == made.etag:
            return Response(status_code=304, headers=headers)
        return Response(made.content, media_type=made.media_type, headers=headers)


_KEPT = {"cache-control": "private, max-age=3600"}


def _add_page(app: FastAPI) -> None:
    import mimetypes

    for suffix, media_type in ((".js", "text/javascript"), (".mjs", "text/javascript")):
        mimetypes.add_type(media_type, suffix)  # some systems have another

    @app.get("/", include_in_schema=False)
    def index() -> Response:
        path = PAGE / "index.html"
        if not path.is_file():
            raise Refusal(NOT_FOUND, "the search page is not part of this installation")
        return FileResponse(path, media_type="text/html", headers={"cache-control": "no-cache"})

    app.mount("/page", _Page(directory=PAGE, check_dir=False), name="page")


class _Page(StaticFiles):
    """The page's files; a browser asks each time whether its copy is the newest."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response


async def _refused(_: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, Refusal) else getattr(error, "status_code", 400)
    detail = str(error) if isinstance(error, Refusal) else str(getattr(error, "detail", error))
    headers = {k.decode(): v.decode() for k, v in start_message(status)["headers"]}
    return _Json(models.Problem(detail), status, headers=headers)


async def _failed(_: Request, __: Exception) -> Response:
    """A fault of the server's own, which `bridge.serving.guard` writes to the log."""
    return _Json(models.Problem("the server failed: its log says how"), 500)


async def _not_valid(_: Request, error: Exception) -> Response:
    """The first thing that is wrong, in a sentence, without what was sent."""
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    first = problems[0] if problems else {"loc": (), "msg": "it cannot be read"}
    place = [str(part) for part in first["loc"] if part != "body"]
    where = ".".join(part for part in place if not part.startswith("<"))
    message = str(first["msg"]).removeprefix("Value error, ")
    return _Json(models.Problem(f"{where[:200]}: {message}" if where else message), UNPROCESSABLE)
