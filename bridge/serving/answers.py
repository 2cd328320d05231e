"""From queries to hits: a batch of requests is embedded together and searched together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bridge.serving.columns import passing
from bridge.serving.embedding import Failures, QueryEmbedder, not_told
from bridge.serving.metrics import Metrics
from bridge.serving.prepared import EmbedJob, FoundRows, JobResult, PreparedQuery, SearchJob
from bridge.serving.refusal import UNPROCESSABLE, Refusal
from bridge.serving.saved import SavedQueries, SavedQuery
from bridge.serving.searches import Searches, Ticket
from bridge.serving.state import Collection, Served, bridge_place
from features.errors import UnreachableError

NEIGHBOURS = 8  # of a query's own embedding, in each memory
AnyJob = SearchJob | EmbedJob


@dataclass(frozen=True)
class _Plan:
    """For one query: the searches of its collections and of its neighbours, and what passes."""

    collections: list[tuple[str, Ticket]]
    neighbours: list[tuple[Collection, Ticket]]
    total: int


class Answers:
    """Works on batches; used by one thread."""

    def __init__(self, served: Served, saved: SavedQueries, metrics: Metrics) -> None:
        self.served, self.saved, self.metrics = served, saved, metrics
        self.embedder = QueryEmbedder(served)

    def work(self, jobs: Sequence[AnyJob]) -> list[JobResult | Exception]:
        """A result, or why there is none, for every job."""
        self.metrics.batch.observe(sum(len(job.queries) for job in jobs))
        started = time.perf_counter()
        failures = self.embedder.embed(wanted for job in jobs for wanted in self._wanted(job))
        failures |= self._project(jobs)
        embedded = time.perf_counter()
        searches = Searches()
        plans: list[list[_Plan] | Exception] = []
        for job in jobs:
            try:
                plans.append([self._plan(job, query, failures, searches) for query in job.queries])
            except Exception as error:  # told to this one only
                plans.append(error)
        searches.run()
        self.metrics.embedding.observe(embedded - started)
        self.metrics.search.observe(time.perf_counter() - embedded)
        return [
            plan if isinstance(plan, Exception) else self._result_or_error(job, plan, searches)
            for job, plan in zip(jobs, plans, strict=True)
        ]

    def _wanted(self, job: AnyJob) -> Iterator[tuple[PreparedQuery, Sequence[str]]]:
        """The spaces that each query of a job is to be embedded in."""
        for query in job.queries:
            if isinstance(job, EmbedJob):
                yield query, self._spaces_of(query, job.place)
                continue
            for name in job.collections:
                yield query, self.embedder.spaces_for(query, self.served.collections[name])
            if job.neighbours and query.source is not None:
                modality = query.source.modality
                spaces = {one.header.space for one in self._memories()}
                yield query, [s for s in spaces if modality in self.served.usable(s)]

    def _spaces_of(self, query: PreparedQuery, place: str) -> list[str]:
        if query.source is None or place in query.vectors:
            return []
        bridges = {bridge_place(name): bridge for name, bridge in self.served.bridges.items()}
        spaces = bridges[place].spaces if place in bridges else [place]
        return [s for s in spaces if query.source.modality in self.served.usable(s)]

    def _project(self, jobs: Sequence[AnyJob]) -> Failures:
        """Bring the queries into the shared spaces where they are searched; those that fail."""
        places: dict[str, dict[int, PreparedQuery]] = {}
        for job in jobs:
            names = [job.place] if isinstance(job, EmbedJob) else self._places(job)
            for place in names:
                places.setdefault(place, {}).update((id(query), query) for query in job.queries)
        failures: Failures = {}
        for place, queries in places.items():
            failures |= self.embedder.project(list(queries.values()), place)
        return failures

    def _places(self, job: SearchJob) -> set[str]:
        return {self.served.collections[name].place for name in job.collections}

    def _memories(self) -> list[Collection]:
        """One collection for every set of rows that is known in its own space."""
        unique = {id(one.own): one for one in self.served.collections.values() if one.own}
        return list(unique.values())

    def _plan(
        self, job: AnyJob, query: PreparedQuery, failures: Failures, searches: Searches
    ) -> _Plan:
        """What is to be searched for a query. Raises Refusal if it is not known where."""
        if id(query) in failures:
            raise failures[id(query)]
        if isinstance(job, EmbedJob):
            if job.place not in query.vectors:
                raise Refusal(UNPROCESSABLE, self._unasked(query, f"embedded in {job.place}"))
            return _Plan([], [], 0)
        depth, total, found = job.offset + job.k, 0, []
        for name in job.collections:
            one = self.served.collections[name]
            if one.place not in query.vectors:
                if job.named:
                    raise Refusal(UNPROCESSABLE, self._unasked(query, f"searched in {name}"))
                continue
            allowed = passing(one.filters, job.where)
            total += len(one) if allowed is None else one.filters.count(allowed)
            found.append((name, searches.add(one.rows, query.vectors[one.place], depth, allowed)))
        if not found:
            raise Refusal(UNPROCESSABLE, self._unasked(query, "searched in any collection"))
        near = [
            (one, searches.add(one.own, query.vectors[one.header.space], NEIGHBOURS, None))
            for one in self._memories()
            if job.neighbours and one.own is not None and one.header.space in query.vectors
        ]
        return _Plan(found, near, total)

    def _unasked(self, query: PreparedQuery, what: str) -> str:
        known = ", ".join(self.served.queries)
        return (
            f"{query.told} ({query.modality or 'an embedding'}) cannot be {what}, no encoder or "
            f"bridge leads there: ask by one of {known}, or elsewhere"
        )

    def _result_or_error(
        self, job: AnyJob, plans: Sequence[_Plan], searches: Searches
    ) -> JobResult | Exception:
        try:
            return self._result(job, plans, searches)
        except Exception as error:  # told to this one only
            return error

    def _result(self, job: AnyJob, plans: Sequence[_Plan], searches: Searches) -> JobResult:
        found, neighbours = [], []
        for query, plan in zip(job.queries, plans, strict=True):
            offset, k = (0, 0) if isinstance(job, EmbedJob) else (job.offset, job.k)
            try:
                places = sorted(_places(plan.collections, searches), key=lambda one: -one[2])
                near = {
                    one.memory: FoundRows(_places([(one.name, ticket)], searches), 0)
                    for one, ticket in plan.neighbours
                }
            except UnreachableError:
                raise
            except Exception as error:
                raise Refusal(UNPROCESSABLE, not_told(error, query, "searched")) from error
            found.append(FoundRows(places[offset : offset + k], plan.total))
            neighbours.append(near)
            shown = [*places[offset : offset + k]]
            shown += [hit for one in near.values() for hit in one.places]
            for name in {hit[0] for hit in shown}:  # here, not on the event loop
                self.served.collections[name].filters.prepare()
                self.served.collections[name].table.fetch(r for one, r, _ in shown if one == name)
        return JobResult(found, neighbours, [self._keep(query) for query in job.queries])

    def _keep(self, query: PreparedQuery) -> str | None:
        if not query.keep or not query.vectors:
            return query.saved
        return self.saved.keep(SavedQuery(query.modality, query.filename, query.vectors))


def _places(
    tickets: Sequence[tuple[str, Ticket]], searches: Searches
) -> list[tuple[str, int, float]]:
    return [
        (name, row, score)
        for name, ticket in tickets
        for row, score in searches.found(ticket)
        if row >= 0
    ]
