"""HDF5 files of this project, changed by somebody who knows of their checksums.

Who can change such a file can also leave its checksums out, as files of earlier versions have none,
or write the right ones. Neither may lead past the guards that lie behind.
"""

from __future__ import annotations

import io
import json
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
import xxhash

from features.hdf5 import put_text
from features.sums import Data, append_sums

_MARK = "checksums"
_FOOTER = struct.Struct("<QQQ16s")


def edited(content: bytes, change: Callable[[Any], None]) -> bytes:
    """The file after a change of what it holds, without checksums."""
    held = io.BytesIO(content)
    with h5py.File(held, "r+") as file:
        file.attrs.pop(_MARK, None)
        change(file)
    return held.getvalue()


def summed(content: bytes) -> bytes:
    """The file with right checksums behind it."""
    found: list[Data] = []

    def visit(name: str, item: Any) -> None:
        place = item.id.get_offset() if isinstance(item, h5py.Dataset) else None
        if place is not None:
            found.append(Data(name, place, item.id.get_storage_size()))

    with h5py.File(io.BytesIO(content), "r") as file:
        file.visititems(visit)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "summed.h5"
        path.write_bytes(content)
        append_sums(path, found)
        return path.read_bytes()


def with_table(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The file with another table of what its checksums are of, and the right checksum of that."""
    length, rest, _, form = _FOOTER.unpack(content[-_FOOTER.size :])
    start = len(content) - _FOOTER.size - rest - length
    digests = content[start : start + length]
    told = change(content[start + length : -_FOOTER.size])
    footer = _FOOTER.pack(length, len(told), xxhash.xxh3_64_intdigest(digests + told), form)
    return content[:start] + digests + told + footer


def change_something(file: Any, random: Random) -> None:
    """Write another attribute, or another dataset, into an open file."""
    names: list[str] = []
    file.visit(names.append)
    if file.attrs and random.random() < 0.3:
        name = random.choice(list(file.attrs))
        told = (0, -1, "", "a", "[" * 5000, "{}", "null", 2**40, json.dumps({"names": [1]}),
                np.zeros(3), b"\xff", h5py.Empty("f4"))  # fmt: skip
        value = random.choice(told)
        if isinstance(value, str) and random.random() < 0.99:  # others are read by a process apart
            put_text(file, name, value)
        else:
            file.attrs[name] = value
    elif names:
        _replace(file, random.choice(names), random)


def _replace(file: Any, name: str, random: Random) -> None:
    old = file[name]
    data = old[...] if isinstance(old, h5py.Dataset) and old.size < 10_000 else np.zeros(4)
    del file[name]
    way = random.randrange(13)
    if way == 0:
        file[name] = h5py.SoftLink(random.choice(("/", name, "/ids", "/x/y")))
    elif way == 1:
        file[name] = h5py.ExternalLink(random.choice(("other.h5", "/etc/passwd")), "/ids")
    elif way == 2:
        packed = {"chunks": True, "compression": random.choice((None, "gzip"))}
        file.create_dataset(name, data=data, **(packed if data.ndim and data.size else {}))
    elif way == 3:
        file.create_dataset(name, (random.choice((0, 9, 2**33)), 4), random.choice(("f2", "f4")),
                            chunks=(1000, 4))  # fmt: skip
    elif way == 4:
        file[name] = data.astype(random.choice(("f8", "i1", "S4", "u8", "?", ">i8", ">f4")))
    elif way == 5:
        file.create_dataset(name, data=["a", "b"], dtype=h5py.string_dtype())
    elif way == 6:
        file[name] = random.choice((0, 1.5, b"a"))
    elif way == 7:
        file[name] = data.reshape(-1)[: random.randrange(data.size + 1)]
    elif way == 8:
        file[name] = np.zeros(3, [("a", "f4"), ("b", "i8")])
    elif way == 9:
        file.create_dataset(name, (8,), "f4", external=[("other.bin", 0, 32)])
    elif way == 10:
        file[name] = h5py.Empty("f4")
    elif way == 11 and data.size and data.dtype.kind in "iu":
        file[name] = data * random.choice((-1, 0, 2, 2**40)) + random.choice((0, 1, -5))
    else:
        file.create_group(name)
