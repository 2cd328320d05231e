"""Files that are damaged, cut off or something else are not taken for memories."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from features.errors import UserError
from features.memories.memory import Memory
from features.memories.writing import save_memory
from tests.features.helpers import changing, saved, unit_rows


@pytest.mark.parametrize("dataset", ["embeddings", "ids/utf8", "ids/offsets", "labels/utf8"])
@pytest.mark.parametrize("place", [0.0, 0.37, 0.999])
def test_a_flipped_bit_is_found(tmp_path: Path, dataset: str, place: float) -> None:
    path = tmp_path / "m.h5"
    names = [f"{i}" for i in range(50)]
    save_memory(path, unit_rows(50, 8), names, space="s", modality="text", labels=names[::-1])
    with h5py.File(path) as file:
        start, size = file[dataset].id.get_offset(), file[dataset].id.get_storage_size()
    content = bytearray(path.read_bytes())
    content[start + int(place * size)] ^= 1
    path.write_bytes(content)
    told = rf"is damaged, bytes .* of its {dataset} are not what was written"
    with pytest.raises(UserError, match=told):
        Memory(path).verify()


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.999])
def test_truncated_file_is_not_opened(tmp_path: Path, kept: float) -> None:
    path = saved(tmp_path / "m.h5").path
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    told = r"(is not a readable memory|is damaged, the checksums at its end) .*mcr extract"
    with pytest.raises(UserError, match=told):
        Memory(path)


def _foreign(path: Path, what: str) -> Path:
    if what == "folder":
        path.mkdir()
    if what == "text":
        path.write_text("no memory")
    if what == "hdf5":
        h5py.File(path, "w").close()
    if what in ("newer", "incomplete", "flat"):
        saved(path)
        with changing(path) as file:
            if what == "newer":
                file.attrs["version"] = 99
            else:
                del file["embeddings"]
            if what == "flat":
                file["embeddings"] = np.zeros(40, np.float32)
    return path


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", "does not exist: check the path"),
        ("folder", "is a folder, not a file"),
        ("text", "is not a readable memory"),
        ("hdf5", "is an HDF5 file but not a memory of mcr-bridge"),
        ("newer", "has memory format 99, this program reads up to 1: upgrade"),
        ("incomplete", "is not a readable memory"),
        ("flat", "is not a readable memory"),
    ],
)
def test_what_is_no_memory_is_refused(tmp_path: Path, what: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Memory(_foreign(tmp_path / "m.h5", what))
