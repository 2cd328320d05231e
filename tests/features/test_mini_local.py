"""The parts of what mini encoders embed: one for each token of the tower."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from features import keypad
from features.encoders import LocalEncoder, load_encoder
from features.encoders.mini.inputs import audio_input, points_input, text_input
from features.errors import UserError

CASES: list[tuple[str, Any]] = [
    ("mini-clip", "image"),
    ("mini-clip", "text"),
    ("mini-clap", "audio"),
    ("mini-ulip", "points"),
]


def arrays(config: Any, modality: str) -> list[Any]:
    rng = np.random.default_rng(0)
    numbers = ["7", "40", "519"]
    if modality == "text":
        return [text_input(f"it says {keypad.spoken(number)}", config) for number in numbers]
    if modality == "image":
        return [keypad.image(number, "test", rng) for number in numbers]
    if modality == "audio":
        return [audio_input(keypad.sound(number, rng), config) for number in numbers]
    return [points_input(keypad.points(number, "test", rng), config) for number in numbers]


@pytest.mark.parametrize(("name", "modality"), CASES)
def test_the_whole_is_made_of_its_parts(name: str, modality: Any) -> None:
    encoder = load_encoder(name, device="cpu")
    assert isinstance(encoder, LocalEncoder)
    batch = arrays(encoder.config, modality)
    found = encoder.encode_local(batch, modality)
    assert torch.equal(found.pooled, encoder.encode(batch, modality))
    assert found.mask.shape == (3, encoder.local_length(modality))
    torch.testing.assert_close(found.local.norm(dim=-1), found.mask.float())
    # Without their norms the parts sum to the whole; with them they still point towards it.
    directions = torch.nn.functional.normalize(found.local.sum(dim=1), dim=-1)
    assert ((directions * found.pooled).sum(dim=-1) > 0.9).all()


def test_sentences_have_as_many_parts_as_words() -> None:
    encoder = load_encoder("mini-clip", device="cpu")
    batch = [text_input(text, encoder.config) for text in ("seven", "it says 4 0")]
    assert encoder.encode_local(batch, "text").mask.sum(dim=1).tolist() == [1, 4]


def test_another_modality_has_no_parts() -> None:
    encoder = load_encoder("mini-clap", device="cpu")
    with pytest.raises(UserError, match="mini-clap does not embed image"):
        encoder.encode_local([], "image")
