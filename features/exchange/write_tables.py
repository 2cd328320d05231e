"""Writing Parquet, and the folder that clip-retrieval reads; see `clip_retrieval`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import UserError
from features.exchange.clip_retrieval import EMBEDDINGS, METADATA
from features.exchange.parquet import require_arrow
from features.exchange.stored import Stored
from features.exchange.write_files import write_array
from features.files import coming_folder, move_folder, replacing
from features.memories.strings import StringColumn

if TYPE_CHECKING:
    from collections.abc import Mapping

SHARD_ROWS = 1_000_000
_SINGULAR = {"ids": "id", "items": "item", "labels": "label"}


@dataclass(frozen=True)
class MoreColumn:
    """A column beside those of the memory: its Arrow type, and its values from row to row."""

    name: str
    type: Any
    between: Callable[[int, int], Any]


def write_parquet(stored: Stored, path: Path, *, more: Sequence[MoreColumn] = ()) -> None:
    """The columns `id`, `item`, `label`, the metadata, `more`, and `embedding`, of d numbers.

    The file's metadata say space, modality, encoder and fingerprint.
    """
    pyarrow = require_arrow(f"writing {path}")
    parquet = require_arrow(f"writing {path}", "pyarrow.parquet")
    columns = {_SINGULAR.get(name, name): _arrow(one) for name, one in stored.columns.items()}
    value = pyarrow.from_numpy_dtype(stored.dtype)
    width = stored.shape[1]
    fields = [*((name, pyarrow.string()) for name in columns)]
    fields += [*((m.name, m.type) for m in more), ("embedding", pyarrow.list_(value, width))]
    schema = pyarrow.schema(fields)
    with (
        replacing(path) as temporary,
        parquet.ParquetWriter(
            temporary,
            schema.with_metadata(stored.about),
            use_dictionary=[name for name in columns if name == "label"],
            write_statistics=list(columns),
        ) as writer,
    ):
        start = 0
        for block in stored.blocks():
            vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(block.ravel()), width)
            stop = start + len(block)
            texts = [one[start:stop].cast("string") for one in columns.values()]
            others = [pyarrow.array(one.between(start, stop), one.type) for one in more]
            writer.write_batch(
                pyarrow.record_batch([*texts, *others, vectors], schema=writer.schema),
            )
            start = stop


def write_clip_retrieval(stored: Stored, path: Path, *, shard_rows: int = SHARD_ROWS) -> None:
    """A folder with shards of embeddings and of metadata.

    The metadata have the columns `id`, `image_path` (of images) or `caption` (of texts),
    `label`, and those of the memory. The folder takes its place when it is complete. Raises
    UserError for other modalities, or if `path` is a folder with anything else in it.
    """
    kind = EMBEDDINGS.get(stored.memory.modality)
    if kind is None:
        raise UserError(
            f"{stored.memory.path} holds {stored.memory.modality} and clip-retrieval's folders "
            "hold images and texts: export a .parquet file"
        )
    metadata = _metadata(stored)
    starts = range(0, stored.shape[0], shard_rows)
    digits = len(str(len(starts)))  # as clip-retrieval pads the numbers
    _require_own(path)
    with coming_folder(path.parent, path.name) as temporary:
        (temporary / kind).mkdir()
        (temporary / METADATA).mkdir()
        for number, start in enumerate(starts):
            stop = min(start + shard_rows, stored.shape[0])
            name = f"{number:0{digits}d}"
            with (temporary / kind / f"{kind}_{name}.npy").open("wb") as file:
                write_array(stored, file, start, stop)
            table = temporary / METADATA / f"{METADATA}_{name}.parquet"
            _write_table({k: v[start:stop] for k, v in metadata.items()}, table)
        if path.exists():
            shutil.rmtree(path)
        move_folder(temporary, path)


def _metadata(stored: Stored) -> dict[str, Any]:
    memory, columns = stored.memory, stored.columns
    items = columns.get("items", columns["ids"])
    if memory.modality == "text":
        shown = {"caption": _arrow(items)}
    else:
        paths = (memory.item_path(row) or Path(memory.items[row]) for row in range(len(memory)))
        shown = {"image_path": _arrow(StringColumn.of(map(str, paths)))}
    labels = {"label": _arrow(columns["labels"])} if "labels" in columns else {}
    further = {name: _arrow(one) for name, one in stored.metadata.items()}
    return {"id": _arrow(columns["ids"]), **shown, **labels, **further}


def _write_table(columns: Mapping[str, Any], path: Path) -> None:
    pyarrow = require_arrow(f"writing {path}")
    parquet = require_arrow(f"writing {path}", "pyarrow.parquet")
    texts = {name: one.cast("string") for name, one in columns.items()}
    parquet.write_table(pyarrow.table(texts), path)


def _require_own(path: Path) -> None:
    """Nothing but a folder of clip-retrieval is replaced."""
    if path.is_dir():
        others = {one.name for one in path.iterdir()} - {*EMBEDDINGS.values(), METADATA}
        if others:
            raise UserError(
                f"{path} also holds {min(others)}, which replacing it would delete: choose another "
                "output"
            )


def _arrow(column: StringColumn) -> Any:
    """A column as an array of Arrow's large strings, over the same bytes."""
    pyarrow = require_arrow("a table")
    buffers = [None, *(pyarrow.py_buffer(np.ascontiguousarray(one)) for one in
                       (column.offsets, column.utf8))]  # fmt: skip
    return pyarrow.LargeStringArray.from_buffers(len(column), *buffers[1:])
