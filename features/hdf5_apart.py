"""What HDF5 may crash on or run forever, as a process apart does it: see `features.hdf5`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py

from features.hdf5 import MOST_MEMBERS, require_numbers


def read_texts(path: str, group: str, *names: str) -> dict[str, str]:
    """Those of the attributes of a group that are texts."""
    with h5py.File(path, "r") as file:
        held = file[group].attrs
        return {name: held[name] for name in names if isinstance(held[name], str)}


def touch_all(path: str) -> None:
    """Touch all that lies around the rows. What HDF5 says of it is left to the one who reads it."""
    with suppress(Exception), h5py.File(path, "r") as file:
        datasets: list[Any] = []

        def visit(_: str, one: Any) -> bool | None:
            if isinstance(one, h5py.Dataset):
                datasets.append(one)
            return len(datasets) > MOST_MEMBERS or None

        file.visititems(visit)
        for one in datasets:
            with suppress(Exception):
                require_numbers(one, Path(path))
                if one.shape and one.size:
                    _ = one[:1], one[-1:]
