"""Parquet for embedding-atlas: a memory's table with a plane, and what its viewer can show.

`embedding-atlas X.parquet --x projection_x --y projection_y --text item --neighbors neighbors`
draws `projection_x` and `projection_y`, shows a column of text beside the chosen point, and with
`neighbors` the rows nearest to it: row numbers from 0, `ids`, and `distances`, 1 - cosine. A struct
of `bytes` and `path` is shown as a picture.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import ItemError
from features.exchange.neighbors import exact_neighbors
from features.exchange.parquet import require_arrow
from features.exchange.stored import Stored
from features.exchange.write_tables import MoreColumn, write_parquet
from features.extraction.decode import read_image
from features.plane import plane

THUMBNAIL = 96  # pixels of the longer side


class PicturesMissing(UserWarning):
    """Pictures of a memory are not where they were, or cannot be read."""


def write_atlas(
    stored: Stored,
    path: Path,
    *,
    projection: str = "pca",
    neighbors: int | None = None,
    thumbnails: int = THUMBNAIL,
) -> None:
    """The columns of `write_parquet`, `projection_x` and `projection_y`, and where they apply more.

    projection: see `features.plane`. neighbors: how many of each item to write, none unless told.
    thumbnails: longer side, in pixels, of the pictures in `image`; 0 for none.
    """
    pyarrow = require_arrow(f"writing {path}")
    points = plane(stored.memory.embeddings, projection)
    more = [
        MoreColumn(f"projection_{name}", pyarrow.float32(), _slices(points[:, axis].copy()))
        for axis, name in enumerate("xy")
    ]
    if neighbors:
        more.append(_neighbors(stored, neighbors, pyarrow))
    shown = stored.memory.modality == "image" and stored.memory.header.root is not None
    if shown and thumbnails:
        images = _Thumbnails(stored, thumbnails)
        kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
        more.append(MoreColumn("image", kind, images.between))
        write_parquet(stored, path, more=more)
        images.tell()
        return
    write_parquet(stored, path, more=more)


def atlas_command(path: Path) -> str:
    """How embedding-atlas is started with a file that `write_atlas` wrote."""
    columns = require_arrow(f"reading {path}", "pyarrow.parquet").read_schema(path).names
    text = "item" if "item" in columns else "id"
    options = ["--x projection_x", "--y projection_y", f"--text {text}"]
    options += [f"--{name} {name}" for name in ("image", "neighbors") if name in columns]
    return f"embedding-atlas {path} {' '.join(options)}"


class _Thumbnails:
    """Small JPEGs of a memory's pictures, and how many cannot be made."""

    def __init__(self, stored: Stored, pixels: int) -> None:
        self._memory, self._pixels, self._missing = stored.memory, pixels, 0

    def between(self, start: int, stop: int) -> list[dict[str, Any] | None]:
        """Of the rows from `start` to `stop`."""
        return [self._of(row) for row in range(start, stop)]

    def tell(self) -> None:
        """Warn of pictures that are left out."""
        if self._missing:
            warnings.warn(
                f"{self._missing} of {len(self._memory)} pictures of {self._memory.path} cannot "
                "be read where the memory says that they are: their image is empty",
                PicturesMissing,
                stacklevel=2,
            )

    def _of(self, row: int) -> dict[str, Any] | None:
        path = self._memory.item_path(row)
        try:
            assert path is not None
            picture = read_image(path).convert("RGB")
        except ItemError:
            self._missing += 1
            return None
        picture.thumbnail((self._pixels, self._pixels))
        written = io.BytesIO()
        picture.save(written, "JPEG", quality=85)
        # The viewer knows a picture by the end of its path.
        return {"bytes": written.getvalue(), "path": f"{self._memory.ids[row]}.jpg"}


def _neighbors(stored: Stored, count: int, pyarrow: Any) -> MoreColumn:
    found = exact_neighbors(stored.memory, stored.memory, count + 1)
    assert found.distances is not None
    rows, distances = _without_self(found.rows), found.distances

    def between(start: int, stop: int) -> list[dict[str, Any]]:
        return [
            {
                "ids": rows[i][rows[i] >= 0].tolist(),
                "distances": distances[i][rows[i] >= 0].tolist(),
            }
            for i in range(start, stop)
        ]

    kind = pyarrow.struct(
        [("ids", pyarrow.list_(pyarrow.int64())), ("distances", pyarrow.list_(pyarrow.float32()))]
    )
    return MoreColumn("neighbors", kind, between)


def _without_self(rows: Any) -> Any:
    """-1 where a row is its own neighbour; the farthest one where it is not among them."""
    own = rows == np.arange(len(rows))[:, None]
    own[~own.any(axis=1), -1] = True  # of equal items, another came first
    return np.where(own, -1, rows)


def _slices(column: Any) -> Callable[[int, int], Any]:
    return lambda start, stop: column[start:stop]
