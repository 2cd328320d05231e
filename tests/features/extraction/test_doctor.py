"""The doctor passes encoders that are well, and finds each illness by the check that is for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from features.encoders import load_encoder
from features.encoders.mini.inputs import text_input
from features.extraction.decode import read_audio, read_image, read_points
from features.extraction.doctor import ALIKE, Finding, examine
from features.samples import Samples, number_samples, real_samples
from features.space import Space


@cache
def mini_clip() -> Any:
    return load_encoder("mini-clip", device="cpu")


@pytest.fixture(scope="module")
def samples() -> Samples:
    return number_samples()


@pytest.mark.parametrize("name", ["mini-clip", "mini-clap", "mini-ulip"])
def test_the_encoders_that_come_along_are_well(samples: Samples, name: str) -> None:
    encoder = load_encoder(name, device="cpu")
    findings = list(examine(encoder, samples))
    modalities = encoder.space.modalities
    assert [f.check for f in findings if not f.passed] == []
    assert {f.check for f in findings} == {
        *(f"{m}: unit embeddings" for m in modalities),
        *(f"{m}: different things differ" for m in modalities),
        *(f"{m}: the same in any batch" for m in modalities),
        *(f"{m}: its own sentence wins" for m in modalities if m != "text"),
    }


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_is_well_too(samples: Samples, precision: str) -> None:
    encoder = load_encoder("mini-clip", device="cpu", precision=precision)
    assert [f.told for f in examine(encoder, samples) if not f.passed] == []


class Ill:
    """`mini-clip`, spoilt by a function of embeddings (b, d), the batch and the modality."""

    def __init__(self, spoil: Any, *, dimension: int = 128) -> None:
        self.well = mini_clip()
        self.space = Space("ill", dimension, self.well.space.modalities)
        self.description = replace(self.well.description, name="ill")
        self.spoil = spoil

    def input(self, modality: Any) -> Any:
        return self.well.input(modality)

    def encode(self, batch: Sequence[NDArray[Any]], modality: Any) -> torch.Tensor:
        rows = self.well.encode(batch, modality).clone()
        spoilt: torch.Tensor = self.spoil(rows, batch, modality)
        return spoilt


def unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=-1)


def only(modality: str, change: Any) -> Any:
    return lambda rows, batch, m: change(rows, batch) if m == modality else rows


def swapped_texts(rows: torch.Tensor, batch: Sequence[NDArray[Any]]) -> torch.Tensor:
    """Every sentence as another one of the three, the same in any company."""
    order = sorted({tuple(one) for one in SENTENCES})
    encoder = mini_clip()
    places = [(order.index(tuple(one)) + 1) % len(order) for one in batch]
    assert len(rows) == len(places)
    return encoder.encode([np.array(order[place]) for place in places], "text")


SENTENCES: list[NDArray[Any]] = []


def direction(d: int = 128) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(0), d).float()


ILLNESSES = {
    "text is twice as long": (
        only("text", lambda rows, _: rows * 2), {"text: unit embeddings"}
    ),
    "images are a little too long": (
        only("image", lambda rows, _: rows * 1.002), {"image: unit embeddings"}
    ),
    "one image is short": (
        only("image", lambda rows, _: torch.cat([rows[:-1], rows[-1:] * 0.9])),
        {"image: unit embeddings", "image: the same in any batch"},
    ),
    "the batch's mean is taken away": (
        only("image", lambda rows, _: unit(rows - 0.2 * rows.mean(dim=0))),
        {"image: the same in any batch"},
    ),
    "the place in the batch matters": (
        only("text", lambda rows, _: unit(rows + 0.01 * torch.arange(len(rows))[:, None]
                                          * direction())),
        {"text: the same in any batch"},
    ),
    "all images are nearly one": (
        only("image", lambda rows, _: unit(0.001 * rows + direction())),
        {"image: different things differ"},
    ),
    "sentences are mixed up": (only("text", swapped_texts), {"image: its own sentence wins"}),
    "images are upside down": (
        only("image", lambda rows, _: -rows), {"image: its own sentence wins"}
    ),
}  # fmt: skip


@pytest.mark.parametrize("illness", ILLNESSES)
def test_each_illness_is_found_by_its_own_check(samples: Samples, illness: str) -> None:
    SENTENCES[:] = [text_input(text, mini_clip().config) for _, text in samples["image"]]
    spoil, checks = ILLNESSES[illness]
    findings = list(examine(Ill(spoil), samples))
    failed = {finding.check for finding in findings if not finding.passed}
    # Where all images are nearly one, whose sentence wins is chance.
    assert failed - {"image: its own sentence wins"} == checks - {"image: its own sentence wins"}
    assert checks <= failed
    assert len(findings) == 7


def test_another_dimension_than_the_space_says_is_found(samples: Samples) -> None:
    findings = list(examine(Ill(lambda rows, *_: rows, dimension=96), samples))
    failed = [finding for finding in findings if not finding.passed]
    assert [one.check for one in failed] == ["image: unit embeddings", "text: unit embeddings"]
    assert failed[0].told == "3 items, 128 dimensions, norms 1.000000 to 1.000000"


def test_not_a_number_is_found(samples: Samples) -> None:
    findings = list(examine(Ill(only("image", lambda rows, _: rows * torch.nan)), samples))
    failed = {finding.check for finding in findings if not finding.passed}
    assert failed == {
        "image: unit embeddings", "image: different things differ",
        "image: the same in any batch", "image: its own sentence wins",
    }  # fmt: skip


def test_a_file_that_cannot_be_read_fails_its_modality_alone(
    samples: Samples, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    spoilt: Samples = {**samples, "image": [(tmp_path / "broken.png", "one"), *samples["image"]]}
    findings = list(examine(mini_clip(), spoilt))
    assert findings[0].check == "image: reads"
    assert "cannot be decoded as an image" in findings[0].told
    assert [one.check for one in findings if not one.passed] == ["image: reads"]
    assert {one.check.partition(":")[0] for one in findings[1:]} == {"text"}


def test_what_is_told_are_the_figures(samples: Samples) -> None:
    encoder = mini_clip()
    pairs = samples["image"]
    rows = encoder.encode([encoder.input("image")(path) for path, _ in pairs], "image")
    texts = encoder.encode([encoder.input("text")(text) for _, text in pairs], "text")
    told = {one.check: one.told for one in examine(encoder, samples)}
    assert told["image: unit embeddings"].startswith("3 items, 128 dimensions, norms 1.0000")
    off_diagonal = (rows @ rows.T)[~torch.eye(3, dtype=torch.bool)]
    highest = float(off_diagonal.max())
    assert highest < ALIKE
    assert told["image: different things differ"] == f"highest cosine {highest:.4f}"
    scores = rows @ texts.T
    for i, (path, _) in enumerate(pairs):
        next_best = max(float(scores[i, j]) for j in range(3) if j != i)
        expected = f"{path.stem} {float(scores[i, i]):.3f} (next {next_best:.3f})"
        assert expected in told["image: its own sentence wins"]


def test_a_finding_names_the_sentence_that_won_instead(samples: Samples) -> None:
    findings = examine(Ill(only("image", lambda rows, _: -rows)), samples)
    (lost,) = [one for one in findings if not one.passed]
    assert isinstance(lost, Finding)
    assert "(best " in lost.told


# --- the samples


def test_every_real_sample_can_be_read() -> None:
    samples = real_samples()
    assert {modality: len(pairs) for modality, pairs in samples.items()} == {
        "image": 3, "audio": 3, "points": 3,
    }  # fmt: skip
    for path, _ in samples["image"]:
        assert min(read_image(path).size) >= 200
    for path, _ in samples["audio"]:
        sound = read_audio(path, 48_000)
        assert len(sound) > 48_000
        assert 0.01 < np.abs(sound).max() <= 1.01
    for path, _ in samples["points"]:
        assert len(read_points(path, min_points=1024)) >= 1024
    sentences = [text for pairs in samples.values() for _, text in pairs]
    assert len(set(sentences)) == len(sentences)
