"""Good files become arrays; bad ones become a reason, never a crash."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from features.encoders.mini.config import MiniConfig
from features.encoders.mini.inputs import MiniInput
from features.errors import ItemError
from features.extraction.decode import read_audio, read_image, read_points, read_text
from features.extraction.decode_batches import decode_batches

CLOUD = np.arange(60, dtype=np.float32).reshape(20, 3)


def _png(**options: Any) -> bytes:
    file = io.BytesIO()
    pixels = np.arange(600, dtype=np.uint8).reshape(20, 30)
    Image.fromarray(pixels).save(file, "png", **options)
    return file.getvalue()


def _npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "gif", "webp"])
def test_image_formats_keep_their_pixels(tmp_path: Path, suffix: str) -> None:
    pixels = np.arange(600, dtype=np.uint8).reshape(20, 30)
    path = tmp_path / f"i.{suffix}"
    Image.fromarray(pixels).save(path, **({"lossless": True} if suffix == "webp" else {}))
    image = read_image(path)
    assert image.size == (30, 20)
    np.testing.assert_allclose(np.asarray(image.convert("L"), int), pixels, atol=1)


def test_image_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise
    path = _put(tmp_path, "i.png", _png(exif=exif))
    image = read_image(path)
    assert image.size == (20, 30)
    expected = np.rot90(np.arange(600, dtype=np.uint8).reshape(20, 30), k=-1)
    np.testing.assert_array_equal(np.asarray(image), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_pictures_of_every_mode_become_grey_levels(tmp_path: Path, mode: str) -> None:
    grey = Image.new("L", (32, 16), 255)
    if mode == "I;16":
        picture = Image.fromarray(np.full((16, 32), 32_768, dtype=np.uint16))
    else:
        picture = grey.convert(mode)
    path = tmp_path / "i.tiff"
    picture.save(path)
    config = MiniConfig("m", ("image",), image_height=16, image_width=32)
    array = MiniInput(config, "image")(path)
    assert array.shape == (16, 32)
    assert array.dtype == np.uint8
    np.testing.assert_allclose(array.astype(int), 128 if mode == "I;16" else 255, atol=1)


@pytest.mark.parametrize(
    "content",
    [b"", b"no image", _png()[:60], _png()[:-30], b"\x89PNG\r\n\x1a\n" + b"\0" * 40],
    ids=["empty", "text", "header only", "cut off", "broken header"],
)
def test_bad_image_is_an_item_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ItemError, match="cannot be decoded as an image") as error:
        read_image(_put(tmp_path, "i.png", content))
    assert "\n" not in str(error.value)


def test_missing_image_is_an_item_error(tmp_path: Path) -> None:
    with pytest.raises(ItemError, match="No such file"):
        read_image(tmp_path / "none.png")


def test_sound_is_mono_at_the_wanted_rate(tmp_path: Path) -> None:
    time = np.arange(44_100) / 44_100
    stereo = np.stack([np.sin(2 * np.pi * 440 * time), np.zeros(44_100)], axis=1) * 0.8
    soundfile.write(tmp_path / "s.wav", stereo, 44_100, subtype="FLOAT")
    samples = read_audio(tmp_path / "s.wav", 8000)
    assert samples.dtype == np.float32
    assert len(samples) == 8000
    expected = 0.4 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    np.testing.assert_allclose(samples[200:-200], expected[200:-200], atol=1e-3)


def test_sound_at_the_wanted_rate_is_unchanged(tmp_path: Path) -> None:
    samples = np.linspace(-1, 1, 100, dtype=np.float32)
    soundfile.write(tmp_path / "s.wav", samples, 8000, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "s.wav", 8000), samples)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(0), "the sound has 0 samples, needs at least 2"),
        (np.zeros(1), "the sound has 1 sample, needs at least 2"),
        (np.array([0.1, np.nan, 0.2]), "NaN or infinite"),
        (np.array([[0.1, 0.1], [np.inf, 0.0]]), "NaN or infinite"),
    ],
)
def test_unusable_sound_says_why(tmp_path: Path, samples: Any, message: str) -> None:
    soundfile.write(tmp_path / "s.wav", samples, 8000, subtype="FLOAT")
    with pytest.raises(ItemError, match=message):
        read_audio(tmp_path / "s.wav", 8000)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"no sound"])
def test_bad_sound_is_an_item_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ItemError, match="cannot be decoded as a sound"):
        read_audio(_put(tmp_path, "s.wav", content), 8000)


def test_sound_too_short_for_the_wanted_rate_is_an_item_error(tmp_path: Path) -> None:
    make = MiniInput(MiniConfig("m", ("audio",)), "audio")
    soundfile.write(tmp_path / "long.wav", np.full(960, 0.5), 96_000)
    assert make(tmp_path / "long.wav").max() == 1
    soundfile.write(tmp_path / "short.wav", np.full(3, 0.5), 96_000)
    with pytest.raises(ItemError, match="sample"):
        make(tmp_path / "short.wav")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.npz", _npz(xyz=CLOUD, rgb=CLOUD)),
        ("c.npz", _npz(cloud=CLOUD)),
        ("c.npy", _npy(np.concatenate([CLOUD, CLOUD], axis=1))),
        ("c.npy", _npy(CLOUD.astype(np.float64))),
        ("c.npy", _npy(CLOUD.astype(np.int32))),
        ("c.xyz", "\n".join(" ".join(map(str, row)) + " 9" for row in CLOUD.tolist()).encode()),
    ],
)
def test_point_clouds_give_their_coordinates(tmp_path: Path, name: str, content: bytes) -> None:
    cloud = read_points(_put(tmp_path, name, content), min_points=20)
    assert cloud.dtype == np.float32
    np.testing.assert_array_equal(cloud, CLOUD)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.npz", _npz(xyz=np.where(CLOUD == 4, np.nan, CLOUD)), "1 of 20 points are NaN"),
        ("c.npz", _npz(xyz=CLOUD[:19]), "has 19 points, needs at least 20"),
        ("c.npz", _npz(xyz=CLOUD.T), r"array \(n, 3\), this one is \(3, 20\)|3 points"),
        ("c.npy", _npy(CLOUD[:, :2]), r"array \(n, 3\), this one is \(20, 2\)"),
        ("c.npy", _npy(CLOUD.ravel()), r"array \(n, 3\), this one is \(60,\)"),
        ("c.npy", _npy(np.array([["a", "b", "c"]] * 20)), "holds numbers, this one has type <U1"),
        ("c.npy", _npy(np.array([{}, {}, {}])), "cannot be read .*allow_pickle"),
        ("c.npz", _npz(xyz=np.array([{}])), "cannot be read .*allow_pickle"),
        ("c.npz", _npz(a=CLOUD, b=CLOUD), "no array named xyz among a, b"),
        ("c.npz", _npz(), "no array named xyz among none"),
        ("c.npz", _npz(xyz=CLOUD)[:-40], "cannot be read as a point cloud"),
        ("c.npz", _npz(xyz=CLOUD)[:100], "cannot be read as a point cloud"),
        ("c.npy", _npy(CLOUD)[:-40], "cannot be read as a point cloud"),
        ("c.npy", b"", "cannot be read as a point cloud"),
        ("c.xyz", b"1 2 three", "cannot be read as a point cloud"),
        ("c.xyz", b"", "point cloud"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*input contained no data")
def test_unusable_cloud_says_why(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(ItemError, match=message):
        read_points(_put(tmp_path, name, content), min_points=20)


def test_real_clouds_and_photos_are_read(digits_folder: Path) -> None:
    objects = digits_folder.parent / "objaverse3"
    assert read_points(objects / "toilet.npz", min_points=1).shape == (10_000, 3)
    assert len(read_audio(objects / "train.wav", 8000)) > 8000
    assert min(read_image(objects / "BBQ.jpeg").size) > 32


def test_text_file_is_one_text(tmp_path: Path) -> None:
    assert read_text(_put(tmp_path, "t.txt", "  a dög\nruns \n".encode())) == "a dög\nruns"


@pytest.mark.parametrize(
    ("content", "message"), [(b" \n", "the text is empty"), (b"\xff", "cannot be read as UTF-8")]
)
def test_bad_text_is_an_item_error(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ItemError, match=message):
        read_text(_put(tmp_path, "t.txt", content))


def _explode(item: str | Path) -> np.ndarray:
    if item == "odd":
        raise RuntimeError("two\n lines")
    return np.array([len(str(item))])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("make", [_explode])
def test_batches_come_in_order_and_any_exception_is_kept(
    workers: int, make: Callable[..., Any]
) -> None:
    batches = [["x" * i for i in range(b, b + 40)] + ["odd"] for b in range(6)]
    decoded = list(decode_batches(make, batches, workers=workers))
    assert [[int(one[0]) for one in batch[:-1]] for batch in decoded] == [
        list(range(b, b + 40)) for b in range(6)
    ]
    assert [str(batch[-1]) for batch in decoded] == ["RuntimeError: two lines"] * 6


def test_a_sound_of_unknown_length_that_is_damaged_is_no_sound(tmp_path):
    path = tmp_path / "unknown.flac"
    soundfile.write(path, np.zeros(500, np.float32), 8000)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the number of frames, which may be left out
    content[22:26] = bytes(4)
    path.write_bytes(content[:60])
    with pytest.raises(ItemError, match="cannot be decoded as a sound"):
        read_audio(path, 16_000)
