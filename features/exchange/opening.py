"""Opening a file of embeddings by its suffix, or a folder of clip-retrieval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from features.errors import UserError
from features.exchange.arrays import open_npy, open_npz
from features.exchange.clip_retrieval import open_folder
from features.exchange.embedding_file import EmbeddingFile
from features.exchange.hdf5 import open_hdf5
from features.exchange.parquet import open_parquet
from features.exchange.raw_files import BIG_ANN, open_big_ann, open_safetensors
from features.files import require_file

if TYPE_CHECKING:
    from features.space import Modality

HDF5 = (".hdf5", ".h5")
_BY_KEY = {
    ".npz": open_npz,
    ".safetensors": open_safetensors,
    ".parquet": open_parquet,
    **dict.fromkeys(HDF5, open_hdf5),
}
_NO_EMBEDDINGS = {
    ".ibin": "holds the numbers of neighbours",
    ".u8bin": "holds bytes",
    ".i8bin": "holds bytes",
    ".pt": "may hold Python objects, which could run code when they are read",
    ".pkl": "may hold Python objects, which could run code when they are read",
}
_SUFFIXES = (".npy", *_BY_KEY, *BIG_ANN)


def open_embeddings(
    source: str | Path, modality: Modality, *, key: str | None = None
) -> EmbeddingFile:
    """Open a .npy, .npz, .safetensors, .parquet, .hdf5, .fbin or .f16bin file, or a folder.

    key: of a file with several arrays, tensors, datasets or columns, the embeddings' name.
    Raises UserError if there are no embeddings in it.
    """
    path = Path(source)
    if path.is_dir():
        return open_folder(path, modality, key)
    suffix = require_file(path, "embeddings").suffix.lower()
    if suffix in _NO_EMBEDDINGS:
        raise UserError(
            f"{path} {_NO_EMBEDDINGS[suffix]}, not embeddings: give a file of floats, such as "
            f"{', '.join(_SUFFIXES)}"
        )
    if suffix in _BY_KEY:
        return _BY_KEY[suffix](path, key)
    if suffix not in _SUFFIXES:
        raise UserError(
            f"{path} is of no kind that can be imported: give a {', '.join(_SUFFIXES)} file, or a "
            "folder of clip-retrieval"
        )
    if key is not None:
        raise UserError(f"{path} holds one array, --key {key} does not apply: leave it out")
    return open_npy(path) if suffix == ".npy" else open_big_ann(path)
