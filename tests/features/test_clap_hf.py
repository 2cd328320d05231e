"""CLAP by transformers, against ClapModel called by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from features.encoders import load_encoder
from features.errors import UserError
from tests.features.clap_models import (
    TEXTS,
    cache_folder,
    embed,
    hub_cache,
    load,
    noise,
    save_hf_model,
    write_sound,
)

pytest.importorskip("transformers")


@pytest.fixture(scope="module", params=["unfused", "fused"])
def saved(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A tiny ClapModel and its folder."""
    folder = tmp_path_factory.mktemp(request.param)
    return save_hf_model(folder, fused=request.param == "fused"), folder


def _features(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output.pooler_output


@torch.inference_mode()
def test_embeddings_are_those_of_the_model(
    saved: tuple[Any, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from transformers import AutoTokenizer, ClapFeatureExtractor

    model, folder = saved
    random_state = torch.get_rng_state()
    encoder = load(folder)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert encoder.space.dimension == 24

    tokens = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    expected = _features(model.get_text_features(**tokens))
    found = encoder.encode([encoder.input("text")(text) for text in TEXTS], "text")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert float((found @ found.T).fill_diagonal_(-1).max()) < 0.99

    extractor = ClapFeatureExtractor.from_pretrained(folder)
    fused = extractor.truncation == "fusion"
    seconds = [0.7, 4.0, 10.0, *([10.005, 17.0] if fused else [])]
    sounds = [noise(one, seed=i) for i, one in enumerate(seconds)]
    monkeypatch.setattr(np.random, "choice", lambda places: places[(len(places) - 1) // 2])
    inputs = extractor(sounds, sampling_rate=48_000, return_tensors="pt")
    # Not as the extractor has it, which calls one of several short sounds long at random.
    longer = torch.tensor([[one > 10.01] for one in seconds])
    expected = _features(
        model.get_audio_features(input_features=inputs["input_features"], is_longer=longer)
    )
    paths = [write_sound(tmp_path / f"{i}.wav", one) for i, one in enumerate(sounds)]
    found = embed(encoder, *paths)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert float((found @ found.T).fill_diagonal_(-1).max()) < 0.9999
    assert capfd.readouterr().out == ""


def test_a_file_embeds_the_same_in_any_company(saved: tuple[Any, Path], tmp_path: Path) -> None:
    encoder = load(saved[1])
    make = encoder.input("audio")
    here = make(write_sound(tmp_path / "here.wav", noise(13, seed=1)))
    other = make(write_sound(tmp_path / "other.wav", noise(4, seed=2)))
    batches = [[here], [here, other], [other, here, here], [here] * 4, [other, *[here] * 12]]
    rows = torch.cat([encoder.encode(batch, "audio") for batch in batches])
    mine = torch.tensor([one is here for batch in batches for one in batch])
    same = rows[mine]
    assert len(same) == 20
    assert float((same @ same.T).min()) >= 0.999999
    assert float((rows[~mine] @ same.T).max()) < 0.9999


def test_tiles_are_parts_and_bf16_stays_close(saved: tuple[Any, Path], tmp_path: Path) -> None:
    path = write_sound(tmp_path / "s.wav", noise(25))
    full = load(saved[1], "windows=tiled", "max_windows=4")
    low = load(saved[1], "windows=tiled", "max_windows=4", precision="bf16")
    found = full.encode_local([full.input("audio")(path)], "audio")
    assert found.mask.tolist() == [[True, True, True, False]]
    mean = torch.nn.functional.normalize(found.local[0, :3].mean(dim=0), dim=0)
    torch.testing.assert_close(found.pooled[0], mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.pooled, embed(full, path), rtol=0, atol=1e-6)
    assert float((found.pooled * embed(low, path)).sum()) > 0.999
    text = [np.array("a dog")]
    assert float((full.encode(text, "text") * low.encode(text, "text")).sum()) > 0.999


def test_the_description_loads_it_again(saved: tuple[Any, Path]) -> None:
    encoder = load(saved[1], "space=clap-speech", "windows=centre")
    described = encoder.description
    assert encoder.space.name == "clap-speech"
    assert load_encoder(described.spec, device="cpu").description == described
    assert described.spec == f"clap:{saved[1].resolve()},space=clap-speech,windows=centre"
    wanted = {"windows": "centre", "quantisation": "none", "padding": "repeatpad"}
    assert wanted.items() <= described.preprocessing["audio"].items()
    assert described.preprocessing["text"]["tokens"] == 64
    long = encoder.encode([np.array("dog " * 200), np.array("dog " * 300)], "text")
    assert torch.equal(long[0], long[1])


def test_names_of_the_hub_are_found_in_the_cache(tmp_path: Path) -> None:
    save_hf_model(cache_folder(tmp_path, "laion/clap-tiny"), fused=False)
    with hub_cache(tmp_path):
        encoder = load("laion/clap-tiny")
    assert encoder.description.spec == "clap:laion/clap-tiny"
    with hub_cache(tmp_path / "empty"), pytest.raises(UserError, match=r"clap:FOLDER"):
        load("laion/clap-tiny")


def _spoil(folder: Path, how: str) -> None:
    if how == "no config":
        (folder / "config.json").unlink()
    elif how == "no extractor":
        (folder / "preprocessor_config.json").unlink()
    elif how == "broken config":
        (folder / "config.json").write_text("{")
    elif how == "no weights":
        (folder / "model.safetensors").unlink()
    elif how == "lacking":
        tensors = load_file(folder / "model.safetensors")
        tensors.pop("audio_projection.linear1.weight")
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    elif how == "no vocabulary":
        for path in folder.glob("*"):
            if path.name in ("vocab.json", "merges.txt", "tokenizer.json"):
                path.unlink()
    elif how == "other extractor":
        path = folder / "preprocessor_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "truncation": "fusion"}))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no config", "has no config.json: give a folder"),
        ("no extractor", "has no preprocessor_config.json: give a folder"),
        ("broken config", "cannot be read as a ClapModel"),
        ("no weights", "cannot be read as a ClapModel"),
        ("lacking", r"1 tensors are missing .*\(such as audio_projection.linear1.weight\)"),
        ("no vocabulary", r"knows \d+ tokens but the model has|cannot be read"),
        ("other extractor", "enable_fusion=False but a feature extractor with truncation=fusion"),
    ],
)
def test_folders_that_do_not_fit_are_refused(tmp_path: Path, how: str, message: str) -> None:
    save_hf_model(tmp_path, fused=False)
    _spoil(tmp_path, how)
    with pytest.raises(UserError, match=message) as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_options_of_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fusion=no is for LAION's checkpoints"):
        load(tmp_path, "fusion=no")


def test_real_sounds_embed(saved: tuple[Any, Path], digits_folder: Path) -> None:
    paths = sorted((digits_folder / "audio").glob("*.wav"))[:4]
    paths += sorted((digits_folder.parent / "objaverse3").glob("*.wav"))[:2]
    assert len(paths) == 6
    found = embed(load(saved[1]), *paths)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(6), rtol=0, atol=1e-6)
    assert float((found @ found.T).fill_diagonal_(-1).max()) < 0.99999
