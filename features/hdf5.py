"""What an HDF5 file that anybody may have written must not do, checked before it is read.

HDF5 takes a dataset from another file by a link, a virtual dataset or external storage; a dataset
of strings of any length is pointers in memory; and a few bytes can claim any number of values.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

_PACKED = 1032  # bytes that a byte of a compressed dataset stands for at most, by deflate
_DEEPEST = 3  # of groups that are read; HDF5 lets a group hold itself
_MOST_MEMBERS = 100_000
_NUMBERS = "fiub"


def refuse_links(file: Any) -> None:
    """Raise ValueError if an open h5py file has links in place of groups and datasets of its own.

    Nothing is followed, so that no other file is opened.
    """
    import h5py

    waiting = [(file, 0)]
    seen = 0
    while waiting:
        group, depth = waiting.pop()
        for name in group:
            seen += 1
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"its {name} is a link, and links are not followed")
            if seen > _MOST_MEMBERS:
                raise ValueError(f"it has more than {_MOST_MEMBERS} groups and datasets")
            if depth < _DEEPEST and isinstance(member := group[name], h5py.Group):
                waiting.append((member, depth + 1))


def require_numbers(dataset: Any, path: Path) -> None:
    """Raise ValueError unless an h5py dataset holds numbers, all of them in the file itself."""
    import h5py

    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise ValueError(f"its {_name(dataset)} is not an array")
    if dataset.dtype.kind not in _NUMBERS:  # never mapped: objects would be pointers of the file's
        raise ValueError(f"its {_name(dataset)} holds {dataset.dtype}, not numbers")
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"its {_name(dataset)} is stored in other files, which are not read")
    claimed, held = math.prod(dataset.shape) * dataset.dtype.itemsize, stored_bytes(dataset, path)
    if claimed > held:
        raise ValueError(f"its {_name(dataset)} claims {claimed} bytes, the file has {held} of it")


def stored_bytes(dataset: Any, path: Path) -> int:
    """The most bytes that what a file holds of a dataset can stand for."""
    stored = min(int(dataset.id.get_storage_size()), path.stat().st_size)
    return stored * _PACKED if dataset.id.get_create_plist().get_nfilters() else stored


def _name(one: Any) -> str:
    return str(getattr(one, "name", None) or "array").removeprefix("/")
