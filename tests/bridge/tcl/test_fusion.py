from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bridge.tcl.fusion import Fusion, FusionSpec, Side, Tokens, joined
from bridge.tcl.items import Items
from bridge.tcl.words import FIRST, LONGEST, PADDING, UNKNOWN, Vocabulary
from tests.bridge.conftest import unit_rows
from tests.bridge.parts import with_parts

SPEC = FusionSpec(
    (Side("left", "audio", 12, 4), Side("right", "image", 10, 3)), 8, 2, 2, ("one", "two"), 0.05
)


def make_fusion(seed: int = 0) -> Fusion:
    return Fusion(SPEC, torch.Generator().manual_seed(seed)).double().eval()


def tokens(width: int, parts: int, *, seed: int = 0, there: int | None = None) -> Tokens:
    mask = torch.arange(parts).expand(3, parts) < (parts if there is None else there)
    rows = unit_rows(3, parts, width, seed=seed)
    return Tokens.of(unit_rows(3, width, seed=seed + 1), rows * mask.unsqueeze(-1), mask)


def test_a_description_survives_json() -> None:
    assert FusionSpec.from_dict(json.loads(json.dumps(SPEC.as_dict()))) == SPEC


def test_the_generator_alone_decides_the_weights() -> None:
    before = torch.random.get_rng_state()
    one, same, other = make_fusion(), make_fusion(), make_fusion(1)
    assert torch.equal(torch.random.get_rng_state(), before)
    for mine, its in zip(one.parameters(), same.parameters(), strict=True):
        assert torch.equal(mine, its)
        assert mine.isfinite().all()
    assert not torch.equal(one.match.weight, other.match.weight)


def test_parts_that_are_not_there_do_not_matter() -> None:
    fusion = make_fusion()
    left, right = tokens(12, 4, there=2), tokens(10, 3, seed=5, there=1)
    expected = fusion(left, right)
    spoilt = [
        Tokens(one.rows.where(one.mask.unsqueeze(-1), 9.0), one.mask) for one in (left, right)
    ]
    torch.testing.assert_close(fusion(*spoilt), expected)
    shorter = [
        Tokens(left.rows[:, :3], left.mask[:, :3]),
        Tokens(right.rows[:, :2], right.mask[:, :2]),
    ]
    torch.testing.assert_close(fusion(*shorter), expected)


def test_pairs_are_judged_one_by_one() -> None:
    fusion, left, right = make_fusion(), tokens(12, 4), tokens(10, 3, seed=5)
    order = torch.tensor([2, 0, 2])
    together = fusion(joined([left, left]), joined([right, right.take(order)]))
    torch.testing.assert_close(together[:3], fusion(left, right))
    for i, j in enumerate(order.tolist()):
        alone = fusion(left.take(torch.tensor([i])), right.take(torch.tensor([j])))
        torch.testing.assert_close(together[3 + i], alone[0])


def test_words_are_guessed_from_the_other_words_and_the_item() -> None:
    fusion, image = make_fusion(), tokens(10, 3)
    words = torch.tensor([[3, 4, 1], [3, 1, 0], [4, 0, 0]])
    found = fusion.guesses(words, 1, image)
    assert found.shape == (3, 3, FIRST + 2)
    cut = fusion.guesses(words[1:2, :2], 1, image.take(torch.tensor([1])))
    torch.testing.assert_close(found[1, :2], cut[0])
    assert not torch.allclose(found, fusion.guesses(words, 1, tokens(10, 3, seed=7)))


def test_a_vocabulary_has_the_most_frequent_words() -> None:
    known = Vocabulary.of(["The cat, the dog", "a cat 42", "the"], 3)
    assert known.words == ("the", "cat", ",")
    coded = known.encode(["THE dog", "cat", ""])
    assert coded.tolist() == [[FIRST, UNKNOWN], [FIRST + 1, PADDING], [PADDING, PADDING]]
    assert Vocabulary.of(["407"], 9).words == ("0", "4", "7")
    assert known.encode(["the " * 50]).shape == (1, LONGEST)
    assert known.encode([]).shape == (0, 1)


def test_items_are_found_in_memories_laid_end_to_end(tmp_path: Path) -> None:
    first = with_parts(tmp_path / "a.h5", "left", "text", range(5), sentences=True)
    second = with_parts(tmp_path / "b.h5", "left", "text", range(10, 14), sentences=True)
    like = torch.zeros(1, 12, dtype=torch.float64)
    items = Items((first, second))
    local, mask = items.parts(torch.tensor([6, 0, 8]), like)
    assert (local.dtype, items.length) == (torch.float64, 3)
    for row, (memory, place) in enumerate([(second, 1), (first, 0), (second, 3)]):
        expected, there = memory.local_tensors(torch.tensor([place]).numpy())
        torch.testing.assert_close(local[row].float(), expected[0])
        assert torch.equal(mask[row], there[0])
    some = Items((first,), torch.tensor([4, 2]).numpy())
    assert some.sentences == ["item 4 of class 4", "item 2 of class 2"]
    assert torch.equal(
        some.parts(torch.tensor([1]), like)[0], Items((first,)).parts(torch.tensor([2]), like)[0]
    )


@pytest.mark.parametrize("change", [{"width": 9}, {"heads": 0}, {"layers": 0}])
def test_a_description_that_cannot_be_built_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="a fusion encoder of"):
        FusionSpec.from_dict({**SPEC.as_dict(), **change})
