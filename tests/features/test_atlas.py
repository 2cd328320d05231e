"""What embedding-atlas finds in an exported file: a plane, neighbours and pictures."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from features.errors import UserError
from features.exchange.atlas import PicturesMissing, atlas_command
from features.exchange.exporting import export_memory
from features.memories.memory import Columns, Memory, MemoryHeader
from features.memories.writing import write_memory
from features.plane import plane
from tests.features.helpers import unit_rows

parquet = pytest.importorskip("pyarrow.parquet", exc_type=ImportError)

PICTURES = 5


def pictures(folder: Path, *, missing: int | None = None) -> Memory:
    """A memory of pictures of one colour each, 40 x 20."""
    for number in range(PICTURES):
        if number != missing:
            Image.new("RGB", (40, 20), (50 * number, 0, 0)).save(folder / f"{number}.png")
    header = MemoryHeader("s", "image", 6, "float16", {"name": "e"}, root=str(folder))
    columns = Columns(
        [f"id {n}" for n in range(PICTURES)],
        [f"{n}.png" for n in range(PICTURES)],
        [str(n % 2) for n in range(PICTURES)],
    )
    return write_memory(folder / "m.h5", header, columns, [unit_rows(PICTURES, 6)])


def test_pictures_come_with_their_plane_and_thumbnails(tmp_path):
    memory, out = pictures(tmp_path), tmp_path / "m.parquet"
    assert export_memory(memory, out, format="atlas", thumbnails=10) == []
    table = parquet.read_table(out).to_pydict()
    assert list(table) == [
        "id", "item", "label", "projection_x", "projection_y", "image", "embedding"
    ]  # fmt: skip
    assert table["id"] == list(memory.ids)
    points = np.stack([table["projection_x"], table["projection_y"]], axis=1)
    np.testing.assert_array_equal(points.astype(np.float32), plane(memory.embeddings))
    np.testing.assert_array_equal(
        np.array(table["embedding"], dtype=np.float16), np.asarray(memory.embeddings)
    )
    for number, image in enumerate(table["image"]):
        assert image["path"] == f"id {number}.jpg"
        opened = Image.open(io.BytesIO(image["bytes"]))
        assert (opened.format, opened.size) == ("JPEG", (10, 5))
        assert opened.getpixel((5, 2))[0] == pytest.approx(50 * number, abs=3)


def test_without_thumbnails_there_is_no_column_of_pictures(tmp_path):
    export_memory(pictures(tmp_path), tmp_path / "m.parquet", format="atlas", thumbnails=0)
    assert "image" not in parquet.read_schema(tmp_path / "m.parquet").names


def test_a_picture_that_is_gone_is_told_and_empty(tmp_path):
    memory = pictures(tmp_path, missing=2)
    with pytest.warns(PicturesMissing, match=r"^1 of 5 pictures of .*m\.h5 cannot be read where"):
        export_memory(memory, tmp_path / "m.parquet", format="atlas")
    images = parquet.read_table(tmp_path / "m.parquet").to_pydict()["image"]
    assert [image is None for image in images] == [False, False, True, False, False]


def test_neighbours_are_the_nearest_other_rows(tmp_path):
    memory = pictures(tmp_path)
    export_memory(memory, tmp_path / "m.parquet", format="atlas", neighbors=3)
    found = parquet.read_table(tmp_path / "m.parquet").to_pydict()["neighbors"]
    rows = np.asarray(memory.embeddings, dtype=np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    far = 1 - rows @ rows.T
    np.fill_diagonal(far, np.inf)
    for row, near in enumerate(found):
        expected = far[row].argsort()[:3]
        assert near["ids"] == expected.tolist()
        assert near["distances"] == pytest.approx(far[row][expected].tolist(), abs=1e-6)


def test_equal_items_are_neighbours_of_each_other_and_none_of_itself(tmp_path):
    rows = np.repeat(unit_rows(1, 4), 6, axis=0)
    header = MemoryHeader("s", "text", 4, "float32")
    memory = write_memory(tmp_path / "m.h5", header, Columns(list("abcdef")), [rows])
    export_memory(memory, tmp_path / "m.parquet", format="atlas", neighbors=2)
    found = parquet.read_table(tmp_path / "m.parquet").to_pydict()["neighbors"]
    assert all(len(near["ids"]) == 2 and row not in near["ids"] for row, near in enumerate(found))


def test_the_command_names_the_columns_that_there_are(tmp_path):
    out = tmp_path / "m.parquet"
    export_memory(pictures(tmp_path), out, format="atlas", neighbors=1)
    axes = "--x projection_x --y projection_y"
    assert atlas_command(out) == (
        f"embedding-atlas {out} {axes} --text item --image image --neighbors neighbors"
    )
    header = MemoryHeader("s", "text", 4, "float32")
    write_memory(tmp_path / "t.h5", header, Columns(list("abc")), [unit_rows(3, 4)])
    export_memory(Memory(tmp_path / "t.h5"), tmp_path / "t.parquet", format="atlas")
    assert atlas_command(tmp_path / "t.parquet") == (
        f"embedding-atlas {tmp_path / 't.parquet'} {axes} --text id"
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"format": "atlas", "projection": "tsne"}, "no projection 'tsne': choose pca or umap"),
        ({"format": "atlas", "dtype": "float16"}, "atlas holds float32, not float16"),
        ({"projection": "pca"}, "parquet has no place for --projection: use --format atlas"),
        ({"thumbnails": 8}, "parquet has no place for --thumbnails: use --format atlas"),
    ],
)
def test_options_that_do_not_fit_are_a_sentence(tmp_path, options, told):
    with pytest.raises(UserError, match=told):
        export_memory(pictures(tmp_path), tmp_path / "m.parquet", **options)
    assert not (tmp_path / "m.parquet").exists()
