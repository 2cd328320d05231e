"""The processes that decode: what they make is what the encoders read, and they are replaced."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from bridge.serving.decoders import Decoders
from bridge.serving.limits import Limits
from bridge.serving.refusal import Refusal
from bridge.serving.tasks import SHOWN_POINTS, THUMBNAIL
from features.extraction.decode import read_audio, read_cloud, read_image


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    made = Decoders(Limits(), processes=1)
    yield made
    made.close()


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_pictures_are_as_an_encoder_would_read_them(decoders, tmp_path: Path, mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    picture.save(path, exif=exif)
    made = _write(tmp_path / "made.png", decoders.run("query_image", path).content)
    wanted = read_image(path).convert("RGB")
    assert wanted.size == (9, 14)
    assert np.array_equal(np.asarray(read_image(made).convert("RGB")), np.asarray(wanted))


@pytest.mark.parametrize(("kind", "channels"), [("WAV", 1), ("FLAC", 2), ("OGG", 2), ("AIFF", 3)])
def test_sounds_are_as_an_encoder_would_read_them(
    decoders, tmp_path: Path, kind: str, channels: int
) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, (4000, channels))
    path = tmp_path / f"a.{kind.lower()}"
    soundfile.write(path, samples, 11025, format=kind)
    made = _write(tmp_path / "made.wav", decoders.run("query_audio", path).content)
    assert np.array_equal(read_audio(made, 8000), read_audio(path, 8000))


@pytest.mark.parametrize("columns", [3, 6])
def test_clouds_are_as_an_encoder_would_read_them(decoders, tmp_path: Path, columns: int) -> None:
    table = np.random.default_rng(0).random((50, columns)).astype(np.float32)
    path = tmp_path / "a.npy"
    np.save(path, table)
    made = _write(tmp_path / "made.npz", decoders.run("query_points", path).content)
    assert np.array_equal(read_cloud(made, min_points=1), table)


def test_what_a_page_shows(decoders, tmp_path: Path) -> None:
    Image.new("RGB", (900, 300), "red").save(tmp_path / "a.png")
    thumbnail = Image.open(io.BytesIO(decoders.run("thumbnail", tmp_path / "a.png").content))
    assert (thumbnail.format, max(thumbnail.size)) == ("WEBP", THUMBNAIL)
    ramp = np.linspace(-1, 1, 8000, dtype=np.float32)
    soundfile.write(tmp_path / "a.wav", ramp, 8000, subtype="FLOAT")
    shown = json.loads(decoders.run("waveform", tmp_path / "a.wav").content)
    assert shown["seconds"] == 1
    assert shown["peaks"][0] == pytest.approx([-1, float(ramp[19])], abs=1e-4)
    assert len(shown["peaks"]) == 400
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((9000, 3)))
    cloud = json.loads(decoders.run("points", tmp_path / "a.npy").content)
    assert len(cloud["points"]) == SHOWN_POINTS


def test_a_short_sound_has_as_many_peaks_as_samples(decoders, tmp_path: Path) -> None:
    values = [0.5, -0.25, 1.0]
    soundfile.write(tmp_path / "a.wav", np.array(values, np.float32), 8000, subtype="FLOAT")
    assert json.loads(decoders.run("waveform", tmp_path / "a.wav").content)["peaks"] == [
        [value, value] for value in values
    ]


def test_a_process_that_ended_is_replaced(tmp_path: Path) -> None:
    decoders = Decoders(Limits(), processes=1)
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    decoders.run("thumbnail", tmp_path / "a.png")
    decoder = decoders._idle.get()
    assert decoder is not None
    decoder.kill()
    decoders._idle.put(decoder)
    with pytest.raises(Refusal, match="ended the process"):
        decoders.run("thumbnail", tmp_path / "a.png")
    assert decoders.run("thumbnail", tmp_path / "a.png").content.startswith(b"\x89PNG")
    decoders.close()


def test_what_takes_too_long_is_killed(tmp_path: Path) -> None:
    decoders = Decoders(Limits(decode_seconds=0.01), processes=1)
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    began = time.monotonic()
    with pytest.raises(Refusal, match=r"longer than 0\.01 s"):  # the process has not even begun
        decoders.run("thumbnail", tmp_path / "a.png")
    assert time.monotonic() - began < 5
    decoders.close()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python has no safe path before 3.11")
def test_no_module_is_taken_from_the_folder_it_is_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "numpy", "bridge"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken')")
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    decoders = Decoders(Limits(), processes=1)
    assert decoders.run("thumbnail", tmp_path / "a.png").content.startswith(b"\x89PNG")
    decoders.close()


def test_of_a_larger_file_of_an_item_a_part_is_taken(tmp_path: Path) -> None:
    """Where an upload of it would be refused."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 120), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.tiff")
    sound = np.random.default_rng(0).normal(0, 0.1, (8000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", sound, 8000, subtype="FLOAT")
    cloud = np.random.default_rng(0).random((90, 6)).astype(np.float32)
    np.save(tmp_path / "a.npy", cloud)
    small = Decoders(Limits(image_pixels=400, audio_seconds=0.25, points=30), processes=1)
    try:
        image = small.run("item_image", tmp_path / "a.tiff")
        assert image.note == "embedded at 40 x 10 pixels, of 120 x 30"
        assert Image.open(io.BytesIO(image.content)).size == (40, 10)
        audio = small.run("item_audio", tmp_path / "a.wav")
        assert audio.note == "embedded by its first 0.25 s, of 1 s"
        made, rate = soundfile.read(io.BytesIO(audio.content), dtype="float32")
        assert rate == 8000
        assert made == pytest.approx(sound[:2000].mean(axis=1))
        points = small.run("item_points", tmp_path / "a.npy")
        assert points.note == "embedded by 30 of its 90 points"
        taken = read_cloud(_write(tmp_path / "made.npz", points.content), min_points=1)
        assert np.array_equal(taken, cloud[np.linspace(0, 89, 30).round().astype(int)])
    finally:
        small.close()


@pytest.mark.parametrize(
    ("kind", "name"), [("image", "a.png"), ("audio", "a.wav"), ("points", "a.npy")]
)
def test_a_file_within_the_limits_is_taken_as_an_upload_is(
    decoders, tmp_path: Path, kind: str, name: str
) -> None:
    Image.new("RGB", (9, 5), "red").save(tmp_path / "a.png")
    soundfile.write(tmp_path / "a.wav", np.zeros(400), 8000)
    np.save(tmp_path / "a.npy", np.ones((9, 3)))
    item, query = (decoders.run(f"{what}_{kind}", tmp_path / name) for what in ("item", "query"))
    assert item.note is None
    if kind != "points":  # archives hold times
        assert item.content == query.content


def test_a_memorys_own_pictures_may_be_larger_than_those_asked_by(tmp_path: Path) -> None:
    Image.new("RGB", (400, 300), "red").save(tmp_path / "a.png")
    Image.new("I;16", (400, 300), 40000).save(tmp_path / "a.tiff")
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((90, 3)))
    small = Decoders(Limits(image_pixels=100, points=80), processes=1)
    try:
        for name in ("a.png", "a.tiff"):
            made = Image.open(io.BytesIO(small.run("thumbnail", tmp_path / name).content))
            assert max(made.size) == THUMBNAIL
            with pytest.raises(Refusal):
                small.run("query_image", tmp_path / name)
        shown = json.loads(small.run("points", tmp_path / "a.npy").content)
        assert len(shown["points"]) == 90
        with pytest.raises(Refusal, match="at most 80 points"):
            small.run("query_points", tmp_path / "a.npy")
    finally:
        small.close()
