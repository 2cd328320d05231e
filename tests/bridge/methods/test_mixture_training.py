"""Mixtures as bridges: saved and loaded, and continued wherever they were interrupted."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from bridge.artefact import load
from bridge.evaluation.retrieval import evaluate_retrieval
from bridge.methods.mixture import MINIMUM_ITEMS, NEGLIGIBLE, candidates
from bridge.runs.layout import PARTS_FOLDER
from bridge.training import run
from bridge.training.train import WEIGHT, train
from features.errors import UserError
from features.progress import SILENT
from tests.bridge.conftest import MIXTURE as SETTINGS
from tests.bridge.conftest import write_items

CLOSED = ["README.md", "bridge.json", "bridge.safetensors", "run.json", "settings.toml"]
ARTEFACT = sorted([*CLOSED, "metrics.jsonl"])  # where some parts have epochs


def names_in(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def weights_of(folder) -> bytes:
    return (folder / "bridge.safetensors").read_bytes()


def shares(metrics) -> dict[str, float]:
    return {
        name.removeprefix(WEIGHT): share
        for name, share in metrics.items()
        if name.startswith(WEIGHT)
    }


def test_a_mixture_comes_back_the_same_and_tells_its_weights(world, mixed):
    folder = world.folder / "mixed"
    back = load(folder, device="cpu")
    assert back.about() == mixed.about()
    rows = world.test[0].tensor()
    assert torch.equal(back.project(rows, "left", "audio"), mixed.project(rows, "left", "audio"))
    told = shares(mixed.metrics)
    assert set(told) <= set(candidates(SETTINGS, 80))
    assert min(told.values()) >= NEGLIGIBLE
    assert sum(told.values()) == pytest.approx(1)
    for projector in (*mixed.projectors.values(), *back.projectors.values()):
        assert projector.weights.tolist() == pytest.approx(list(told.values()), abs=1e-7)
    assert names_in(folder) == CLOSED


def test_the_parts_of_a_mixture_are_the_bridges_of_their_settings(world, mixed, tmp_path):
    """Their similarities, with the weights that were told, are the mixture's."""
    total, modalities = torch.zeros(40, 40), {"left": "audio", "right": "image"}
    for name, weight in shares(mixed.metrics).items():
        alone = train(
            world.hub, world.leaf, tmp_path / name,
            replace(candidates(SETTINGS, 80)[name], holdout=SETTINGS.holdout), device="cpu",
        )  # fmt: skip
        left, right = (
            alone.project(memory.tensor(), space, modalities[space])
            for memory, space in zip(world.test, modalities, strict=True)
        )
        total += weight * left @ right.T
    left, right = (
        mixed.project(memory.tensor(), space, modalities[space])
        for memory, space in zip(world.test, modalities, strict=True)
    )
    torch.testing.assert_close(left @ right.T, total, rtol=0, atol=1e-5)


def test_modalities_that_never_met_find_each_other(world, mixed):
    figures = evaluate_retrieval(mixed, *world.test)
    assert figures.forward.recall[1] > 4 * figures.chance
    assert figures.backward.recall[1] > 4 * figures.chance


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(world, mixed, tmp_path):
    again = train(world.hub, world.leaf, tmp_path / "same", SETTINGS, device="cpu")
    other = train(world.hub, world.leaf, tmp_path / "o", replace(SETTINGS, seed=1), device="cpu")
    assert weights_of(tmp_path / "same") == weights_of(world.folder / "mixed")
    assert again.about()["metrics"] == mixed.metrics
    assert other.fingerprint != mixed.fingerprint


@pytest.mark.parametrize(
    "given",
    [slice(0, 0), slice(0, 1), slice(1, 2)],
    ids=["no leaf", "the left one", "the right one"],
)
def test_a_mixture_of_hub_items_alone_or_with_one_leaf(world, tmp_path, given):
    rows = normalize(world.test[0].tensor(), dim=-1)
    leaf = world.leaf[given]
    made = train(world.hub, leaf, tmp_path / "out", SETTINGS, device="cpu")
    assert sum(shares(made.metrics).values()) == pytest.approx(1)
    assert made.metrics["held_out_r1"] > 4 / 20
    assert made.project(rows, "left", "audio").shape == (40, made.dimension)


@pytest.mark.parametrize("items", [2, MINIMUM_ITEMS - 1])
def test_too_few_hub_items_are_a_sentence(tmp_path, items):
    hub = [write_items(tmp_path / f"{s}.h5", s, "text", range(items)) for s in ("left", "right")]
    settings = replace(SETTINGS, holdout=0.0)
    with pytest.raises(UserError, match=rf"needs 10 of them, {items} are left besides"):
        train(hub, [], tmp_path / "out", settings, device="cpu")


def test_ten_hub_items_are_enough(tmp_path):
    hub = [write_items(tmp_path / f"{s}.h5", s, "text", range(10)) for s in ("left", "right")]
    made = train(hub, [], tmp_path / "out", replace(SETTINGS, holdout=0.0), device="cpu")
    assert torch.isfinite(made.project(hub[0].tensor(), "left", "text")).all()


class StopAt:
    """A progress that presses Ctrl-C at the `moment`-th sign of progress of a task."""

    def __init__(self, task: str, moment: int) -> None:
        self.stopped_task, self.left = task, moment

    @contextmanager
    def task(self, description: str, total: int, *, unit: str = "items", done: int = 0):  # noqa: ARG002
        def advance(count: int) -> None:  # noqa: ARG001
            self.left -= description.startswith(self.stopped_task)
            if self.left <= 0:
                raise KeyboardInterrupt

        yield advance


@pytest.fixture
def gradients(monkeypatch):
    """A mixture whose parts are trained, checkpointed after every epoch."""
    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", -1.0)
    monkeypatch.setattr(
        "bridge.training.train.weigh", lambda *_, **__: {"linear": 0.6, "mlp2": 0.4}
    )


def finished(world, out, settings=SETTINGS, progress=SILENT):
    return train(world.hub, world.leaf, out, settings, device="cpu", progress=progress)


@pytest.mark.parametrize("moment", [1, 12, 30])
def test_interrupted_while_weighing_it_is_continued_to_the_same_bytes(
    world, mixed, tmp_path, moment
):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        finished(world, out, progress=StopAt("weigh", moment))
    with pytest.raises(UserError, match="out is not a bridge"):
        load(out)
    made = finished(world, out)
    assert weights_of(out) == weights_of(world.folder / "mixed")
    assert made.metrics == mixed.metrics
    assert names_in(out) == CLOSED


# The linear part has 6 epochs, the other 2.
@pytest.mark.parametrize("moment", [1, 4, 6, 7, 8])
def test_interrupted_in_its_parts_it_is_continued_to_the_same_bytes(
    world, tmp_path, gradients, moment  # noqa: ARG001
):  # fmt: skip
    whole = finished(world, tmp_path / "whole")
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        finished(world, out, progress=StopAt("train", moment))
    assert (out / "mixture.json").exists()
    with pytest.raises(UserError, match=r"training of .*out is not finished: run the same `mcr"):
        load(out)
    made = finished(world, out)
    assert weights_of(out) == weights_of(tmp_path / "whole")
    assert made.metrics == whole.metrics
    assert names_in(out) == ARTEFACT


def test_weights_that_were_found_are_not_looked_for_again(world, tmp_path, monkeypatch, gradients):  # noqa: ARG001
    with pytest.raises(KeyboardInterrupt):
        finished(world, tmp_path / "out", progress=StopAt("train", 3))

    def never(*_: object, **__: object) -> None:
        raise AssertionError("weighed again")

    monkeypatch.setattr("bridge.training.train.weigh", never)
    assert shares(finished(world, tmp_path / "out").metrics) == {"linear": 0.6, "mlp2": 0.4}


def test_an_unfinished_mixture_with_other_settings_is_refused_or_replaced(
    world, tmp_path, gradients  # noqa: ARG001
):  # fmt: skip
    out, other = tmp_path / "out", replace(SETTINGS, seed=5)
    with pytest.raises(KeyboardInterrupt):
        finished(world, out, progress=StopAt("train", 3))
    with pytest.raises(UserError, match="unfinished training with other memories or settings"):
        finished(world, out, other)
    train(world.hub, world.leaf, out, other, device="cpu", overwrite=True)
    finished(world, tmp_path / "whole", other)
    assert weights_of(out) == weights_of(tmp_path / "whole")
    assert names_in(out) == ARTEFACT


@pytest.mark.parametrize("content", ["", "[]", "3", "{}", '{"plan": {}}'])
def test_weights_on_the_way_that_are_damaged_are_a_sentence(
    world, tmp_path, gradients, content  # noqa: ARG001
):  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        finished(world, tmp_path / "out", progress=StopAt("train", 3))
    (tmp_path / "out" / "mixture.json").write_text(content)
    with pytest.raises(UserError, match=r"mixture\.json is damaged .*pass --overwrite to train"):
        finished(world, tmp_path / "out")


def test_a_part_on_the_way_that_is_damaged_is_a_sentence(world, tmp_path, gradients):  # noqa: ARG001
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        finished(world, out, progress=StopAt("train", 3))
    (checkpoint,) = (out / PARTS_FOLDER).glob("*/checkpoint.json")
    checkpoint.write_text("half of it")
    with pytest.raises(UserError, match=r"checkpoint in .* is damaged .*pass --overwrite to train"):
        finished(world, out)
    train(world.hub, world.leaf, out, SETTINGS, device="cpu", overwrite=True)
    finished(world, tmp_path / "whole")
    assert weights_of(out) == weights_of(tmp_path / "whole")
    assert names_in(out) == ARTEFACT


class Epochs:
    """A progress that counts the epochs of every training."""

    def __init__(self) -> None:
        self.of: list[int] = []

    @contextmanager
    def task(self, description: str, total: int, *, unit: str = "items", done: int = 0):  # noqa: ARG002
        if description == "train":
            self.of.append(0)

        def advance(count: int) -> None:
            if description == "train":
                self.of[-1] += count

        yield advance


def test_patience_holds_for_the_parts_that_are_trained(world, tmp_path, gradients):  # noqa: ARG001
    settings, epochs = replace(SETTINGS, epochs=18, learning_rate=0.1, precision="fp32"), Epochs()
    finished(world, tmp_path / "whole", settings, epochs)
    assert epochs.of == [50, 18]
    epochs = Epochs()
    finished(world, tmp_path / "out", replace(settings, patience=1), epochs)
    assert len(epochs.of) == 2
    assert epochs.of[0] < 50
    assert epochs.of[1] < 18


def test_a_mixture_with_patience_is_weighed_and_made(world, tmp_path):
    made = finished(world, tmp_path / "out", replace(SETTINGS, patience=1))
    assert sum(shares(made.metrics).values()) == pytest.approx(1)
