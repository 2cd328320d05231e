"""TCL's steps, momentum and queues included, against loops over pairs in Python's floats."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bridge.config import TrainSettings
from bridge.losses.matching import hard_negatives
from bridge.tcl.fusion import Tokens
from bridge.tcl.fusion_terms import FusionTerms, _paired
from bridge.tcl.momentum import Queue
from bridge.tcl.steps import TclSteps, pooled_grid
from bridge.training.steps import PairedSteps
from bridge.training.training_set import (
    FrozenRows,
    TrainingSet,
    build_training_set,
    check_memories,
    load_rows,
)
from features.progress import SILENT
from tests.bridge import naive_tcl
from tests.bridge.conftest import WIDTHS, World, unit_rows
from tests.bridge.parts import Map, with_parts

SHARED, BATCHES, SHARE, ALPHA = 4, 3, 0.7, 0.4
SETTINGS = TrainSettings(
    objective="tcl", dimension=SHARED, noise_variance=0.0, tcl_momentum=SHARE, tcl_alpha=ALPHA,
    tcl_queue=7, tcl_temperature=0.2, lmi_weight=1.0, local_batch=5, retrieval_temperature=0.1,
    fusion_width=8, fusion_heads=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> FrozenRows:
    """Ten items of a hub and leaves of their own, all with parts, in float64."""
    folder = tmp_path_factory.mktemp("parts")
    hub = [
        with_parts(folder / f"text-{space}.h5", space, "text", range(10), sentences=True)
        for space in WIDTHS
    ]
    leaf = [
        with_parts(folder / "audio.h5", "left", "audio", range(200, 212)),
        with_parts(folder / "image.h5", "right", "image", range(300, 309)),
    ]
    found = load_rows(check_memories(hub, leaf), holdout=0.0, seed=0, device=torch.device("cpu"))
    return replace(
        found,
        hub={space: rows.double() for space, rows in found.hub.items()},
        leaf={space: rows.double() for space, rows in found.leaf.items()},
    )


def tcl_steps(frozen: FrozenRows, settings: TrainSettings) -> TclSteps:
    data = build_training_set(frozen, settings)
    return TclSteps(PairedSteps(data, settings), SILENT)


def projectors(seed: int = 0) -> dict[str, Map]:
    return {space: Map(width, SHARED, seed + n) for n, (space, width) in enumerate(WIDTHS.items())}


class Naive:
    """What should be remembered: copies of the weights, and queues of all that was ever added."""

    def __init__(self, data: TrainingSet, maps: dict[str, Map]) -> None:
        self.rows = {
            (space, role): rows.tolist()
            for space, roles in data.rows.items()
            for role, rows in roles.items()
        }
        self.copies = {space: one.weight.tolist() for space, one in maps.items()}
        self.queues: dict[tuple[str, str], list[tuple[list[float], int]]] = {
            place: [] for place in self.rows
        }

    def terms(
        self, items: list[int], maps: dict[str, Map], ramp: float, queue: int, temperature: float
    ) -> dict[str, float]:
        weights = {space: one.weight.tolist() for space, one in maps.items()}
        self.copies = {
            space: naive_tcl.followed(copy, weights[space], SHARE)
            for space, copy in self.copies.items()
        }
        views, keys = {}, {}
        for (space, role), table in self.rows.items():
            batch = [table[item] for item in items]
            views[space, role] = naive_tcl.projected(batch, weights[space])
            keys[space, role] = naive_tcl.projected(batch, self.copies[space])
        known = {
            place: (keys[place], items, [row for row, _ in queued], [item for _, item in queued])
            for place, queued in self.queues.items()
        }
        cma = [
            naive_tcl.contrast(
                views[one, role], *known[other, role], temperature, keys[one, role], ALPHA * ramp
            )
            for role in ("hub", "leaf")
            for one, other in (("left", "right"), ("right", "left"))
        ]
        imc = [
            naive_tcl.contrast(view, *known[place], temperature) for place, view in views.items()
        ]
        for place, rows in keys.items():
            queued = [*self.queues[place], *zip(rows, items, strict=True)]
            self.queues[place] = queued[max(0, len(queued) - queue) :]
        return {"cma": sum(cma) / len(cma), "imc": sum(imc) / len(imc)}


@pytest.mark.parametrize(
    ("queue", "without"), [(0, ""), (2, ""), (7, ""), (65_536, ""), (7, "cma"), (7, "imc")]
)
def test_every_step_costs_what_momentum_and_queues_say(
    frozen: FrozenRows, queue: int, without: str
) -> None:
    weights = {f"{without}_weight": 0.0} if without else {}
    steps = tcl_steps(frozen, replace(SETTINGS, tcl_queue=queue, lmi_weight=0.0, **weights))  # type: ignore[arg-type]
    maps = projectors()
    state, expected = steps.begin(maps), Naive(steps.data, maps)
    order, noise = (torch.Generator().manual_seed(seed) for seed in (1, 2))
    taken = 0
    for _ in range(3):
        for drawn in steps.draw(order, BATCHES):
            found = steps.losses(drawn, maps, noise)  # type: ignore[arg-type]
            wanted = expected.terms(
                drawn["left"]["hub"].tolist(), maps, min(1.0, taken / BATCHES),
                min(queue, len(steps.data)), state.temperature.item(),
            )  # fmt: skip
            wanted.pop(without, None)
            assert {"cma", "imc"} & found.keys() == wanted.keys()
            for name, value in wanted.items():
                assert found[name].item() == pytest.approx(value, abs=1e-9), (name, taken)
            taken += 1
            with torch.no_grad():  # as an optimiser would
                state.temperature.mul_(0.9)
                for one in maps.values():
                    one.weight += 0.1 * torch.randn(one.weight.shape, generator=order)
    assert list(steps.terms) == ["inter_hub", "inter_leaf", "intra", "cma", "imc", "temperature"]


@pytest.mark.parametrize("way", ["items", "parts", "both"])
def test_lmi_is_of_the_parts_of_every_memory(frozen: FrozenRows, way: str) -> None:
    steps, maps = tcl_steps(frozen, replace(SETTINGS, lmi_from=way)), projectors()
    steps.begin(maps)
    with torch.no_grad():
        for one in maps.values():
            one.weight += 0.5
    (drawn,) = steps.draw(torch.Generator().manual_seed(0), 1)
    noise = torch.Generator().manual_seed(3)
    some = {
        space: torch.unique(torch.randint(len(frozen.leaf[space]), (5,), generator=noise))
        for space in WIDTHS
    }
    found = steps.losses(drawn, maps, torch.Generator().manual_seed(3))  # type: ignore[arg-type]
    costs = []
    for space, one in maps.items():
        first = Map(WIDTHS[space], SHARED, list(WIDTHS).index(space)).weight.tolist()
        copy = naive_tcl.followed(first, one.weight.tolist(), SHARE)
        for role, rows in (("hub", drawn[space]["hub"][:5]), ("leaf", some[space])):
            table = frozen.hub[space] if role == "hub" else frozen.leaf[space]
            parts, mask = frozen.items[space][role].parts(rows, table)
            wholes, there = table[rows].tolist(), mask.tolist()
            if way != "parts":
                view = naive_tcl.projected(wholes, one.weight.tolist())
                known = projected_parts(parts, copy)
                costs.append(naive_tcl.local_information(view, known, there, 0.2))
            if way != "items":
                items = naive_tcl.projected(wholes, copy)
                views = projected_parts(parts, one.weight.tolist())
                costs.append(naive_tcl.part_information(views, there, items, 0.2))
    assert len(costs) == (8 if way == "both" else 4)
    assert found["lmi"].item() == pytest.approx(sum(costs) / len(costs), abs=1e-9)


def projected_parts(parts: Tensor, weight: list[list[float]]) -> list[list[list[float]]]:
    return [
        [naive_tcl.projected([part], weight)[0] if any(part) else part for part in item]
        for item in parts.tolist()
    ]


def test_lmi_from_parts_leaves_batch_norm_as_the_items_made_it(frozen: FrozenRows) -> None:
    def kept(way: str) -> list[Tensor]:
        steps = tcl_steps(frozen, replace(SETTINGS, lmi_from=way))
        found = {
            space: Normalised(width, SHARED, seed)
            for seed, (space, width) in enumerate(WIDTHS.items())
        }
        steps.begin(found)
        (drawn,) = steps.draw(torch.Generator().manual_seed(0), 1)
        terms = steps.losses(drawn, found, torch.Generator().manual_seed(3))  # type: ignore[arg-type]
        terms["lmi"].backward()
        for one in found.values():
            assert one.training
            assert one.weight.grad is not None
            assert bool(one.weight.grad.abs().sum() > 0)
        return [buffer for one in found.values() for buffer in one.buffers()]

    for mine, published in zip(kept("parts"), kept("items"), strict=True):
        assert torch.equal(mine, published)


class Normalised(Map):
    """With BatchNorm before the map."""

    def __init__(self, inputs: int, outputs: int, seed: int) -> None:
        super().__init__(inputs, outputs, seed)
        self.norm = torch.nn.BatchNorm1d(inputs, dtype=torch.float64)

    def forward(self, rows: Tensor) -> Tensor:
        return super().forward(self.norm(rows))


# Different items; one of them twice; one alone, which has no other to be told from.
@pytest.mark.parametrize("drawn", [[0, 3, 4, 9], [3, 3, 4, 3], [5]], ids=str)
def test_itm_asks_about_each_pair_and_wrong_ones(frozen: FrozenRows, drawn: list[int]) -> None:
    settings = replace(SETTINGS, lmi_weight=0.0, itm_weight=1.0)
    steps, maps = tcl_steps(frozen, settings), projectors()
    state = steps.begin(maps)
    assert isinstance(steps.fusion_terms, FusionTerms)
    assert state.fusion is not None
    state.fusion.double()
    hub = torch.tensor(drawn)
    found = steps.fusion_terms.losses(
        hub,
        state,
        maps,
        0.0,
        torch.Generator().manual_seed(5),  # type: ignore[arg-type]
    )
    noise = torch.Generator().manual_seed(5)
    rows = [side.draw(hub, noise) for side in steps.fusion_terms.sides]
    shared = [
        maps[space](frozen.leaf[space][mine]) for space, mine in zip(WIDTHS, rows, strict=True)
    ]
    pairs = set(zip(*(mine.tolist() for mine in rows), strict=True))
    paired = torch.tensor(
        [[(one, other) in pairs for other in rows[1].tolist()] for one in rows[0].tolist()]
    )
    logits = (shared[0] @ shared[1].T / 0.2).detach()
    wrong_right = zip(*hard_negatives(logits, paired, generator=noise), strict=True)
    wrong_left = zip(*hard_negatives(logits.T, paired.T, generator=noise), strict=True)
    wrong = [*wrong_right, *((one, other) for other, one in wrong_left)]
    assert not any((rows[0][i].item(), rows[1][j].item()) in pairs for i, j in wrong)
    assert len(wrong) == (0 if len(hub) == 1 else 2 * len(hub))

    def judged(left: int, right: int) -> float:
        pair = []
        for side, which, mine in zip(steps.fusion_terms.sides, (left, right), rows, strict=True):
            whole = side.wholes[mine[which]][None]
            pair.append(Tokens.of(whole, *side.items.parts(mine[which][None], whole)))
        return float(state.fusion(*pair))

    expected = naive_tcl.matching(
        [judged(i, i) for i in range(len(hub))], [judged(int(i), int(j)) for i, j in wrong]
    )
    assert found["itm"].item() == pytest.approx(expected, abs=1e-9)


def test_mlm_guesses_the_masked_words_from_either_leaf(frozen: FrozenRows) -> None:
    settings = replace(SETTINGS, lmi_weight=0.0, mlm_weight=1.0, mlm_masking=0.5)
    steps, maps = tcl_steps(frozen, settings), projectors()
    state = steps.begin(maps)
    terms = steps.fusion_terms
    assert terms is not None
    assert terms.vocabulary.words[:3] == ("class", "item", "of")
    assert state.fusion is not None
    assert state.fusion_copy is not None
    state.fusion.double()
    state.fusion_copy.double()
    with torch.no_grad():
        for weight in state.fusion.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    hub = torch.tensor([0, 3, 4, 9])
    found = terms.losses(hub, state, maps, 0.3, torch.Generator().manual_seed(5))  # type: ignore[arg-type]
    noise = torch.Generator().manual_seed(5)
    rows = [side.draw(hub, noise) for side in terms.sides]
    assert terms.words is not None
    words = terms.words[hub]
    shown, masked = terms._masked(words, noise)
    assert bool((shown != words)[masked].any())
    assert torch.equal(shown[~masked], words[~masked])
    costs = []
    for number, side in enumerate(terms.sides):
        answers: list[list[Tensor]] = [[], []]
        for i, row in enumerate(rows[number]):
            whole = side.wholes[row][None]
            tokens = Tokens.of(whole, *side.items.parts(row[None], whole))
            for one, made in zip((state.fusion, state.fusion_copy), answers, strict=True):
                made.append(one.guesses(shown[i][None], number, tokens)[0].detach())
        told = [[one.tolist() for one in made] for made in answers]
        costs.append(naive_tcl.masked_words(told[0], words.tolist(), masked.tolist(), told[1], 0.3))
    assert found["mlm"].item() == pytest.approx(sum(costs) / 2, abs=1e-9)


def test_partners_are_drawn_as_often_as_pseudo_pairs_mix_them(frozen: FrozenRows) -> None:
    terms = FusionTerms(frozen, replace(SETTINGS, itm_weight=1.0), SILENT)
    for space, side in zip(WIDTHS, terms.sides, strict=True):
        hub = torch.full((20_000,), 3)
        drawn = side.draw(hub, torch.Generator().manual_seed(0)).bincount(minlength=12)
        shares = (frozen.hub[space][3] @ frozen.leaf[space].T / 0.1).softmax(0)
        best = shares.topk(8).indices
        expected = torch.zeros(12, dtype=torch.float64)
        expected[best] = shares[best] / shares[best].sum()
        torch.testing.assert_close(drawn / 20_000, expected.float(), atol=0.02, rtol=0)


def test_a_queue_keeps_the_last_rows() -> None:
    queue = Queue(4, 2, dtype=torch.float64)
    rows = unit_rows(9, 2)
    for part in (slice(0, 3), slice(3, 5), slice(5, 6)):
        queue.add(rows[part], torch.arange(9)[part])
    kept = queue.keys(rows[:1], torch.tensor([0]))
    assert sorted(kept.queue_items.tolist()) == [2, 3, 4, 5]
    assert torch.equal(kept.queue, rows[kept.queue_items])
    queue.add(rows[:9], torch.arange(9))  # more than there is room for
    assert sorted(queue.items.tolist()) == [5, 6, 7, 8]


def test_the_result_comes_back_and_the_rest_stays(frozen: FrozenRows) -> None:
    steps, maps = tcl_steps(frozen, replace(SETTINGS, mlm_weight=1.0)), projectors()
    state = steps.begin(maps)
    before = {name: tensor.clone() for name, tensor in state.state_dict().items()}
    kept = {name: tensor.clone() for name, tensor in state.result().items()}
    with torch.no_grad():
        for tensor in [*state.parameters(), *state.buffers()]:
            tensor.add_(1)
    after = {name: tensor.clone() for name, tensor in state.state_dict().items()}
    state.set_result(kept)
    for name, tensor in state.state_dict().items():
        wanted = before if name.startswith("fusion.") or name == "temperature" else after
        assert torch.equal(tensor, wanted[name]), name
    assert set(kept) == {"temperature", *(n for n in before if n.startswith("fusion."))}


def test_square_pictures_are_pooled_and_others_are_not() -> None:
    parts, mask = unit_rows(2, 36, 3), torch.ones(2, 36, dtype=torch.bool)
    pooled, there = pooled_grid(parts, mask, 3)
    assert there.shape == (2, 9)
    corner = parts[1].view(6, 6, 3)[:2, 4:].mean(dim=(0, 1))
    torch.testing.assert_close(pooled[1, 2], torch.nn.functional.normalize(corner, dim=0))
    for count, side in ((36, 0), (36, 6), (32, 4)):
        assert pooled_grid(parts[:, :count], mask[:, :count], side)[0].shape[1] == count
    mask[0, 0] = False
    assert pooled_grid(parts, mask, 3)[0] is parts


@pytest.mark.parametrize(("cma", "imc", "queues"), [(1, 1, 3), (0, 1, 3), (1, 0, 2), (0, 0, 0)])
def test_a_space_without_a_leaf_is_contrasted_by_its_hub_alone(
    world: World, cma: float, imc: float, queues: int
) -> None:
    """And only what some term contrasts has a queue."""
    frozen = load_rows(
        check_memories(world.hub, world.leaf[:1]), holdout=0.0, seed=0, device=torch.device("cpu")
    )
    settings = replace(SETTINGS, lmi_weight=0.0, cma_weight=cma, imc_weight=imc)
    steps = TclSteps(PairedSteps(build_training_set(frozen, settings), settings), SILENT)
    maps = {space: one.float() for space, one in projectors().items()}
    state = steps.begin(maps)
    (drawn,) = steps.draw(torch.Generator().manual_seed(0), 1)
    found = steps.losses(drawn, maps, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    terms = {"cma": cma, "imc": imc}
    assert set(found) == {name for name in steps.terms if terms.get(name, 1)}
    assert len(state.queues) == queues
    assert all(queue.added == len(drawn["left"]["hub"]) for queue in state.queues)


def test_what_is_paired_anywhere_in_the_batch_is_no_negative() -> None:
    noise = torch.Generator().manual_seed(0)
    for _ in range(20):
        left, right = torch.randint(4, (2, 6), generator=noise)
        pairs = set(zip(left.tolist(), right.tolist(), strict=True))
        expected = [[(i, j) in pairs for j in right.tolist()] for i in left.tolist()]
        assert _paired(left, right).tolist() == expected
