"""Tasks on Ray: on this machine, or on a cluster that has this package and the same files."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any

from features.errors import UserError
from features.extraction.on_ray.cluster import connected
from features.extras import require_package
from features.tasks import Item, Made, Shared

_AHEAD = 2  # tasks that are under way for each core
_RETRIES = 5  # of a task whose worker was lost


class RayTasks:
    """Tasks on a core each of a Ray cluster, begun again elsewhere if a worker is lost."""

    engine = "ray"

    def __init__(self, address: str | None = None) -> None:
        """address: as `connected` has it, whose connection lasts for the block.

        Raises UserError if Ray is not installed; the block does if the cluster does not answer.
        """
        self.ray: Any = require_package("ray", "--engine ray")
        self._connection = connected(address)

    def __enter__(self) -> RayTasks:
        self.ray = self._connection.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.__exit__(kind, error, trace)

    def map(
        self, task: Callable[[Shared, Item], Made], shared: Shared, items: Iterable[Item]
    ) -> Iterator[Made]:
        """As `features.tasks.Tasks` has it; `shared` travels once to every machine."""
        ray = self.ray
        run = ray.remote(num_cpus=1, max_retries=_RETRIES)(_run)
        work, given = ray.put(task), ray.put(shared)
        most = _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting: deque[Any] = deque()
        try:
            for item in items:
                waiting.append(run.remote(work, given, item))
                if len(waiting) >= most:
                    yield self._result(waiting.popleft())
            while waiting:
                yield self._result(waiting.popleft())
        finally:
            for left in waiting:
                ray.cancel(left, force=True)

    def _result(self, reference: Any) -> Any:
        errors = self.ray.exceptions
        try:
            return self.ray.get(reference)
        except errors.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise
        except errors.RayError as error:
            raise UserError(
                f"Ray lost a task ({' '.join(str(error).split())}): run the same command again"
            ) from error


def _run(task: Callable[[Any, Any], Any], shared: Any, item: Any) -> Any:
    import torch

    torch.set_num_threads(1)
    return task(shared, item)
