"""Between the addresses and the work: limits, batches, time-outs, and answers as they are told."""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import anyio.to_thread

from bridge.serving import models, requests, shown
from bridge.serving.answers import Answers, AnyJob
from bridge.serving.batching import Batcher
from bridge.serving.collection import Collection
from bridge.serving.decoders import Decoders
from bridge.serving.identity import identities
from bridge.serving.item_files import ItemFiles
from bridge.serving.limits import Limits
from bridge.serving.metrics import Metrics
from bridge.serving.prepared import EmbedJob, JobResult, PreparedQuery, SearchJob
from bridge.serving.refusal import UNPROCESSABLE, Refusal, too_slow
from bridge.serving.saved import SavedQueries
from bridge.serving.state import Served
from bridge.serving.uploads import Reading, Uploads
from features.device import cpu_count

_READING = 8  # requests whose files are read at a time
_TOGETHER = 64  # requests of a batch


class NotServed(UserWarning):
    """What a server does without."""


class Service:
    """Everything that the addresses of `bridge.serving.app` ask for."""

    def __init__(
        self, served: Served, limits: Limits, *, keep_queries: int, state: Path | None
    ) -> None:
        self.served, self.limits, self.version = served, limits, version("mcr-bridge")
        self.metrics = Metrics()
        self.saved = SavedQueries(keep_queries, state, identities(served))
        self.decoders = Decoders(limits, waiting=limits.queue)
        self.uploads = Uploads(served, self.saved, self.decoders, limits)
        # Threads of their own, so that files leave those of all other requests free.
        self.reading = anyio.CapacityLimiter(_READING)
        self.files = ItemFiles(served, self.decoders, limits)
        self.answers = Answers(served, self.saved, self.metrics)
        self.batcher: Batcher[AnyJob, JobResult] = Batcher(
            self.answers.work, waiting=limits.queue, most=_TOGETHER, name="search",
            begin=leave_a_core,
        )  # fmt: skip
        self.metrics.gauge("queue_depth", "Requests that wait.", lambda: len(self.batcher))
        self.metrics.gauge("saved_queries", "Queries that are kept.", lambda: len(self.saved))
        for one in served.collections.values():
            self.metrics.items.labels(one.name).set(len(one))

    def warm(self) -> None:
        """Load what the first requests need. What fails is noted; the server is ready without."""
        try:
            self.decoders.warm()
        except Exception as error:
            _tell(f"no process to decode files was started: {error}")
        self.served.warm()
        for space, reason in self.served.unusable.items():
            _tell(f"no query is embedded in {space}: {reason}")
        for name, reason in self.served.unprepared.items():
            _tell(f"{name} is not read for searches: {reason}")
        for one in self.served.collections.values():
            _ = one.filters.infos

    def close(self) -> None:
        """End the threads and processes."""
        self.batcher.close()
        self.decoders.close()

    async def search(self, asked: requests.SearchRequest) -> models.SearchResponse:
        """Hits for every query. Raises Refusal."""
        started, deadline = time.perf_counter(), time.monotonic() + self.limits.seconds
        names, named = self._named(asked), asked.collections is not None
        if asked.k > self.limits.k or asked.offset + asked.k > self.limits.deepest:
            raise Refusal(
                UNPROCESSABLE,
                f"hits {asked.offset} to {asked.offset + asked.k} were asked for: a page has at "
                f"most {self.limits.k} and ends at {self.limits.deepest}",
            )
        with _folder(asked.queries) as folder:
            reading = Reading(Path(folder), self._places(names, asked.neighbours), deadline)
            queries = await self._read(asked.queries, reading)
            job = SearchJob(
                queries, names, named, asked.k, asked.offset, asked.where, asked.grouped,
                asked.neighbours,
            )  # fmt: skip
            result = await self._work(job, deadline)
        return models.SearchResponse(
            [self._answer(job, result, place, started) for place in range(len(queries))]
        )

    async def embed(self, asked: requests.EmbedRequest) -> models.EmbedResponse:
        """Embeddings of every query. Raises Refusal."""
        deadline = time.monotonic() + self.limits.seconds
        name = asked.space or asked.bridge or self._only_place()
        if asked.space and asked.bridge:
            raise Refusal(UNPROCESSABLE, "give a bridge or a space, not both")
        place, dimension = self.uploads.place_named(name)
        with _folder(asked.queries) as folder:
            queries = await self._read(asked.queries, Reading(Path(folder), [place], deadline))
            result = await self._work(EmbedJob(queries, place), deadline)
        rows = [query.vectors[place].tolist() for query in queries]
        return models.EmbedResponse(rows, name, dimension, result.saved)

    def item(self, collection: str, name: str) -> models.Item:
        """An item. Raises Refusal if there is none of this name."""
        return shown.item(*shown.row_named(self.served, collection, name))

    def info(self) -> models.Info:
        """What is served."""
        bridges = [
            models.BridgeInfo(
                bridge.name,
                [models.SpaceInfo(s.name, list(s.modalities)) for s in bridge.spaces.values()],
                bridge.dimension,
            )
            for bridge in self.served.bridges.values()
        ]
        collections = [self._collection(one) for one in self.served.collections.values()]
        queries: list[str] = list(self.served.queries)
        ready = self.served.ready.is_set()
        return models.Info(self.version, ready, bridges, collections, queries, self.limits.told())

    def _collection(self, one: Collection) -> models.CollectionInfo:
        return models.CollectionInfo(
            name=one.name,
            kind=one.kind,
            memory=one.memory,
            bridge=None if one.bridge is None else one.bridge.name,
            space=one.header.space,
            modality=one.modality,
            items=len(one),
            shared=one.bridge is not None,
            queries=list(self.served.askable(one)),
            columns=one.filters.infos,
            media=one.table.root is not None,
            same_as=one.same_as,
        )

    def _named(self, asked: requests.SearchRequest) -> tuple[str, ...]:
        """The collections to search. Raises Refusal for one, or a column, that is not there."""
        every = self.served.collections
        once = [name for name, one in every.items() if one.same_as is None]
        shared = [name for name in once if every[name].bridge is not None]
        names = tuple(dict.fromkeys(asked.collections or shared or once))
        chosen = [shown.collection_named(self.served, name) for name in names]
        for column in asked.where:
            if not any(column in one.filters.names for one in chosen):
                known = ", ".join(dict.fromkeys(c for one in chosen for c in one.filters.names))
                raise Refusal(
                    UNPROCESSABLE,
                    f"no column is called '{column[:80]}', there are {known or 'none'}",
                )
        return names

    def _only_place(self) -> str:
        places = [*self.served.bridges] or [*self.served.spaces]
        if len(places) > 1:
            raise Refusal(UNPROCESSABLE, f"say where to embed, in one of {', '.join(places)}")
        return places[0]

    def _places(self, names: Sequence[str], neighbours: bool) -> set[str]:
        """Where queries are searched: the places of collections, and spaces of neighbours."""
        every = self.served.collections
        own = {one.header.space for one in every.values() if neighbours and one.own is not None}
        return {every[name].place for name in names} | own

    async def _read(
        self, queries: Sequence[requests.AnyQuery], reading: Reading
    ) -> list[PreparedQuery]:
        quick = (requests.TextQuery, requests.SavedQuery, requests.EmbeddingQuery)
        if all(isinstance(query, quick) for query in queries):
            return self.uploads.read(queries, reading)
        # Ends by itself soon after the deadline; only the wait for a thread is given up.
        with anyio.move_on_after(reading.deadline - time.monotonic()):
            return await anyio.to_thread.run_sync(
                self.uploads.read, queries, reading, limiter=self.reading
            )
        raise too_slow(self.limits)

    async def _work(self, job: AnyJob, deadline: float) -> JobResult:
        future = asyncio.wrap_future(self.batcher.submit(job))
        try:
            return await asyncio.wait_for(future, max(0.0, deadline - time.monotonic()))
        except asyncio.TimeoutError:
            raise too_slow(self.limits) from None

    def _answer(
        self, job: SearchJob, result: JobResult, place: int, started: float
    ) -> models.Answer:
        query, found = job.queries[place], result.found[place]
        neighbours = None
        if job.neighbours:
            neighbours = [
                models.Neighbours(name, self._hits(near.places, 0))
                for name, near in result.neighbours[place].items()
            ]
        hits = self._hits(found.places, job.offset)
        groups = None
        if job.grouped:
            groups = [
                models.Group(name, 0, [], one)
                if isinstance(one, str)
                else models.Group(name, one.total, self._hits(one.places, job.offset))
                for name, one in result.groups[place].items()
            ]
        asked = models.Asked(
            query.modality, query.text, query.filename, query.item, result.saved[place], query.note
        )
        took = (time.perf_counter() - started) * 1e3
        return models.Answer(asked, round(took, 3), found.total, hits, groups, neighbours)

    def _hits(self, places: Sequence[tuple[str, int, float]], offset: int) -> list[models.Hit]:
        return [
            shown.hit(self.served.collections[name], row, offset + place, score)
            for place, (name, row, score) in enumerate(places, start=1)
        ]


def _tell(what: str) -> None:
    warnings.warn(what, NotServed, stacklevel=2)


def _folder(queries: Sequence[requests.AnyQuery]) -> AbstractContextManager[str]:
    """A folder for the files of a request, if it has any."""
    if any(isinstance(query, (requests.ContentQuery, requests.ItemQuery)) for query in queries):
        return TemporaryDirectory(prefix="mcr-query-")
    return nullcontext("")


def leave_a_core() -> None:
    """Leave a core to the connections, so that the search and they do not wait for each other."""
    import faiss
    import torch

    cores = max(1, min(torch.get_num_threads(), cpu_count()) - 1)
    torch.set_num_threads(cores)
    faiss.omp_set_num_threads(cores)
