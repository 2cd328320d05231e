"""What Prometheus reads at `/metrics`, in a registry of its own."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_QUERIES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters and histograms of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "mcr_requests", "Requests that were answered.", ["method", "route", "status"],
            registry=self.registry,
        )  # fmt: skip
        self.seconds = self._histogram("request_seconds", "Until the answer began.", ["route"])
        self.embedding = self._histogram("embedding_seconds", "To embed a batch of queries.")
        self.search = self._histogram("search_seconds", "To search for a batch of queries.")
        self.batch = Histogram(
            "mcr_batch_queries", "Queries that were worked on together.", buckets=_QUERIES,
            registry=self.registry,
        )  # fmt: skip
        self.items = Gauge(
            "mcr_items", "Items that are served.", ["collection"], registry=self.registry
        )

    def gauge(self, name: str, told: str, value: Callable[[], float]) -> None:
        """A number that is asked for whenever Prometheus reads."""
        Gauge(f"mcr_{name}", told, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)

    def _histogram(self, name: str, told: str, labels: list[str] | None = None) -> Histogram:
        return Histogram(
            f"mcr_{name}", told, labels or [], buckets=_SECONDS, registry=self.registry
        )
