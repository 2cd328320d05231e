"""Pseudo pairs that were retrieved before, kept in files beside the leaf memory.

`MEMORY.h5.pairs/KEY.safetensors`, beside the first leaf memory of the space that pairs are
retrieved in. The key names all that their bits depend on: the fingerprints of the memories, which
hub items in which order, the settings of retrieval, the code and the machine. So a training with
and one without the cache are the same. A file is a float32 tensor for each table, with a checksum;
one that is damaged is made again. Files are written under another name and then renamed, so that
processes may write at the same time, or be killed.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bridge.config import TrainSettings
from bridge.pseudo_pairs.exact import Retriever, Rows
from bridge.pseudo_pairs.origin import Origin, digest
from features.errors import UserError
from features.files import replacing, require_space
from features.parsing import parse_json

FORMAT = "mcr-bridge pseudo pairs 1"
LEAST_SCORES = 1 << 26  # of queries and items; fewer are computed in about a second
MOST_BYTES = 16 << 30  # in one folder; what was not used for longest goes first
_FORGOTTEN = 86_400.0  # seconds after which an unfinished file is nobody's
# Where the bits of pseudo pairs are decided: when one of these changes, they are retrieved anew.
CODE = (
    "bridge.pseudo_pairs.approximate",
    "bridge.fused_kernels",
    "bridge.pseudo_pairs.fused",
    "bridge.pseudo_pairs.neighbours",
    "bridge.pseudo_pairs.tables",
    "bridge.pseudo_pairs.exact",
    "bridge.pseudo_pairs.heavy",
    "bridge.pseudo_pairs.heavy_loops",
    "bridge.pseudo_pairs.in_parts",
    "bridge.pseudo_pairs.partial",
    "bridge.pseudo_pairs.retriever",
    "bridge.pseudo_pairs.sparse",
    "bridge.pseudo_pairs.tail",
    "bridge.training.training_set",
    "bridge.pseudo_pairs.weighing",
    "features.compiled",
    "features.cores",
    "features.memories.memory",
    "features.memories.row_parts",
    "features.memories.stacked_rows",
    "features.products",
    "features.search.rough",
    "features.memories.streamed_rows",
    "features.tasks",
)

_MAKERS = ("faiss-cpu", "faiss-gpu", "numba", "llvmlite", "triton")  # whose sums are ours

Tensors = tuple[Tensor, ...]


class PseudoPairsNotKept(UserWarning):
    """Pseudo pairs could not be kept, were damaged, or had to make room."""


def pairs_folder(memory: Path) -> Path:
    """Where pseudo pairs that were retrieved from a leaf memory are kept."""
    return memory.with_name(f"{memory.name}.pairs")


def kept_pairs(memory: Path) -> list[Path]:
    """The files of pseudo pairs beside a memory."""
    return sorted(pairs_folder(memory).glob("*.safetensors"))


def remembering(
    by: Retriever,
    origin: Origin | None,
    settings: TrainSettings,
    *,
    space: str,
    centre: str,
    indices: Sequence[str] = (),
    engine: str = "local",
) -> Retriever:
    """`by`, which reads from a file what it made before.

    origin: of the rows; without one nothing is kept. space: of the leaf memory that is retrieved
    from, or that pairs are centred on. centre: `hub` or `leaf`. The settings say how `by`
    retrieves, `indices` are the checksums of what it searches, and `engine` says whose processors
    compute. Warns with PseudoPairsNotKept
    where files cannot be written or are damaged.
    """
    if origin is None or not origin.keep:
        return by
    return _Remembering(by, origin, settings, space, centre, indices, engine)


@dataclass
class _Remembering:
    by: Retriever
    origin: Origin
    settings: TrainSettings
    space: str
    centre: str
    indices: Sequence[str]
    engine: str
    calls: int = 0  # pairs around leaf items are made in two

    def __call__(
        self,
        queries: Tensor,
        keys: Rows,
        values: tuple[Rows, ...],
        *,
        temperature: float,
        advance: Callable[[int], None] = lambda _: None,
    ) -> tuple[Tensor, ...]:
        self.calls += 1
        if len(queries) * len(keys) < LEAST_SCORES:
            return self.by(queries, keys, values, temperature=temperature, advance=advance)
        # Rows on the disk are retrieved in another way than those at hand.
        held = [isinstance(table, Tensor) for table in (keys, *values)]
        key = self._key(temperature, queries.device, held)
        memory = self.origin.leaf[self.space][0]
        name = f"{memory.fingerprint[:16]}-{digest(key.encode())}.safetensors"
        path = pairs_folder(memory.path) / name
        found = _read(path, key)
        if found is not None:
            advance(len(queries))
            return tuple(tensor.to(queries.device) for tensor in found)
        made = self.by(queries, keys, values, temperature=temperature, advance=advance)
        _keep(path, key, made)
        return made

    def _key(self, temperature: float, device: torch.device, held: Sequence[bool]) -> str:
        """All that the pairs depend on, as JSON."""
        # Pairs around hub items are made in one space, those around leaf items in both.
        origin = self.origin
        spaces = [self.space] if self.centre == "hub" else list(origin.hub)
        about = {
            "format": FORMAT,
            "space": self.space,
            "centre": self.centre,
            "call": self.calls,
            "hub": {one: [origin.hub[one].fingerprint, origin.rows[one]] for one in spaces},
            "leaf": {one: [memory.fingerprint for memory in origin.leaf[one]] for one in spaces},
            "retrieval": [self.settings.retrieval, *self.indices],
            "temperature": temperature,
            "held": held,
            "code": _code(),
            "machine": {**_machine(device), "engine": self.engine},
        }
        return json.dumps(about, sort_keys=True)


@cache
def _code() -> str:
    found = (find_spec(name) for name in CODE)
    files = [Path(one.origin) for one in found if one is not None and one.origin is not None]
    return digest(*(file.read_bytes() for file in files))


def _machine(device: torch.device) -> dict[str, object]:
    """What makes sums come in another order, and so end in other bits."""
    about: dict[str, object] = {
        "torch": torch.__version__,
        "versions": [_version(name) for name in _MAKERS],
        "kernels": os.environ.get("MCR_TRITON", ""),
        "products": torch.get_float32_matmul_precision(),
    }
    if device.type == "cuda":
        return {**about, "device": torch.cuda.get_device_name(device)}
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return {
        **about,
        "device": device.type,
        "able": sorted(name for name, has in able.items() if has),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
    }


@cache
def _processor() -> str:
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    return next((line for line in text.splitlines() if line.startswith("model name")), "")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _checksum(tensors: Tensors) -> str:
    checksum = xxhash.xxh3_128()
    for tensor in tensors:
        checksum.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        checksum.update(tensor.numpy().reshape(-1).view("u1").data)
    return checksum.hexdigest()


def _read(path: Path, key: str) -> Tensors | None:
    """The tensors of a file, or None if it is not there, cannot be read, or is damaged."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            about = _about(file)
            count = len(file.keys())
            tensors = tuple(file.get_tensor(str(place)).clone() for place in range(count))
    except (OSError, ValueError, SafetensorError) as error:
        _tell(f"{path} cannot be read ({' '.join(str(error).split())}): its pairs are made again")
        return None
    if about.get("key") != key or about.get("checksum") != _checksum(tensors):
        _tell(f"{path} is damaged, its content is not what was written: its pairs are made again")
        return None
    with suppress(OSError):  # others' files may be read but not touched
        os.utime(path)
    return tensors


def _about(file: Any) -> dict[str, Any]:
    about = parse_json((file.metadata() or {}).get("about", "{}"))
    if not isinstance(about, dict):
        raise ValueError("what it says of its pairs is no JSON object")
    return about


def pairs_are_whole(path: Path) -> bool:
    """Whether a file of kept pairs is what was written."""
    try:
        with safe_open(path, framework="pt") as file:
            about = _about(file)
            tensors = tuple(file.get_tensor(str(place)) for place in range(len(file.keys())))
    except (OSError, ValueError, SafetensorError):
        return False
    return bool(about.get("checksum") == _checksum(tensors))


def _keep(path: Path, key: str, made: Tensors) -> None:
    tensors = tuple(tensor.cpu().contiguous() for tensor in made)
    folder = path.parent
    if not os.access(folder if folder.exists() else folder.parent, os.W_OK):
        _tell(f"pseudo pairs are not kept: {folder} may not be written")
        return
    try:
        require_space(path, sum(tensor.nbytes for tensor in tensors))
        # What a power cut leaves half written has another checksum: there is no need to wait.
        with replacing(path, synced=False) as temporary:
            # One entry, as their order in the file is by chance.
            about = {"about": json.dumps({"key": key, "checksum": _checksum(tensors)})}
            named = {str(place): tensor for place, tensor in enumerate(tensors)}
            save_file(named, temporary, metadata=about)
        _make_room(path)
    except (OSError, UserError, SafetensorError) as error:
        _tell(f"pseudo pairs are not kept: {error}")


def _make_room(kept: Path) -> None:
    """Remove pairs of a memory that is no more, unfinished files, and the oldest of too many."""
    folder, mine = kept.parent, kept.name.partition("-")[0]
    for left in folder.glob(".*.tmp"):
        if left.stat().st_mtime < time.time() - _FORGOTTEN:
            left.unlink(missing_ok=True)
    sizes: dict[Path, tuple[float, int]] = {}
    for file in folder.glob("*.safetensors"):
        with suppress(FileNotFoundError):  # another process makes room, too
            stat = file.stat()
            sizes[file] = (stat.st_mtime, stat.st_size)
    newest = sorted(sizes, key=lambda file: (file == kept, sizes[file][0]), reverse=True)
    total, removed = 0, []
    for file in newest:
        total += sizes[file][1]
        if not file.name.startswith(f"{mine}-") or (total > MOST_BYTES and file != kept):
            total -= sizes[file][1]
            removed.append(file)
            file.unlink(missing_ok=True)
    if removed:
        freed = sum(sizes[file][1] for file in removed) / 1e6
        _tell(
            f"{len(removed)} sets of pseudo pairs ({freed:,.0f} MB) were removed from {folder}: "
            "they are of an earlier memory, or were not used for longest"
        )


def _tell(text: str) -> None:
    warnings.warn(text, PseudoPairsNotKept, stacklevel=4)
