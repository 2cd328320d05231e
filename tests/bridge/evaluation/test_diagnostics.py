from __future__ import annotations

import numpy as np
import pytest
import torch

from bridge.evaluation.diagnostics import diagnostics_result
from bridge.metrics.spaces import alignment, linear_cka, modality_gap, skewness, uniformity
from features.errors import UserError
from features.memories.writing import save_memory
from tests.bridge.conftest import unit_rows, write_items


@pytest.fixture
def one_space(tmp_path):
    """Texts and images of one space; ids 5 to 44 are in both, the images in another order."""
    texts, images = unit_rows(45, 6, seed=1), unit_rows(60, 6, seed=2)
    order = np.random.default_rng(0).permutation(60)
    left = save_memory(tmp_path / "texts.h5", texts.float(), range(45), space="s", modality="text")
    right = save_memory(
        tmp_path / "images.h5", images.float()[order], order + 5, space="s", modality="image"
    )
    return left, right, texts, images


def neighbours(scores: torch.Tensor, k: int) -> list[set[int]]:
    return [set(row.argsort(descending=True)[:k].tolist()) for row in scores]


def test_a_space_without_a_bridge(one_space):
    left, right, texts, images = one_space
    found = diagnostics_result([left, right], neighbours=3)
    assert found.counts["texts | images: shared ids"] == 40
    assert found.figures["texts"] == {
        "uniformity before": pytest.approx(uniformity(texts), abs=1e-6)
    }
    pair, mine, its = found.figures["texts | images"], texts[5:], images[:40]
    close = {"abs": 1e-6}
    assert pair["gap before"] == pytest.approx(modality_gap(texts, images), **close)
    assert pair["alignment before"] == pytest.approx(alignment(mine, its), **close)
    assert pair["CKA before"] == pytest.approx(linear_cka(mine, its), **close)
    counts = torch.zeros(60)
    for near in neighbours(texts @ images.T, 3):
        counts[list(near)] += 1
    assert pair["hubs before"] == pytest.approx(skewness(counts.long()), abs=1e-9)
    none = torch.full((40,), -9.0, dtype=torch.float64).diag()
    agreed = [
        len(a & b) / 3
        for a, b in zip(
            neighbours(mine @ mine.T + none, 3), neighbours(its @ its.T + none, 3), strict=True
        )
    ]
    assert pair["neighbours agree before"] == pytest.approx(np.mean(agreed), abs=1e-9)
    assert not [name for name in pair if name.endswith("after")]


def test_after_a_bridge_spaces_can_be_compared(world, made):
    texts = [*world.hub]
    found = diagnostics_result([*texts, world.test[0]], bridge=made, neighbours=5)
    pair = found.figures["text-left | text-right"]
    # Two spaces of other widths: nothing but structure can be compared before.
    assert {name for name in pair if "before" in name} == {
        "CKA before", "neighbours agree before"
    }  # fmt: skip
    left, right = (made.project(m.tensor(), m.space, m.modality) for m in texts)
    assert pair["gap after"] == pytest.approx(modality_gap(left, right), abs=1e-6)
    assert pair["alignment after"] == pytest.approx(alignment(left, right), abs=1e-6)
    assert pair["alignment after"] < alignment(left, right.roll(1, dims=0)) - 0.3
    assert pair["CKA after"] == pytest.approx(linear_cka(left, right), abs=1e-6)
    inside = found.figures["text-left | audio-test"]
    assert {"gap before", "gap after", "hubs before", "hubs after, back"} < inside.keys()
    assert not [name for name in inside if "alignment" in name]  # no ids are shared
    assert found.bridge == {"name": made.name, "fingerprint": made.fingerprint}
    assert all(np.isfinite(v) for part in found.figures.values() for v in part.values())


def test_one_space_of_two_encoders_is_refused(tmp_path):
    text = write_items(tmp_path / "text.h5", "left", "text", range(20))
    audio = write_items(tmp_path / "audio.h5", "left", "audio", range(20))
    other = write_items(tmp_path / "other.h5", "left", "audio", range(20), weights="others")
    elsewhere = write_items(tmp_path / "else.h5", "right", "text", range(20), weights="others")
    # The encoder is compared with every other of its space, and with none of another.
    with pytest.raises(
        UserError, match=r"other.h5 and .*audio.h5 have encoders with other weights.*trust-encoder"
    ):
        diagnostics_result([elsewhere, audio, other], neighbours=3)
    told = diagnostics_result([text, audio, elsewhere], neighbours=3).figures
    trusted = diagnostics_result([text, other], neighbours=3, trust_encoder=True).figures
    assert trusted["text | other"] == told["text | audio"]  # the same rows
    assert "gap before" in told["text | audio"]
    assert "gap before" not in told["text | else"]


def test_items_that_are_all_the_same_have_neighbours_and_no_nan(tmp_path):
    same = np.tile(np.eye(4, dtype=np.float32)[0], (8, 1))
    memories = [
        save_memory(tmp_path / f"{name}.h5", same, range(8), space="s", modality="text")
        for name in ("a", "b")
    ]
    pair = diagnostics_result(memories, neighbours=2).figures["a | b"]
    assert pair == {
        "gap before": 0.0, "alignment before": 0.0, "CKA before": 0.0,
        "hubs before": pytest.approx(skewness(torch.tensor([8, 8, 0, 0, 0, 0, 0, 0]))),
        "hubs before, back": pytest.approx(skewness(torch.tensor([8, 8, 0, 0, 0, 0, 0, 0]))),
        "neighbours agree before": 1.0,
    }  # fmt: skip


def test_large_memories_are_drawn_from_partners_first(one_space):
    left, right, *_ = one_space
    found = diagnostics_result([left, right], neighbours=3, rows=20, seed=1)
    assert found.counts["texts | images: shared ids"] == 20
    assert found.counts["images: items not drawn"] == 40
    again = diagnostics_result([left, right], neighbours=3, rows=20, seed=1)
    assert again.figures == found.figures
    assert diagnostics_result([left, right], neighbours=3, rows=20, seed=2).figures != found.figures


def test_bad_input_is_refused(one_space, world, made, tmp_path):
    left, right, *_ = one_space
    with pytest.raises(UserError, match=r"50 neighbours need 52 items but .*texts.h5 has 45"):
        diagnostics_result([left, right], neighbours=50)
    with pytest.raises(UserError, match="takes one memory or more, each once"):
        diagnostics_result([left, left])
    with pytest.raises(UserError, match="joins left and right, not 's'"):
        diagnostics_result([left], bridge=made)
    from bridge.projection import project_memory

    shared = project_memory(made, world.test[0], tmp_path / "shared.h5")
    with pytest.raises(UserError, match="is projected already, so there is no before"):
        diagnostics_result([shared], bridge=made)
    few = write_items(tmp_path / "few.h5", "left", "audio", range(3))
    with pytest.raises(UserError, match=r"10 neighbours need 12 items but .*few.h5 has 3"):
        diagnostics_result([few])
