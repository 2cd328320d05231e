"""What an HDF5 file that anybody may have written must not do, checked before it is read.

HDF5 takes a dataset from another file by a link, a virtual dataset or external storage; a dataset
of strings of any length is pointers in memory; and a few bytes can claim any number of values, or
make the library go in circles.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

from features.apart import LostError, call_apart

_PACKED = 1032  # bytes that a byte of a compressed dataset stands for at most, by deflate
_DEEPEST = 3  # of groups that are read; HDF5 lets a group hold itself
MOST_MEMBERS = 100_000
_NUMBERS = "fiub"
_APART = "features.hdf5_apart"


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
            if seen > MOST_MEMBERS:
                raise ValueError(f"it has more than {MOST_MEMBERS} groups and datasets")
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


def put_text(group: Any, name: str, text: str) -> None:
    """Store a text as an attribute of a file or group, of fixed length: see `texts_of`."""
    import h5py

    held = text.encode()
    group.attrs.create(name, held, dtype=h5py.string_dtype("utf-8", max(1, len(held))))


def texts_of(group: Any, path: Path, names: Collection[str]) -> dict[str, str]:
    """Those of the attributes `names` of a file or group that are there and are texts.

    Text of any length, as other programs and earlier versions write it, lies in a heap, around
    which HDF5 2.0 runs forever if a file is made for it: a process that can be ended reads it
    first. Raises ValueError if that fails, or a text is not UTF-8.
    """
    import h5py

    texts: dict[str, str] = {}
    anywhere: list[str] = []
    for place in range(h5py.h5a.get_num_attrs(group.id)):
        attribute = h5py.h5a.open(group.id, index=place)
        kind, name = attribute.get_type(), attribute.name.decode(errors="replace")
        if (
            name not in names
            or not isinstance(kind, h5py.h5t.TypeStringID)
            or attribute.shape != ()
        ):
            continue
        if kind.is_variable_str():
            anywhere.append(name)
        else:
            texts[name] = bytes(group.attrs[name]).decode()
    return texts | (_texts_apart(group.name, path, anywhere) if anywhere else {})


def _texts_apart(group: str, path: Path, names: list[str]) -> dict[str, str]:
    try:
        told: dict[str, str] = call_apart(_APART, "read_texts", str(path.absolute()), group, *names)
    except LostError as error:
        raise ValueError(f"HDF5 cannot read its attributes {', '.join(names)}") from error
    for text in told.values():
        text.encode()  # h5py gives what is not UTF-8 as half characters
    return told


def require_sound(path: Path) -> None:
    """Raise ValueError if HDF5 crashes on a file, or runs forever, on what lies around its rows."""
    try:
        call_apart(_APART, "touch_all", str(path.absolute()))
    except LostError as error:
        raise ValueError("HDF5 cannot read its structure") from error


def _name(one: Any) -> str:
    return str(getattr(one, "name", None) or "array").removeprefix("/")
