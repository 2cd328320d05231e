"""How much memory a device has left, and giving it back."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def free_bytes(device: torch.device) -> int:
    """Bytes that could still be taken on `device`, as the system tells now.

    Of a CUDA device what its driver and torch have left; otherwise of the machine, or of the
    control group (container) that the process is in, what is not in use or only caches files.
    Where the system does not say, all memory of the machine.
    """
    if device.type == "cuda":
        import torch

        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    return min([_machine(), *(left for _, left in _groups())])


def all_bytes() -> int:
    """Bytes of memory that the machine has, or the control group that the process is in."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([total, *(limit for limit, _ in _groups())])


def _machine() -> int:
    numbers = _numbers(_PROC / "meminfo")
    if "MemAvailable:" in numbers:
        return numbers["MemAvailable:"] * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _groups() -> Iterator[tuple[int, int]]:
    """The limits of the process's control group and those around it, and what is left of each."""
    listed = _PROC / "self" / "cgroup"
    for line in listed.read_text().splitlines() if listed.exists() else []:
        _, kinds, path = line.split(":", 2)
        if kinds == "":
            root, names = _CGROUPS, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in kinds.split(","):
            root = _CGROUPS / "memory"
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        own = root / path.lstrip("/")
        # Inside of a container, its own group is what it sees as the root.
        for folder in (own, *own.parents):
            if folder.is_relative_to(root):
                yield from _left(folder, *names)


def _left(folder: Path, most: str, used: str, cache: str) -> Iterator[tuple[int, int]]:
    try:
        limit, taken = (folder / most).read_text().strip(), int((folder / used).read_text())
    except (OSError, ValueError):
        return  # no group of this version, or not ours to see
    if limit != "max":
        cached = _numbers(folder / "memory.stat").get(cache, 0)
        yield int(limit), max(0, int(limit) - taken + cached)


def _numbers(path: Path) -> dict[str, int]:
    """The names at the beginning of lines, and the numbers behind them."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def give_back() -> None:
    """Return what was freed to the system, where the C library keeps it; elsewhere nothing."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)
