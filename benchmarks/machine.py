"""What the figures were measured on, and how they are repeated."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from features.device import cpu_count


def machine() -> str:
    """Processor, cores and Python, in a line."""
    info = Path("/proc/cpuinfo")
    models = [
        line.split(":", 1)[1].strip()
        for line in (info.read_text().splitlines() if info.exists() else [])
        if line.startswith("model name")
    ]
    name = models[0] if models else platform.processor() or platform.machine()
    return f"{name}, {cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def medians(
    candidates: Mapping[str, Callable[[], object]], *, repeats: int = 7
) -> dict[str, float]:
    """Median seconds of each candidate, run in turns after one warm-up, so that noise is shared."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(repeats + 1):
        for name, run in candidates.items():
            started = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}
