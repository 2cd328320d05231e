"""Embedding the queries of a whole batch: one call of an encoder for each space and modality."""

from __future__ import annotations

import sys
import traceback
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from bridge.artefact import Bridge
from bridge.search import Query, project_queries
from bridge.serving.collection import Collection, bridge_place
from bridge.serving.prepared import PreparedQuery
from bridge.serving.refusal import UNPROCESSABLE, Refusal
from bridge.serving.state import Served
from features.errors import UserError
from features.space import Modality

MOST_TOGETHER = 64  # queries in one call of an encoder
Failures = dict[int, Refusal]  # id() of a query -> why it cannot be asked


class QueryEmbedder:
    """Fills in the embeddings of queries; those of sentences are remembered for a while."""

    def __init__(self, served: Served, *, remembered: int = 4096) -> None:
        """remembered: sentences whose embeddings are kept, for the next page of their hits."""
        self.served = served
        self._remembered: OrderedDict[tuple[str, str], Tensor] = OrderedDict()
        self._most = remembered

    def embed(self, wanted: Iterable[tuple[PreparedQuery, Sequence[str]]]) -> Failures:
        """Embed queries in the spaces that are named with them; returns those that fail."""
        groups: dict[tuple[str, Modality], list[PreparedQuery]] = {}
        for query, spaces in wanted:
            for space in spaces:
                if space not in query.vectors and query.source and not self._recall(query, space):
                    groups.setdefault((space, query.source.modality), []).append(query)
        failures: Failures = {}
        for (space, _), queries in groups.items():
            unique = list({id(query): query for query in queries}.values())
            for start in range(0, len(unique), MOST_TOGETHER):
                self._embed(unique[start : start + MOST_TOGETHER], space, failures)
        return failures

    def _embed(self, queries: list[PreparedQuery], space: str, failures: Failures) -> None:
        sources = [query.source for query in queries if query.source is not None]
        encoder = self.served.spaces[space].encoder
        try:
            with self.served.embedding:
                rows = self.served.embedder.embed(sources, space, encoder).cpu()
        except Exception as error:
            if len(queries) > 1:  # the others are not to blame
                for query in queries:
                    self._embed([query], space, failures)
                return
            failures[id(queries[0])] = Refusal(UNPROCESSABLE, _told(error, queries[0], "embedded"))
            return
        for query, row in zip(queries, rows, strict=True):
            query.vectors[space] = row
            if query.source is not None and isinstance(query.source.value, str):
                self._remembered[space, query.source.value] = row
        while len(self._remembered) > self._most:
            self._remembered.popitem(last=False)

    def _recall(self, query: PreparedQuery, space: str) -> bool:
        if query.source is None or not isinstance(query.source.value, str):
            return False
        known = self._remembered.get((space, query.source.value))
        if known is not None:
            query.vectors[space] = known
        return known is not None

    def spaces_for(self, query: PreparedQuery, collection: Collection) -> list[str]:
        """The spaces to embed a query in, to search a collection; none if it is known there."""
        if query.source is None or collection.place in query.vectors:
            return []
        return self.served.spaces_for(collection, query.source.modality)

    def project(self, queries: Sequence[PreparedQuery], place: str) -> Failures:
        """Bring queries into a bridge's shared space, those of the same kind together.

        Returns those that fail.
        """
        failures: Failures = {}
        bridges = {bridge_place(name): one for name, one in self.served.bridges.items()}
        if place not in bridges:
            return failures
        bridge = bridges[place]
        groups: dict[tuple[tuple[str, ...], Modality | None], list[PreparedQuery]] = {}
        for query in queries:
            known = tuple(space for space in bridge.spaces if space in query.vectors)
            if known and place not in query.vectors:
                groups.setdefault((known, query.modality), []).append(query)
        for (spaces, _), members in groups.items():
            _project(members, spaces, bridge, failures)
        return failures


def _project(
    queries: list[PreparedQuery], spaces: Sequence[str], bridge: Bridge, failures: Failures
) -> None:
    """Bring queries of one modality, embedded in the same spaces, into a bridge's shared one."""
    try:
        embedded = {s: torch.stack([one.vectors[s] for one in queries]) for s in spaces}
        rows = project_queries(embedded, bridge, queries[0].modality).cpu()
    except Exception as error:
        if len(queries) > 1:  # the others are not to blame
            for query in queries:
                _project([query], spaces, bridge, failures)
            return
        failures[id(queries[0])] = Refusal(UNPROCESSABLE, _told(error, queries[0], "projected"))
        return
    for query, row in zip(queries, rows, strict=True):
        query.vectors[bridge_place(bridge.name)] = row


def _told(error: Exception, query: PreparedQuery, what: str) -> str:
    """The error in words for whoever asked, who knows no path on this machine."""
    if not isinstance(error, UserError):  # an encoder's own fault, which its makers want to see
        return not_told(error, query, what)
    source: Query | None = query.source
    message = str(error)
    if source is not None and not isinstance(source.value, str):
        message = message.replace(str(source.value), query.told)
    return message.replace("\n", " ")


def not_told(error: Exception, query: PreparedQuery, what: str) -> str:
    """A sentence without the error, which may name paths and goes to the log."""
    traceback.print_exception(error, file=sys.stderr)
    return f"{query.told} cannot be {what} ({type(error).__name__}): give another"
