"""The folder that clip-retrieval writes: `img_emb/img_emb_0.npy`, `metadata/metadata_0.parquet`.

Texts lie in `text_emb`. Shards are joined in the order of their numbers. The metadata's columns
are `image_path`, `caption` and whatever the data set had.

Axes: n rows, d dimensions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import UserError
from features.exchange.arrays import open_npy
from features.exchange.embedding_file import EmbeddingFile
from features.exchange.parquet import ParquetColumns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from features.space import Modality

EMBEDDINGS = {"image": "img_emb", "text": "text_emb"}  # by modality
METADATA = "metadata"


def open_folder(path: Path, modality: Modality, key: str | None) -> EmbeddingFile:
    """All shards of one kind of embeddings in a clip-retrieval folder.

    key: img_emb or text_emb, if not the one of `modality`. Raises UserError for shards that are
    missing, of different widths, or whose rows are not as many as their metadata's.
    """
    kind = key or EMBEDDINGS.get(modality, "")
    if kind not in EMBEDDINGS.values():
        raise UserError(
            f"{path} is a folder of clip-retrieval, which holds img_emb and text_emb, not "
            f"{kind or modality}: choose one with --key"
        )
    shards = _shards(path / kind, kind, ".npy")
    if not shards:
        present = sorted(one.name for one in path.iterdir())[:5]
        raise UserError(
            f"{path} has no {kind}/{kind}_0.npy as clip-retrieval writes it, it has "
            f"{', '.join(present) or 'nothing'}: give one file, or such a folder"
        )
    files = [open_npy(file) for file in shards.values()]
    for file in files:
        if file.dimension != files[0].dimension:
            raise UserError(
                f"{file.path} has rows of {file.dimension} numbers but {files[0].path} has "
                f"{files[0].dimension}: give shards of one model"
            )
    columns = _metadata(path, shards, files)
    dtype = np.result_type(*(file.dtype for file in files))

    def blocks() -> Iterator[NDArray[Any]]:
        for file in files:
            for block in file.blocks():
                yield block.astype(dtype, copy=False)

    rows = sum(file.rows for file in files)
    return EmbeddingFile(path, rows, files[0].dimension, dtype, blocks, columns)


def _metadata(
    path: Path, shards: dict[int, Path], files: Sequence[EmbeddingFile]
) -> ParquetColumns | None:
    tables = _shards(path / METADATA, METADATA, ".parquet")
    if not tables:
        return None
    if tables.keys() != shards.keys():
        odd = min(tables.keys() ^ shards.keys())
        raise UserError(
            f"{path} has {len(shards)} shards of embeddings and {len(tables)} of metadata, number "
            f"{odd} is in one of them alone: complete the folder"
        )
    columns = ParquetColumns(path / METADATA, list(tables.values()))
    for table, count, file in zip(columns.files, columns.counts, files, strict=True):
        if count != file.rows:
            raise UserError(
                f"{table} has {count} rows but {file.path} has {file.rows}: they are not of one "
                "run, copy the folder again"
            )
    return columns


def _shards(folder: Path, stem: str, suffix: str) -> dict[int, Path]:
    """Files `stem_NUMBER.suffix` in the order of their numbers."""
    pattern = re.compile(rf"{stem}_(\d+){re.escape(suffix)}")
    found: dict[int, Path] = {}
    for file in sorted(folder.glob(f"{stem}_*{suffix}")):
        match = pattern.fullmatch(file.name)
        if match and found.setdefault(int(match[1]), file) != file:
            raise UserError(
                f"{file} and {found[int(match[1])]} have the same number: remove one of them"
            )
    return dict(sorted(found.items()))
