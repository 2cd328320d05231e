"""CLAP by LAION's package, against the package called by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from features.encoders import LocalEncoder, load_encoder
from features.encoders.clap import PUBLISHED, load_clap
from features.encoders.clap.laion_model import check_options, own_cache_of_numba, read_shape
from features.encoders.spec import parse_argument
from features.errors import UserError
from features.memories.provenance import differing, for_modality
from features.tensors import read_state
from tests.features.clap_models import (
    TEXTS,
    cache_folder,
    embed,
    hub_cache,
    load,
    noise,
    published_clap,
    save_checkpoint,
    write_roberta_cache,
    write_sound,
    write_tokenizer,
)

if find_spec("laion_clap") is None:  # importing it here would ask the hub
    pytest.skip("laion_clap is not installed", allow_module_level=True)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other take longer than one, on cores with other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub cache that holds a small roberta-base."""
    folder = tmp_path_factory.mktemp("hub")
    write_roberta_cache(folder)
    return folder


@pytest.fixture(scope="module", params=["unfused", "fused"])
def published(request: Any, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """LAION's CLAP_Module and a checkpoint with its weights."""
    module = published_clap(cache, fused=request.param == "fused")
    path = tmp_path_factory.mktemp("clap") / f"{request.param}.pt"
    save_checkpoint(module, path)
    return module, path


@pytest.fixture(scope="module")
def unfused(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without feature fusion."""
    path = tmp_path_factory.mktemp("clap") / "model.pt"
    save_checkpoint(published_clap(cache, fused=False), path)
    return path


def _librosa_mel(samples: torch.Tensor, settings: dict[str, Any]) -> torch.Tensor:
    """What LAION's get_mel says it equals, for where torchaudio is not installed."""
    import librosa

    power = librosa.feature.melspectrogram(
        y=samples.numpy(), sr=settings["sample_rate"], n_fft=settings["window_size"],
        hop_length=settings["hop_size"], n_mels=settings["mel_bins"], norm=None, htk=True,
        fmin=settings["fmin"], fmax=settings["fmax"], pad_mode="reflect",
    )  # fmt: skip
    return torch.from_numpy(librosa.power_to_db(power, top_db=None)).T


def test_the_cache_of_numba_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """laion_clap moves it to /tmp, where anybody can put pickles."""
    told = """
import os
from features.encoders.clap import laion_model
laion_model._clap_module()
import numba
numba.njit(lambda x: x + 1)(1)  # which has numba read its environment again
print(os.environ.get("NUMBA_CACHE_DIR"), [numba.config.CACHE_DIR])
"""
    environment = {key: one for key, one in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    found = subprocess.run(
        [sys.executable, "-c", told], env=environment, check=True, capture_output=True, text=True
    )
    assert found.stdout == "None ['']\n"

    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    with own_cache_of_numba():
        os.environ["NUMBA_CACHE_DIR"] = "/tmp"  # as laion_clap does
    assert os.environ["NUMBA_CACHE_DIR"] == str(tmp_path)


@pytest.fixture
def by_hand(published: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """CLAP_Module, whose random places are the middles, as the encoder's are."""
    from laion_clap.training import data

    if data.torchaudio is None:
        monkeypatch.setattr(data, "get_mel", _librosa_mel)
    monkeypatch.setattr(np.random, "choice", lambda places: places[(len(places) - 1) // 2])
    # The checkpoints' torchvision did not antialias; newer ones do unless told.
    resize = data.torchvision.transforms.Resize
    monkeypatch.setattr(
        data.torchvision.transforms, "Resize", lambda size: resize(size, antialias=False)
    )
    return published[0]


def _load(path: Path, cache: Path, *options: str, **settings: Any) -> Any:
    with hub_cache(cache):
        return load(path, *options, **settings)


@torch.inference_mode()
def test_embeddings_are_those_of_the_package(
    by_hand: Any, published: Any, cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    random_state = torch.get_rng_state()
    encoder = _load(published[1], cache)
    assert torch.equal(torch.get_rng_state(), random_state)
    found = encoder.encode([encoder.input("text")(text) for text in TEXTS], "text")
    expected = torch.from_numpy(by_hand.get_text_embedding(TEXTS))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert float((found @ found.T).fill_diagonal_(-1).max()) < 0.99

    rates = [(0.7, 48_000), (3.3, 44_100), (2.0, 44_100), (10.0, 48_000)]
    if by_hand.enable_fusion:
        rates += [(10.005, 48_000), (23.0, 48_000)]
    sounds = [noise(seconds, rate, seed=i) for i, (seconds, rate) in enumerate(rates)]
    stereo: NDArray[np.float32] = np.stack([sounds[2], sounds[2][::-1]], axis=1)
    paths = [
        write_sound(tmp_path / f"{i}.wav", stereo if i == 2 else sound, rates[i][1])
        for i, sound in enumerate(sounds)
    ]
    found = embed(encoder, *paths)
    expected = torch.from_numpy(by_hand.get_audio_embedding_from_filelist([*map(str, paths)]))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert float((found @ found.T).fill_diagonal_(-1).max()) < 0.9999
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(found)), rtol=0, atol=1e-6)
    captured = capfd.readouterr()
    assert captured.out == ""


def test_a_file_embeds_the_same_in_any_company(published: Any, cache: Path, tmp_path: Path) -> None:
    encoder = _load(published[1], cache)
    make = encoder.input("audio")
    here = make(write_sound(tmp_path / "here.wav", noise(13, seed=1)))
    other = make(write_sound(tmp_path / "other.wav", noise(4, seed=2)))
    batches = [[here], [other, here], [here, other], [here] * 5, [here] * 3, [here] * 8, [here]]
    rows = torch.cat([encoder.encode(batch, "audio") for batch in batches])
    mine = torch.tensor([one is here for batch in batches for one in batch])
    same = rows[mine]
    assert len(same) == 20
    assert float((same @ same.T).min()) >= 0.999999
    assert float((rows[~mine] @ same.T).max()) < 0.999


def test_tiles_are_averaged_and_kept_as_parts(published: Any, cache: Path, tmp_path: Path) -> None:
    encoder = _load(published[1], cache, "windows=tiled", "max_windows=3")
    assert isinstance(encoder, LocalEncoder)
    assert [encoder.local_length(one) for one in ("audio", "text")] == [3, 0]
    sound = noise(12, seed=4)
    tiles = [sound[:480_000], sound[-480_000:]]
    paths = [write_sound(tmp_path / f"{i}.wav", one) for i, one in enumerate([sound, *tiles])]
    make = encoder.input("audio")
    found = encoder.encode_local([make(path) for path in paths[:2]], "audio")
    alone = embed(encoder, *paths[1:])
    assert found.mask.tolist() == [[True, True, False], [True, False, False]]
    torch.testing.assert_close(found.local[0, :2], alone, rtol=0, atol=1e-6)
    assert not found.local[~found.mask].any()
    mean = torch.nn.functional.normalize(alone.mean(dim=0), dim=0)
    torch.testing.assert_close(found.pooled[0], mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.pooled[1:], alone[:1], rtol=0, atol=1e-6)
    torch.testing.assert_close(embed(encoder, paths[0])[0], mean, rtol=0, atol=1e-6)
    texts = encoder.encode_local([encoder.input("text")("rain")], "text")
    assert (texts.local.shape, texts.pooled.shape) == ((1, 0, 512), (1, 512))


def test_bf16_stays_close(published: Any, cache: Path, tmp_path: Path) -> None:
    paths = [write_sound(tmp_path / "s.wav", noise(12))]
    full, low = (_load(published[1], cache, precision=one) for one in ("fp32", "bf16"))
    assert (low.description.precision, low.description.weights) == (
        "bf16",
        full.description.weights,
    )
    texts = [np.array(text) for text in TEXTS]
    for one, other in (
        (embed(full, *paths), embed(low, *paths)),
        (full.encode(texts, "text"), low.encode(texts, "text")),
    ):
        assert other.dtype == torch.float32
        assert float((one * other).sum(dim=1).min()) > 0.999
        assert not torch.equal(one, other)


def test_the_description_loads_it_again(unfused: Path, cache: Path, tmp_path: Path) -> None:
    roberta = tmp_path / "roberta"
    write_tokenizer(roberta)
    options = ("windows=tiled", "max_windows=5", "space=clap-music", f"roberta={roberta}")
    encoder = load(unfused, *options)
    assert encoder.space.name == "clap-music"
    assert encoder.space.dimension == 512
    again = load_encoder(encoder.description.spec, device="cpu")
    assert again.description == encoder.description
    assert encoder.description.preprocessing["audio"] == {
        "sample_rate": 48_000, "window_seconds": 10.0, "windows": "tiled", "max_windows": 5,
        "quantisation": "int16", "padding": "repeatpad", "fusion": False,
    }  # fmt: skip
    assert encoder.description.preprocessing["text"]["tokens"] == 77
    copy = tmp_path / "copy, of it.safetensors"
    save_file({k: v.contiguous() for k, v in read_state(unfused).items()}, copy)
    from_copy = load(copy, *options)
    assert from_copy.description.weights == encoder.description.weights
    assert load_encoder(from_copy.description.spec, device="cpu").space == encoder.space
    described = encoder.description.as_dict()
    assert differing(from_copy.description.as_dict(), described) == []
    centre = _load(unfused, cache).description.as_dict()
    assert differing(centre, described) == ["preprocessing"]
    assert differing(for_modality(centre, "text"), for_modality(described, "text")) == []


def test_base_towers_are_recognised(cache: Path, tmp_path: Path) -> None:
    from features.encoders.clap.laion_model import LaionShape, build_laion

    text = {
        f"text_branch.{name}": tensor
        for name, tensor in read_state(next(cache.glob("*/snapshots/*/model.safetensors"))).items()
    }
    model = build_laion(LaionShape("HTSAT-base", fused=True, joint_width=512), text)
    assert model.audio_projection[0].in_features == 1024
    assert read_shape(model.state_dict(), tmp_path) == LaionShape("HTSAT-base", True, 512)
    torch.save(model.state_dict(), tmp_path / "base.pt")
    encoder = _load(tmp_path / "base.pt", cache, "fusion=yes", "amodel=HTSAT-base")
    assert encoder.description.preprocessing["audio"]["fusion"] is True
    shape = read_shape(model.state_dict(), tmp_path)
    check_options(parse_argument("", family="clap"), replace(shape), tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("fusion=yes", "fusion=yes was asked for but .*model.pt holds fusion=no"),
        ("amodel=HTSAT-base", "amodel=HTSAT-base was asked for but .* holds amodel=HTSAT-tiny"),
        ("amodel=PANN-14", "amodel=PANN-14 is not known: use amodel=HTSAT-tiny"),
        ("fusion=maybe", "fusion=maybe is not known"),
        ("windows=fused", "windows=fused needs a model with feature fusion"),
        ("window=tiled", "the encoder clap has no option 'window': its options are windows"),
        ("roberta=nowhere", "roberta=nowhere has no vocab.json and merges.txt"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    unfused: Path, cache: Path, options: str, message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        _load(unfused, cache, options)
    assert "\n" not in str(error.value)


def _spoil(path: Path, how: str) -> None:
    state = read_state(path)
    if how == "lacking":
        state.pop("audio_branch.bn0.weight")
    elif how == "extra":
        state["audio_branch.more"] = torch.zeros(1)
    elif how == "other":
        state = {"weight": torch.zeros(3)}
    elif how == "no text":
        state = {name: value for name, value in state.items() if "text_branch" not in name}
    elif how == "resized":
        state["text_projection.0.weight"] = torch.zeros(512, 96)
    torch.save(state, path.with_name("spoiled.pt"))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("lacking", r"of \d+ tensors, 1 missing \(such as audio_branch.bn0.weight\)"),
        ("extra", r"1 unknown \(such as audio_branch.more\)"),
        ("resized", r"1 of another shape \(such as text_projection.0.weight\)"),
        ("other", "is not a CLAP of HTSAT and RoBERTa"),
        ("no text", "is not a CLAP of HTSAT and RoBERTa"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    unfused: Path, cache: Path, how: str, message: str
) -> None:
    _spoil(unfused, how)
    with pytest.raises(UserError, match=message):
        _load(unfused.with_name("spoiled.pt"), cache)


def test_a_tokenizer_without_its_vocabulary_is_refused(unfused: Path, tmp_path: Path) -> None:
    with hub_cache(tmp_path), pytest.raises(UserError, match="roberta-base is not in the local"):
        load(unfused)
    folder = tmp_path / "roberta"
    size = write_tokenizer(folder)
    short = '{"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4, "<mask>": 5}'
    (folder / "vocab.json").write_text(short)
    (folder / "merges.txt").write_text("#version: 0.2\n")
    message = f"knows 6 tokens but the checkpoint has embeddings of {size}: give roberta=FOLDER"
    with pytest.raises(UserError, match=message):
        load(unfused, f"roberta={folder}")
    (folder / "vocab.json").write_text("{")
    with pytest.raises(UserError, match=r"cannot be read|knows 5 tokens"):
        load(unfused, f"roberta={folder}")


def test_published_names_are_found_in_the_cache(unfused: Path, tmp_path: Path) -> None:
    write_roberta_cache(tmp_path)
    name = "music_audioset_epoch_15_esc_90.14"
    cached = cache_folder(tmp_path, "lukewys/laion_clap") / f"{name}.pt"
    cached.write_bytes(unfused.read_bytes())
    encoder = _load(Path(name), tmp_path)
    assert encoder.description.spec == f"clap:{name}"
    assert encoder.description.weights == _load(unfused, tmp_path).description.weights


@pytest.mark.parametrize("name", [*PUBLISHED, "630k-best.pt", "laion/clap-htsat-unfused"])
def test_without_a_hub_a_published_name_is_missed_at_once(tmp_path: Path, name: str) -> None:
    with hub_cache(tmp_path), pytest.raises(UserError, match=r"is not in the local cache .*clap:"):
        load(name)


@pytest.mark.parametrize(
    ("argument", "precision", "message"),
    [
        ("", "fp32", "the encoder clap needs a model: give one of 630k-best"),
        ("630k", "fp32", "'630k' is not a CLAP model"),
        ("none/there/model.pt", "fp32", "CLAP weights none/there/model.pt does not exist"),
        ("630k-best", "fp16", "precision fp16 does not suit CLAP"),
        ("630k-best", "fp8", "'fp8' is not a precision"),
        ("630k-best,space=", "fp32", "space= does not name a space: use letters, digits"),
        ("laion/clap-htsat-unfused,space=a/b c", "fp32", "space=a/b c does not name a space"),
    ],
)
def test_what_is_no_clap_is_refused(argument: str, precision: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_clap(argument, device="cpu", precision=precision)


def test_real_sounds_embed(unfused: Path, cache: Path, digits_folder: Path) -> None:
    paths = sorted((digits_folder / "audio").glob("*.wav"))[:2]
    paths += sorted((digits_folder.parent / "objaverse3").glob("*.wav"))[:2]
    assert len(paths) == 4
    found = embed(_load(unfused, cache), *paths)
    assert float((found @ found.T).fill_diagonal_(-1).max()) < 0.9999
