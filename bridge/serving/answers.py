"""From queries to hits: a batch of requests is embedded together and searched together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from bridge.serving.collection import Collection, bridge_place
from bridge.serving.columns import passing
from bridge.serving.embedding import Failures, QueryEmbedder, not_told
from bridge.serving.metrics import Metrics
from bridge.serving.prepared import EmbedJob, FoundRows, JobResult, PreparedQuery, SearchJob
from bridge.serving.refusal import UNPROCESSABLE, Refusal
from bridge.serving.saved import SavedQueries, SavedQuery
from bridge.serving.searches import Searches, Ticket
from bridge.serving.state import Served
from features.errors import UnreachableError

NEIGHBOURS = 8  # of a query's own embedding, in each memory
AnyJob = SearchJob | EmbedJob


@dataclass(frozen=True)
class _Plan:
    """For one query: the searches of its collections and of its neighbours.

    totals: what passes in each collection. unasked: why others are not searched.
    """

    collections: list[tuple[str, Ticket]] = field(default_factory=list)
    neighbours: list[tuple[Collection, Ticket]] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=dict)
    unasked: dict[str, str] = field(default_factory=dict)


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
            return _Plan()
        plan = _Plan()
        for name in job.collections:
            one = self.served.collections[name]
            if one.place not in query.vectors:
                if job.named:
                    plan.unasked[name] = self._unasked(query, f"searched in {name}")
                continue
            allowed = passing(one.filters, job.where)
            plan.totals[name] = len(one) if allowed is None else one.filters.count(allowed)
            ticket = searches.add(one.rows, query.vectors[one.place], job.offset + job.k, allowed)
            plan.collections.append((name, ticket))
        if plan.unasked and not job.grouped:
            raise Refusal(UNPROCESSABLE, next(iter(plan.unasked.values())))
        if not plan.collections:
            raise Refusal(UNPROCESSABLE, self._unasked(query, "searched in any collection"))
        plan.neighbours.extend(
            (one, searches.add(one.own, query.vectors[one.header.space], NEIGHBOURS, None))
            for one in self._memories()
            if job.neighbours and one.own is not None and one.header.space in query.vectors
        )
        return plan

    def _unasked(self, query: PreparedQuery, what: str) -> str:
        if query.source is None and query.note is not None:
            return f"{query.told} cannot be {what}: {query.note}"
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
        result = JobResult([], [], [], [self._keep(query) for query in job.queries])
        if isinstance(job, EmbedJob):
            return result
        for query, plan in zip(job.queries, plans, strict=True):
            try:
                self._add(result, job, plan, searches)
            except UnreachableError:
                raise
            except Exception as error:
                raise Refusal(UNPROCESSABLE, not_told(error, query, "searched")) from error
        return result

    def _add(self, result: JobResult, job: SearchJob, plan: _Plan, searches: Searches) -> None:
        """Add what was found for a query."""
        end = job.offset + job.k
        found = {
            name: FoundRows(_places(name, ticket, searches), plan.totals[name])
            for name, ticket in plan.collections
        }
        total = sum(plan.totals.values())
        if job.grouped:
            groups: dict[str, FoundRows | str] = dict(plan.unasked)
            for name, one in found.items():
                groups[name] = replace(one, places=one.places[job.offset :])
            result.groups.append({name: groups[name] for name in job.collections if name in groups})
            result.found.append(FoundRows([], total))
        else:
            places = [place for one in found.values() for place in one.places]
            places.sort(key=lambda one: -one[2])
            result.found.append(FoundRows(places[job.offset : end], total))
        result.neighbours.append(
            {
                one.memory: FoundRows(_places(one.name, ticket, searches), 0)
                for one, ticket in plan.neighbours
            }
        )
        self._fetch(result)

    def _fetch(self, result: JobResult) -> None:
        """Bring what is told of the last query's hits here, not on the event loop."""
        last = [result.found[-1], *result.neighbours[-1].values()]
        groups = result.groups[-1].values() if result.groups else ()
        last += [group for group in groups if isinstance(group, FoundRows)]
        shown = [place for one in last for place in one.places]
        for name in {place[0] for place in shown}:
            one = self.served.collections[name]
            one.filters.prepare()
            one.table.fetch(row for collection, row, _ in shown if collection == name)

    def _keep(self, query: PreparedQuery) -> str | None:
        if not query.keep or not query.vectors:
            return query.saved
        return self.saved.keep(SavedQuery(query.modality, query.filename, query.vectors))


def _places(name: str, ticket: Ticket, searches: Searches) -> list[tuple[str, int, float]]:
    return [(name, row, score) for row, score in searches.found(ticket) if row >= 0]
