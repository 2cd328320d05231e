"""The mini encoders: files, inputs, networks, fitting, and what the built-in ones know."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file

from features import keypad
from features.encoders import ENCODERS, load_encoder
from features.encoders.mini.config import MiniConfig
from features.encoders.mini.encoder import FORMAT, MiniEncoder, load_file, save_mini, weights_hash
from features.encoders.mini.inputs import audio_input, image_input, points_input, text_input
from features.encoders.mini.towers import farthest_points, mel_filters
from features.errors import ItemError, UserError
from features.memories.provenance import differing
from features.sealed import sealed

ALL: tuple[Any, ...] = ("text", "image", "audio", "points")
CONFIG = MiniConfig("m", ALL)
Make = Callable[..., MiniEncoder]


def _arrays(config: MiniConfig, modality: str, count: int) -> list[NDArray[Any]]:
    """Random inputs as `encode` takes them."""
    rng = np.random.default_rng(0)
    if modality == "text":
        return [text_input("a " * (1 + i % 5) + str(i), config) for i in range(count)]
    if modality == "image":
        shape = (count, config.image_height, config.image_width)
        return list(rng.integers(0, 256, shape, dtype=np.uint8))
    if modality == "audio":
        return [audio_input(rng.standard_normal(900 + i), config) for i in range(count)]
    return [points_input(rng.standard_normal((99, 3)), config) for _ in range(count)]


# --- files


def test_a_saved_encoder_comes_back(make_encoder: Make, tmp_path: Path) -> None:
    encoder = make_encoder(*ALL, name="four", seconds=0.5)
    save_mini(tmp_path / "again.safetensors", encoder.config, encoder.towers)
    again = load_file(str(tmp_path / "again.safetensors"), device="cpu")
    assert again.config == encoder.config
    assert again.space == encoder.space
    assert again.space.dimension == 16
    assert again.description.weights == encoder.description.weights
    assert again.description.preprocessing["seconds"] == 0.5
    assert again.description.spec == f"mini:{tmp_path.resolve()}/again.safetensors"
    assert load_encoder(again.description.spec, device="cpu").description == again.description
    assert not differing(again.description.as_dict(), encoder.description.as_dict())
    for modality in ALL:
        batch = _arrays(encoder.config, modality, 3)
        assert torch.equal(again.encode(batch, modality), encoder.encode(batch, modality))


def test_the_hash_of_weights_is_stable_and_sensitive(make_encoder: Make) -> None:
    encoder, same = make_encoder("image", "text"), make_encoder("image", "text")
    first = encoder.description.weights
    assert same.description.weights == first
    assert weights_hash(dict(reversed(same.towers.items()))) == first
    assert make_encoder("image", "text", seed=1).description.weights != first
    parameter = next(same.towers["text"].parameters())
    with torch.no_grad():
        parameter[-1, -1] += 1e-3
    assert weights_hash(same.towers) != first


def test_the_same_weights_give_the_same_file(make_encoder: Make, tmp_path: Path) -> None:
    encoder = make_encoder("image", "text")
    contents = set()
    for _ in range(10):
        save_mini(tmp_path / "m.safetensors", encoder.config, encoder.towers)
        contents.add((tmp_path / "m.safetensors").read_bytes())
    assert len(contents) == 1


def _spoil(path: Path, how: str) -> None:
    tensors = load_tensors(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    # Without the hash of the weights, as those of earlier versions.
    described = {"format": FORMAT, "config": json.loads(metadata["mini_encoder"])["config"]}
    config = described["config"]

    def say(content: Mapping[str, object]) -> dict[str, str]:
        return {"mini_encoder": json.dumps(sealed(content))}

    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-10])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "foreign":
        save_file(tensors, path)
    elif how == "lacking":
        save_file({k: v for k, v in tensors.items() if "head" not in k}, path, say(described))
    elif how == "resized":
        save_file(tensors, path, say({**described, "config": {**config, "width": 32}}))
    elif how == "wide":  # it would take gigabytes before it is compared
        save_file(tensors, path, say({**described, "config": {**config, "width": 8000}}))
    elif how == "unknown setting":
        save_file(tensors, path, say({**described, "config": {**config, "depth": 3}}))
    elif how == "no JSON":
        save_file(tensors, path, {"mini_encoder": "{"})
    elif how == "no config":
        save_file(tensors, path, say({"format": FORMAT}))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", "cannot be read as encoder weights .*fit the encoder again"),
        ("empty", "cannot be read as encoder weights"),
        ("foreign", "is not a mini encoder: make one with `mcr fit`"),
        ("lacking", "does not hold the tensors of the encoder it describes"),
        ("resized", "does not hold the tensors of the encoder it describes"),
        ("wide", "does not hold the tensors of the encoder it describes"),
        ("unknown setting", "encoder"),
        ("no JSON", "encoder"),
        ("no config", "encoder"),
    ],
)
def test_damaged_or_foreign_weights_are_refused(make_encoder: Make, how: str, message: str) -> None:
    path = Path(make_encoder("text").description.spec.removeprefix("mini:"))
    _spoil(path, how)
    with pytest.raises(UserError, match=message) as error:
        load_file(str(path), device="cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nothing", f"'nothing' is not an encoder, these are: {', '.join(ENCODERS)}, or MODULE"),
        ("mini", "the encoder 'mini' needs its weights file: write mini:FILE.safetensors"),
        ("mini:none.safetensors", "encoder weights none.safetensors does not exist"),
        ("mini-clip:x", "the encoder 'mini-clip' takes no argument"),
    ],
)
def test_a_wrong_name_of_an_encoder_is_refused(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_encoder(spec, device="cpu")


# --- inputs


def test_every_digit_is_a_token_of_its_own() -> None:
    def tokens(text: str) -> list[int]:
        return text_input(text, CONFIG).tolist()

    assert tokens("4 0 7") == tokens("407")
    assert tokens("407")[:2] == tokens("40")[:2]
    assert tokens("407")[3:] == [0] * 13
    assert tokens("It says SEVEN") == tokens("it says seven")
    assert len(set(tokens("9876543210")[:10])) == 10
    assert len(tokens("word " * 50)) == CONFIG.words
    assert tokens("dog!") != tokens("dog")


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_a_text_without_words_is_an_item_error(text: str) -> None:
    with pytest.raises(ItemError, match="no word or digit in the text"):
        text_input(text, CONFIG)


def test_the_words_of_keypad_sentences_have_buckets_of_their_own() -> None:
    sentences = [one for number in keypad.numbers() for one in keypad.sentences(number)]
    words = sorted({word for one in sentences for word in one.split() if word.isalpha()})
    words += list("0123456789")
    buckets = [int(text_input(word, CONFIG)[0]) for word in words]
    assert len(set(buckets)) == len(words)
    assert min(buckets) > 0
    assert max(buckets) < CONFIG.vocabulary


def test_images_are_fitted_into_the_frame() -> None:
    square = image_input(Image.new("RGB", (100, 100), "white"), CONFIG)
    assert square.shape == (32, 64)
    np.testing.assert_array_equal(square[:, 16:48], 255)
    assert square[:, :16].max() == square[:, 48:].max() == 0
    assert image_input(Image.new("L", (1, 500), 255), CONFIG).sum() > 0


def test_the_middle_of_a_sound_is_taken_at_unit_peak() -> None:
    long = np.zeros(20_000, dtype=np.float32)
    long[10_000], long[0] = -0.25, 1
    array = audio_input(long, CONFIG)
    assert (array.shape, array.min(), array.max(), int(array.argmin())) == ((8000,), -1, 0, 4000)
    short = audio_input(np.full(10, 0.5, np.float32), CONFIG)
    assert short[:11].tolist() == [1] * 10 + [0]
    assert not audio_input(np.zeros(10, np.float32), CONFIG).any()


def test_clouds_are_centred_scaled_and_evenly_chosen() -> None:
    cloud = np.random.default_rng(0).standard_normal((1000, 3)).astype(np.float32)
    array = points_input(cloud * 7 + 50, CONFIG)
    assert array.shape == (256, 3)
    np.testing.assert_allclose(array.mean(axis=0), 0, atol=1e-5)
    assert np.linalg.norm(array, axis=1).max() == pytest.approx(1)
    np.testing.assert_allclose(array, points_input(cloud, CONFIG), atol=1e-4)
    assert len(points_input(cloud[:20], CONFIG)) == 256
    with pytest.raises(ItemError, match="all points of the cloud are the same"):
        points_input(np.ones((300, 3), np.float32), CONFIG)


# --- networks


@pytest.mark.parametrize("modality", ALL)
def test_embeddings_are_unit_and_do_not_depend_on_company(
    make_encoder: Make, modality: Any
) -> None:
    encoder = make_encoder(*ALL)
    arrays = _arrays(encoder.config, modality, 12)
    together = encoder.encode(arrays, modality)
    assert together.shape == (12, 16)
    assert together.dtype == torch.float32
    torch.testing.assert_close(together.norm(dim=1), torch.ones(12), rtol=0, atol=1e-6)
    alone = torch.cat([encoder.encode([one], modality) for one in arrays])
    backwards = encoder.encode(arrays[::-1], modality).flip(0)
    for other in (alone, backwards):
        assert float((together * other).sum(dim=1).min()) >= 0.999999
    assert len({tuple(row) for row in together.tolist()}) == 12


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_stays_close(make_encoder: Make, precision: str) -> None:
    encoder = make_encoder(*ALL)
    path = encoder.description.spec.removeprefix("mini:")
    low = load_file(path, device="cpu", precision=precision)
    assert low.description.weights == encoder.description.weights
    assert (encoder.description.precision, low.description.precision) == ("fp32", precision)
    for modality in ALL:
        batch = _arrays(encoder.config, modality, 4)
        cosine = (low.encode(batch, modality) * encoder.encode(batch, modality)).sum(dim=1)
        assert float(cosine.min()) > 0.99


def test_farthest_points_is_the_greedy_choice() -> None:
    clouds = torch.randn(3, 40, 3, generator=torch.Generator().manual_seed(0))
    expected = []
    for cloud in clouds:
        chosen = [0]
        while len(chosen) < 9:
            nearest = [min(float((p - cloud[c]).norm()) for c in chosen) for p in cloud]
            chosen.append(nearest.index(max(nearest)))
        expected.append(cloud[chosen])
    assert torch.equal(farthest_points(clouds, 9), torch.stack(expected))


def test_mel_filters_are_triangles_that_share_every_frequency() -> None:
    filters = mel_filters(20, 512, 8000)
    assert filters.shape == (20, 257)
    assert float(filters.min()) == 0
    assert float(filters.max()) <= 1
    peaks = filters.argmax(dim=1) * 8000 / 512
    assert torch.equal(peaks, peaks.sort().values)
    between = (torch.arange(257) * 8000 / 512 > peaks[0]) & (
        torch.arange(257) * 8000 / 512 < peaks[-1]
    )
    torch.testing.assert_close(filters.sum(dim=0)[between], torch.ones(int(between.sum())))
    mel = 2595 * np.log10(1 + peaks.numpy() / 700)
    np.testing.assert_allclose(np.diff(mel[2:]), np.diff(mel[2:]).mean(), atol=25)


@pytest.mark.parametrize("config", [CONFIG, MiniConfig("m", ALL, sample_rate=16_000)])
def test_no_mel_filter_is_empty(config: MiniConfig) -> None:
    window = round(0.032 * config.sample_rate)
    assert float(mel_filters(config.mel_bands, window, config.sample_rate).sum(dim=1).min()) > 0
