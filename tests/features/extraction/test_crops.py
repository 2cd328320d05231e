from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from features.errors import UserError
from features.extraction.crops import cut_pictures, pixel_box, windows
from features.extraction.sources import read_source


def test_windows_cover_a_picture_and_overlap_as_told():
    assert windows((1, 1), 0.5) == [(0, 0, 1, 1)]
    assert windows((2, 2), 0.0)[3] == (0.5, 0.5, 1, 1)
    spans = sorted({(left, right) for left, _, right, _ in windows((1, 3), 0.5)})
    assert spans == [(0, 0.5), (0.25, 0.75), (0.5, 1)]


def test_a_window_has_a_pixel_at_least():
    assert pixel_box((0.0, 0.0, 0.1, 1.0), 2, 3) == (0, 0, 1, 3)
    assert pixel_box((0.9, 0.0, 1.0, 1.0), 2, 3) == (1, 0, 2, 3)


def test_crops_are_the_pixels_that_the_table_says(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 14), dtype=np.uint8)
    (tmp_path / "pictures").mkdir()
    Image.fromarray(pixels).save(tmp_path / "pictures" / "a.png")
    (tmp_path / "pictures" / "bad.png").write_bytes(b"no picture")
    source = read_source(str(tmp_path / "pictures"), "image")
    failures = cut_pictures(source, tmp_path / "crops", grid=(2, 3), overlap=0.5)
    assert [one.id for one in failures] == ["bad.png"]
    with (tmp_path / "crops" / "regions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    for row in rows:
        assert row["image"] == "a.png"
        edges = [float(row[name]) for name in ("left", "top", "right", "bottom")]
        left, top, right, bottom = np.round(np.array(edges) * [14, 9, 14, 9]).astype(int)
        crop = np.asarray(Image.open(tmp_path / "crops" / row["path"]).convert("L"))
        assert np.array_equal(crop, pixels[top:bottom, left:right])
    # What extraction takes.
    assert len(read_source(str(tmp_path / "crops" / "regions.csv"), "image").items) == 6
    with pytest.raises(UserError, match="exists: pass --overwrite"):
        cut_pictures(source, tmp_path / "crops", grid=(2, 3))


@pytest.mark.parametrize(("grid", "overlap"), [((0, 2), 0.0), ((2, 2), 1.0), ((2, 2), -0.1)])
def test_windows_that_cannot_be_cut_are_refused(grid, overlap, tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    source = read_source(str(tmp_path), "image")
    with pytest.raises(UserError, match="cannot be cut: give 1 x 1 or more, and an overlap from 0"):
        cut_pictures(source, tmp_path / "crops", grid=grid, overlap=overlap)
