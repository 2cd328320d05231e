"""The ablation: its variants are trainings as by hand, and its figures theirs."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from bridge import ablation
from bridge.ablation import AblatedVariant, Ablation, Measured, ablate
from bridge.artefact import load
from bridge.config import TrainSettings
from bridge.evaluation.retrieval import evaluate_retrieval
from bridge.training import run
from bridge.training.train import train
from bridge.variants import CHANGES, variants
from features.errors import UserError
from features.memories.memory import Memory
from features.memories.provenance import EncoderUnknown
from features.memories.writing import save_memory
from features.sealed import read_sealed
from tests.bridge.conftest import SETTINGS, World, write_items

BRIEF = replace(SETTINGS, epochs=3, seed=4)
SEEDS = (4, 5, 6)


def ablated(world: World, out: Path, settings: TrainSettings = BRIEF, **more) -> Ablation:
    leaf = more.pop("leaf", world.leaf)
    more = {"seeds": len(SEEDS), "device": "cpu", **more}
    return ablate(world.hub, leaf, *world.test, out, settings, **more)


@pytest.fixture(scope="module")
def done(world, tmp_path_factory) -> tuple[Ablation, Path]:
    out = tmp_path_factory.mktemp("ablation") / "out"
    return ablated(world, out), out


def weights_of(folder: Path) -> bytes:
    return (folder / "bridge.safetensors").read_bytes()


def named(result: Ablation) -> dict[str, AblatedVariant]:
    return {variant.name: variant for variant in result.variants}


CHANGED = {
    "full": {},
    "without noise": {"noise_variance": 0.0},
    "without pseudo pairs": {},
    "without inter hub": {"inter_hub_weight": 0.0},
    "without inter leaf": {"inter_leaf_weight": 0.0},
    "without intra": {"intra_weight": 0.0},
}


def test_the_variants_are_the_recipe_and_it_without_each_part(done):
    result, out = done
    assert list(named(result)) == list(CHANGED)
    assert (result.seeds, result.left_out, result.settings) == (SEEDS, {}, BRIEF)
    folders = {f"{name.replace(' ', '-')}-seed{seed}" for name in CHANGED for seed in SEEDS}
    assert {path.name for path in out.iterdir()} == folders | {"ablation.json"}
    bridges = {weights_of(out / folder) for folder in folders}
    assert len(bridges) == len(folders)


@pytest.mark.parametrize("name", CHANGED)
def test_a_variant_is_what_train_makes_with_the_same_settings(world, tmp_path, done, name):
    settings = replace(BRIEF, seed=5, **CHANGED[name])
    leaf = () if name == "without pseudo pairs" else world.leaf
    made = train(world.hub, leaf, tmp_path / "alone", settings, device="cpu")
    result, out = done
    folder = out / f"{name.replace(' ', '-')}-seed5"
    assert weights_of(folder) == weights_of(tmp_path / "alone")
    assert load(folder).settings == settings
    own = named(result)[name].runs[1]
    figures = evaluate_retrieval(made, *world.test)
    assert (own.seed, own.bridge, own.fingerprint) == (5, folder.name, made.fingerprint)
    assert (own.forward, own.backward) == (figures.forward, figures.backward)
    assert own.mean.recall[5] == (figures.forward.recall[5] + figures.backward.recall[5]) / 2
    both = figures.forward.mean_average_precision, figures.backward.mean_average_precision
    assert own.mean.mean_average_precision == sum(both) / 2
    assert (result.query, result.gallery) == (figures.query, figures.gallery)
    assert (result.relevance, result.chance) == (figures.relevance, figures.chance)


def both_means(out: Path, name: str, world: World) -> np.ndarray:
    """R@1 and mAP of every seed's bridge, means of both directions."""
    found = []
    for seed in SEEDS:
        bridge = load(out / f"{name.replace(' ', '-')}-seed{seed}", device="cpu")
        figures = evaluate_retrieval(bridge, *world.test)
        sides = (figures.forward, figures.backward)
        found.append([[one.recall[1], one.mean_average_precision] for one in sides])
    return np.mean(found, axis=1)


@pytest.mark.parametrize("name", CHANGED)
def test_spread_and_paired_error_are_those_of_numpy(world, done, name):
    result, out = done
    own, full = both_means(out, name, world), both_means(out, "full", world)
    variant = named(result)[name]
    told = np.array(
        [
            [one.mean, one.deviation, one.difference, one.standard_error]
            for one in (variant.recall[1], variant.mean_average_precision)
        ],
        dtype=float,
    )
    assert told[:, 0] == pytest.approx(np.mean(own, axis=0))
    assert told[:, 1] == pytest.approx(np.std(own, axis=0, ddof=1))
    if name == "full":
        assert np.isnan(told[:, 2:]).all()
        return
    assert told[:, 2] == pytest.approx(np.mean(own - full, axis=0))
    assert told[:, 3] == pytest.approx(np.std(own - full, axis=0, ddof=1) / len(SEEDS) ** 0.5)
    assert told[1, 3] > 0


def test_figures_worked_by_hand():
    full, without = [0.5, 0.75, 1.0], [0.25, 0.75, 0.5]
    assert ablation._measured(full, []) == Measured(0.75, 0.25, None, None)
    told = ablation._measured(without, full)
    # -1/4, 0 and -1/2: variance 1/16
    assert (told.mean, told.deviation) == (0.5, 0.25)
    assert (told.difference, told.standard_error) == (-0.25, pytest.approx(0.25 / 3**0.5))


def test_everything_is_in_the_file(world, done):
    result, out = done
    told = read_sealed(out / "ablation.json")
    assert told == json.loads(json.dumps(asdict(result)))
    assert told["settings"] == asdict(BRIEF)
    assert len(told["variants"][3]["runs"]) == len(SEEDS)
    memories = [*world.hub, *world.leaf, *world.test]
    roles = ["hub", "hub", "leaf", "leaf", "query", "gallery"]
    assert [(m["role"], m["fingerprint"]) for m in told["memories"]] == [
        (role, memory.fingerprint) for role, memory in zip(roles, memories, strict=True)
    ]


class Watch:
    """Tells of every training, and presses Ctrl-C after so many epochs of all of them."""

    def __init__(self, epochs: int | None = None) -> None:
        self.epochs, self.done = epochs, 0
        self.trained: list[str] = []

    @contextmanager
    def task(self, description, total, *, unit="items", done=0):  # noqa: ARG002
        title, _, what = description.partition(": ")
        if what == "train":
            self.trained.append(f"{title} from {done}")

        def advance(count: int) -> None:
            self.done += count * (what == "train")
            if self.done == self.epochs:
                raise KeyboardInterrupt

        yield advance


def test_a_finished_ablation_trains_nothing_again_and_more_seeds_only_theirs(world, tmp_path):
    first = ablated(world, tmp_path / "out", seeds=2)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/*")}
    watch = Watch()
    assert ablated(world, tmp_path / "out", seeds=2, progress=watch) == first
    assert watch.trained == []
    more = ablated(world, tmp_path / "out", seeds=3, progress=watch)
    added = [f"{name}, seed 6 ({i} of 18) from 0" for i, name in enumerate(CHANGED, start=13)]
    assert watch.trained == added
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [variant.runs[:2] for variant in more.variants] == [one.runs for one in first.variants]


def test_an_interrupted_ablation_continues_to_the_same_result(world, tmp_path, done, monkeypatch):
    result, whole = done
    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", -1.0)
    with pytest.raises(KeyboardInterrupt):
        ablated(world, tmp_path / "out", progress=Watch(8))
    assert "variants" not in json.loads((tmp_path / "out" / "ablation.json").read_text())
    watch = Watch()
    assert ablated(world, tmp_path / "out", progress=watch) == result
    # Interrupted in the second epoch of the third training, before that was saved.
    assert watch.trained[0] == "without pseudo pairs, seed 4 (3 of 18) from 1"
    assert len(watch.trained) == 16
    for path in whole.glob("*/bridge.safetensors"):
        assert path.read_bytes() == weights_of(tmp_path / "out" / path.parent.name)


def test_a_damaged_checkpoint_is_trained_again(world, tmp_path, done, monkeypatch):
    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", -1.0)
    with pytest.raises(KeyboardInterrupt):
        ablated(world, tmp_path / "out", progress=Watch(2))
    (file,) = (tmp_path / "out").glob("*/checkpoint-*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    assert ablated(world, tmp_path / "out") == done[0]


def test_with_one_leaf_there_is_no_inter_leaf(world, tmp_path):
    result = ablated(world, tmp_path / "out", seeds=2, leaf=world.leaf[1:])
    assert list(named(result)) == [name for name in CHANGED if name != "without inter leaf"]
    reason = "it is the same as full, as only right has a leaf memory"
    assert result.left_out == {"without inter leaf": reason}
    assert not (tmp_path / "out" / "without-inter-leaf-seed4").exists()


@pytest.mark.parametrize("space", ["left", "right"])
@pytest.mark.parametrize("pseudo_pairs", ["hub", "all"])
def test_a_variant_that_is_left_out_would_have_been_full(world, tmp_path, space, pseudo_pairs):
    leaf = [one for one in world.leaf if one.space == space]
    settings = replace(BRIEF, pseudo_pairs=pseudo_pairs)
    names, left_out = variants(settings, [space])
    assert list(left_out) == ["without inter leaf"]
    for name in (*names, *left_out):
        changed = replace(settings, **CHANGES[name].settings)
        rows = leaf if CHANGES[name].leaf else []
        train(world.hub, rows, tmp_path / name, changed, device="cpu")
        same = weights_of(tmp_path / name) == weights_of(tmp_path / "full")
        assert same == (name == "full" or name in left_out), name


SAME = "it is the same as full, as "
NOTHING = "nothing would be left to train on"
LEFT_OUT = {
    "no leaf": ({}, [], {
        "without pseudo pairs": SAME + "there is no leaf memory",
        "without inter hub": NOTHING,
        "without inter leaf": SAME + "there is no leaf memory",
        "without intra": SAME + "there is no leaf memory",
    }),
    "no noise": (
        {"noise_variance": 0.0}, ["left", "right"],
        {"without noise": SAME + "noise_variance is 0 anyway"},
    ),
    "intra alone": ({"inter_hub_weight": 0.0, "inter_leaf_weight": 0.0}, ["left", "right"], {
        "without pseudo pairs": NOTHING,
        "without inter hub": SAME + "inter_hub_weight is 0 anyway",
        "without inter leaf": SAME + "inter_leaf_weight is 0 anyway",
        "without intra": NOTHING,
    }),
    "leaf-centred": ({"pseudo_pairs": "leaf"}, ["left", "right"], {}),
}  # fmt: skip


@pytest.mark.parametrize("case", LEFT_OUT)
def test_what_is_left_out_and_why(case):
    change, with_leaf, expected = LEFT_OUT[case]
    names, left_out = variants(replace(BRIEF, **change), with_leaf)
    assert left_out == expected
    assert names == [name for name in CHANGED if name not in expected]


def test_without_pseudo_pairs_a_leaf_centred_recipe_is_the_hub_alone(world, tmp_path):
    result = ablated(world, tmp_path / "out", replace(BRIEF, pseudo_pairs="leaf"), seeds=2)
    train(world.hub, (), tmp_path / "hub", BRIEF, device="cpu")
    assert weights_of(tmp_path / "out" / "without-pseudo-pairs-seed4") == weights_of(
        tmp_path / "hub"
    )
    assert result.left_out == {}


@pytest.mark.parametrize(
    ("settings", "by"),
    [({"method": "procrustes"}, "procrustes"), ({"objective": "cwcl"}, "cwcl")],
)
def test_other_recipes_are_refused(world, tmp_path, settings, by):
    with pytest.raises(UserError) as caught:
        ablated(world, tmp_path / "out", TrainSettings(**settings))
    assert str(caught.value) == (
        f"an ablation takes parts of C-MCR away but these settings make a bridge by {by}: leave "
        "the method (projectors) and the objective (cmcr) as they are"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seeds", [1, 0, -3])
def test_too_few_seeds_for_a_spread_are_refused(world, tmp_path, seeds):
    with pytest.raises(UserError, match=f"^seeds is {seeds} but a spread needs at least 2: give"):
        ablated(world, tmp_path / "out", seeds=seeds)


def without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ablation, "train")


def test_other_settings_are_refused_and_all_that_differ_are_named(world, done, monkeypatch):
    without_training(monkeypatch)
    other = replace(BRIEF, epochs=9, noise_variance=0.5, patience=2)
    with pytest.raises(UserError) as caught:
        ablated(world, done[1], other)
    assert str(caught.value) == (
        f"{done[1]} holds an ablation with other settings (epochs was 3 and is 9, noise_variance "
        "was 0.004 and is 0.5, patience was None and is 2): give the same to continue it, or "
        "choose another output"
    )


def test_other_memories_are_refused(world, done, monkeypatch):
    without_training(monkeypatch)
    with pytest.raises(UserError, match=r"out holds an ablation of other hub or leaf memories: gi"):
        ablated(world, done[1], leaf=world.leaf[:1])


def test_other_memories_can_be_searched_without_training_again(world, done, tmp_path):
    query = write_items(tmp_path / "q.h5", "left", "audio", range(600, 630))
    watch = Watch()
    result = ablate(
        world.hub, world.leaf, query, world.test[1], done[1], BRIEF,
        seeds=3, device="cpu", progress=watch,
    )  # fmt: skip
    assert watch.trained == []
    assert result.variants[0].runs[0].forward.queries == 30
    ablated(world, done[1])  # as it was


def test_a_folder_of_something_else_is_refused(world, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    for out in (tmp_path / "out", tmp_path / "out" / "notes.txt"):
        with pytest.raises(UserError) as caught:
            ablated(world, out)
        assert str(caught.value) == (
            f"{out} exists and is not an ablation's folder: choose another output"
        )


@pytest.mark.parametrize("content", ["", "[]", '{"settings": {}}', '{"settings": 1}'])
def test_a_damaged_file_of_results_is_refused(world, tmp_path, content):
    (tmp_path / "full-seed4").mkdir()
    (tmp_path / "full-seed4" / "metrics.jsonl").write_text("")
    (tmp_path / "ablation.json").write_text(content)
    with pytest.raises(UserError, match=r"ablation.json is damaged \(.*\): remove .* or choose"):
        ablated(world, tmp_path)


def test_a_training_that_fails_is_named_and_settings_can_then_be_mended(world, tmp_path):
    wrong = replace(BRIEF, inter_hub_weight=0.0, inter_leaf_weight=0.0, intra_weight=0.0)
    with pytest.raises(UserError, match=r"^full, seed 4: the weights of all terms that the mem"):
        ablated(world, tmp_path / "out", wrong)
    assert ablated(world, tmp_path / "out", seeds=2).seeds == (4, 5)


def unlike(folder: Path, space: str, width: int) -> Memory:
    """Sounds of an encoder that nothing is known of."""
    labels = [f"class {i}" for i in range(8)]
    return save_memory(
        folder / "unlike.h5", np.eye(8, width, dtype="f4"), list("abcdefgh"),
        space=space, modality="audio", labels=labels,
    )  # fmt: skip


@pytest.mark.parametrize(("space", "width"), [("third", 12), ("left", 11)])
def test_memories_that_cannot_be_measured_are_refused_before_training(
    world, tmp_path, monkeypatch, space, width
):
    without_training(monkeypatch)
    query = unlike(tmp_path, space, width)
    with pytest.raises(UserError) as caught:
        ablate(world.hub, world.leaf, query, world.test[1], tmp_path / "out", BRIEF)
    assert str(caught.value) == (
        f"{query.path} holds embeddings of {space} ({width}-d) but the hub joins left (12-d) and "
        "right (10-d): give embeddings of one of these spaces, as `mcr extract` makes them"
    )
    assert not (tmp_path / "out").exists()


def test_a_query_of_another_encoder_needs_trust(world, tmp_path, monkeypatch):
    foreign = write_items(tmp_path / "f.h5", "left", "audio", range(30), weights="other weights")
    arguments = (world.hub, world.leaf, foreign, world.test[1], tmp_path / "out", BRIEF)
    with monkeypatch.context() as patched:
        without_training(patched)
        with pytest.raises(
            UserError, match=r"f.h5 and the training memories of left have encoders with other we"
        ):
            ablate(*arguments, seeds=2, device="cpu")
    result = ablate(*arguments, seeds=2, device="cpu", trust_encoder=True)
    assert result.variants[0].runs[0].forward.queries == 30


def test_what_is_taken_on_trust_is_told_once(world, tmp_path):
    unknown = unlike(tmp_path, "left", 12)
    with pytest.warns(EncoderUnknown) as told:
        ablate(
            world.hub, world.leaf, unknown, world.test[1], tmp_path / "out", BRIEF,
            seeds=2, device="cpu",
        )  # fmt: skip
    assert len(told) == 1


def test_nothing_in_common_is_refused_before_training(world, tmp_path, monkeypatch):
    without_training(monkeypatch)
    query = write_items(tmp_path / "q.h5", "left", "audio", range(9), labels=False)
    with pytest.raises(UserError, match="so no answer would be right"):
        ablate(world.hub, world.leaf, query, world.test[1], tmp_path / "out", BRIEF)


def test_hub_ids_that_differ_need_align(world, tmp_path, monkeypatch):
    fewer = write_items(tmp_path / "few.h5", "right", "text", range(90))
    arguments = ((world.hub[0], fewer), world.leaf, *world.test, tmp_path / "out", BRIEF)
    with monkeypatch.context() as patched:
        without_training(patched)
        with pytest.raises(UserError, match="pass --align"):
            ablate(*arguments, seeds=2, device="cpu")
    assert ablate(*arguments, seeds=2, align=True, device="cpu").seeds == (4, 5)
