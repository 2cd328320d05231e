"""What CLAP hears of a sound: windows, 16 bits, repetition, spectrograms; all without chance."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch

from features.encoders.clap.inputs import (
    AudioInput,
    TextInput,
    choose_windows,
    dequantise,
    fill_window,
    quantise,
)
from features.encoders.clap.mel import MelSettings, chunk_starts, fuse, log_mel
from features.encoders.spec import parse_argument
from features.errors import ItemError, UserError
from features.extraction.decode import read_audio, read_audio_parts
from features.extraction.decode_batches import decode_batches
from tests.features.clap_models import noise, write_sound

MEL = MelSettings(48_000, 1024, 480, 64, 50, 14_000)


def _make(windows: str = "centre", max_windows: int = 3, **changed: Any) -> AudioInput:
    settings = {"sample_rate": 100, "window": 1000, "quantised": False, **changed}
    return AudioInput(windows=windows, max_windows=max_windows, **settings)


@pytest.mark.parametrize(
    ("windows", "length", "starts"),
    [
        ("centre", 1001, [0]),
        ("centre", 3000, [1000]),
        ("centre", 3001, [1000]),
        ("tiled", 1500, [0, 500]),
        ("tiled", 2000, [0, 1000]),
        ("tiled", 2999, [0, 1000, 1999]),
        ("tiled", 3000, [0, 1000, 2000]),
        ("tiled", 9000, [0, 4000, 8000]),
        ("tiled", 100_001, [0, 49_500, 99_001]),
    ],
)
def test_windows_lie_where_they_are_said_to(windows: str, length: int, starts: list[int]) -> None:
    spans = _make(windows).spans(length)
    assert spans == [(start, start + 1000) for start in starts]
    assert spans[-1][1] <= length


@pytest.mark.parametrize("windows", ["centre", "tiled", "fused"])
def test_short_sounds_are_one_window(windows: str) -> None:
    for length in (2, 999, 1000):
        assert _make(windows).spans(length) == [(0, length)]


def test_one_tile_is_the_middle_and_a_fused_sound_is_bounded() -> None:
    assert _make("tiled", 1).spans(5000) == [(2000, 3000)]
    assert _make("fused").spans(2500) == [(0, 2500)]
    assert _make("fused").spans(5000) == [(1000, 4000)]


def test_ten_seconds_at_any_rate_are_one_window(tmp_path: Path) -> None:
    for rate in (8000, 11_025, 16_000, 22_050, 44_100, 96_000):
        path = write_sound(tmp_path / "s.wav", noise(10, rate), rate)
        make = _make("tiled", sample_rate=48_000, window=480_000)
        assert make(path).shape == (1, 480_000)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000, 96_000])
def test_a_part_is_what_the_whole_has_there(tmp_path: Path, rate: int) -> None:
    stereo = np.stack([noise(6, rate), noise(6, rate, seed=1)], axis=1)
    path = write_sound(tmp_path / "s.wav", stereo, rate)
    whole = read_audio(path, 48_000)
    spans = [(0, 48_000), (96_000, 100_800), (240_000, 288_000)]
    for part, (start, stop) in zip(
        read_audio_parts(path, 48_000, lambda _: spans), spans, strict=True
    ):
        np.testing.assert_allclose(part, whole[start:stop], atol=2e-6)


@pytest.mark.parametrize("sample_rate", [48_000, 16_000, 8000])
@pytest.mark.parametrize("rate", [11_025, 22_050, 44_100, 48_000, 44_101])
def test_a_part_between_two_frames_is_not_shifted(
    tmp_path: Path, rate: int, sample_rate: int
) -> None:
    path = write_sound(tmp_path / "s.wav", noise(4.37, rate), rate)
    whole = read_audio(path, sample_rate)
    width = sample_rate // 2 + 1
    middle, end = (len(whole) - width) // 2, len(whole) - width
    starts = [7, 1001, sample_rate + 1, middle, middle + 1, middle + 2, end - 1, end]
    spans = [(start, start + width) for start in starts]
    parts = read_audio_parts(path, sample_rate, lambda _: spans)
    for part, (start, stop) in zip(parts, spans, strict=True):
        np.testing.assert_allclose(part, whole[start:stop], atol=5e-6)
        inside = part[20:-20]
        likeness = {
            shift: float(inside @ whole[start + 20 + shift :][: len(inside)])
            for shift in range(-5, 6)
            if start + shift >= 0 and stop - 20 + shift <= len(whole)
        }
        assert max(likeness, key=lambda shift: likeness[shift]) == 0


def test_the_middle_window_of_a_real_length_is_where_it_is_said_to_be(tmp_path: Path) -> None:
    for rate in (11_025, 22_050, 44_100):
        path = write_sound(tmp_path / "s.wav", noise(21.37, rate), rate)
        whole = read_audio(path, 48_000)
        ((start, stop),) = (make := _make(sample_rate=48_000, window=480_000)).spans(len(whole))
        np.testing.assert_allclose(make(path)[0], whole[start:stop], atol=5e-6)


def test_only_the_parts_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sound(tmp_path / "s.wav", noise(300, 8000), 8000)
    decoded, real = [], soundfile.SoundFile.read

    def spy(self: Any, frames: int = -1, *rest: Any, **named: Any) -> Any:
        found = real(self, frames, *rest, **named)
        decoded.append(len(found))
        return found

    monkeypatch.setattr(soundfile.SoundFile, "read", spy)
    array = _make(sample_rate=48_000, window=480_000)(path)
    assert decoded == [80_000 + 2 * 800]
    middle = soxr.resample(noise(300, 8000), 8000, 48_000, quality="HQ")[6_960_000:7_440_000]
    np.testing.assert_allclose(array[0], middle, atol=2e-6)


def test_a_header_that_promises_too_much_is_not_believed(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "whole.mp3", noise(20, 16_000), 16_000)
    content = (tmp_path / "whole.mp3").read_bytes()
    path = tmp_path / "half.mp3"
    path.write_bytes(content[: len(content) // 2])
    assert soundfile.info(path).frames == 320_000
    asked: list[int] = []

    def choose(length: int) -> list[tuple[int, int]]:
        asked.append(length)
        return [(length - 8000, length)]

    (part,) = read_audio_parts(path, 16_000, choose)
    assert (len(asked), asked[0]) == (2, 320_000)
    assert 140_000 < asked[1] < 170_000
    np.testing.assert_array_equal(part, read_audio(path, 16_000)[-8000:])


def test_workers_need_no_torch_and_bad_files_are_item_errors(tmp_path: Path) -> None:
    code = "import sys, features.encoders.clap.inputs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    make = _make("tiled", sample_rate=48_000, window=480_000, quantised=True)
    assert pickle.loads(pickle.dumps(make)) == make
    assert pickle.loads(pickle.dumps(TextInput())) == TextInput()
    good = write_sound(tmp_path / "g.wav", noise(25))
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    ((array, error),) = decode_batches(make, [[good, tmp_path / "b.wav"]], workers=1)
    assert isinstance(array, np.ndarray)
    assert (array.shape, array.dtype) == ((3, 480_000), np.int16)
    assert isinstance(error, ItemError)
    assert "cannot be decoded as a sound" in str(error)


def test_sounds_are_rounded_towards_zero_and_clipped() -> None:
    samples = np.array([0, 1, -1, 3, -3, 1.9 / 32767, -1.9 / 32767, 0.5], np.float32)
    assert quantise(samples).tolist() == [0, 32767, -32767, 32767, -32767, 1, -1, 16383]
    back = dequantise(quantise(samples))
    assert back.dtype == np.float32
    assert back[[1, 3, 7]].tolist() == [1, 1, np.float32(16383 / 32767)]
    assert dequantise(samples) is samples


def test_short_sounds_are_repeated_then_padded() -> None:
    sound = np.array([1, 2, 3], np.float32)
    assert fill_window(sound, 8).tolist() == [1, 2, 3, 1, 2, 3, 0, 0]
    assert fill_window(sound, 5).tolist() == [1, 2, 3, 0, 0]
    assert fill_window(sound, 3).tolist() == fill_window(sound, 2).tolist() == [1, 2, 3]


@pytest.mark.parametrize("text", ["", " \n"])
def test_a_text_is_a_string_and_not_empty(text: str, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(" a dog \n")
    assert str(TextInput()(tmp_path / "t.txt")) == "a dog"
    assert str(TextInput()("a cat")) == "a cat"
    with pytest.raises(ItemError, match="the text is empty"):
        TextInput()(text)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("windows=random", "windows=random is not known: use windows=centre|tiled|fused"),
        ("windows=fused", "windows=fused needs a model with feature fusion"),
        ("max_windows=0", "max_windows=0 is not a number of windows"),
        ("max_windows=-1", "max_windows=-1 is not a number of windows"),
        ("max_windows=5", "max_windows=5 changes nothing with windows=centre, which is one win"),
        ("windows=centre,max_windows=5", "add windows=tiled, or leave max_windows out"),
    ],
)
def test_windows_that_cannot_be_are_refused(argument: str, message: str) -> None:
    options = ("windows", "max_windows")
    with pytest.raises(UserError, match=message):
        choose_windows(parse_argument(argument, family="clap", options=options), fused=False)


def test_default_windows_follow_the_model() -> None:
    empty = parse_argument("", family="clap")
    assert choose_windows(empty, fused=True) == ("fused", 30)
    assert choose_windows(empty, fused=False) == ("centre", 30)
    five = parse_argument("max_windows=5", family="clap", options=("max_windows",))
    assert choose_windows(five, fused=True) == ("fused", 5)


def test_log_mel_is_its_definition() -> None:
    sound = noise(0.05).astype(np.float64)
    padded = np.pad(sound, 512, mode="reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    hertz = np.arange(513) * 48_000 / 1024

    def on_mel(value: Any) -> Any:
        return 2595 * np.log10(1 + value / 700)

    step = (on_mel(14_000) - on_mel(50)) / 65
    edges = 700 * (10 ** ((on_mel(50) + step * np.arange(66)) / 2595) - 1)
    expected = np.zeros((6, 64))
    for frame in range(6):
        power = np.abs(np.fft.rfft(padded[frame * 480 : frame * 480 + 1024] * hann)) ** 2
        for band, (low, peak, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
            up, down = (hertz - low) / (peak - low), (high - hertz) / (high - peak)
            weight = np.maximum(0, np.minimum(up, down))
            expected[frame, band] = 10 * np.log10(max(1e-10, float(weight @ power)))
    found = log_mel(torch.from_numpy(sound.astype(np.float32)), MEL)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert float(log_mel(torch.zeros(2000), MEL).max()) == -100


def test_the_parts_of_a_fused_sound_are_the_middles_of_thirds() -> None:
    assert chunk_starts(1) == [0, 0, 0]
    assert chunk_starts(2) == [0, 1, 0]
    assert chunk_starts(9) == [1, 4, 7]
    assert chunk_starts(10) == [1, 5, 8]
    mel = torch.arange(12.0)[:, None].expand(12, 3)
    fused, longer = fuse(mel, 4)
    assert longer
    assert fused.shape == (4, 4, 3)
    assert fused[:, :, 0].tolist() == [[1, 4, 7, 10], [1, 2, 3, 4], [4, 5, 6, 7], [7, 8, 9, 10]]
    same, longer = fuse(mel[:4], 4)
    assert not longer
    assert all(torch.equal(channel, mel[:4]) for channel in same)
