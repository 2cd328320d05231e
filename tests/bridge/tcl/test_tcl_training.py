"""Training with TCL's terms: what is saved, continued and refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bridge.artefact import Bridge, load
from bridge.config import TrainSettings
from bridge.tcl.requirements import LeftOutOfLmi
from bridge.training import run
from bridge.training.checkpoint import load_checkpoint
from bridge.training.train import train
from features.errors import UserError
from features.memories.memory import Columns, Memory
from features.memories.writing import write_memory
from features.sealed import read_sealed
from tests.bridge.conftest import SETTINGS, InterruptAfter, World, metrics_of, write_items
from tests.bridge.parts import with_parts

EVERYTHING = replace(
    SETTINGS, objective="tcl", epochs=6, tcl_queue=90, tcl_momentum=0.9, lmi_weight=0.5,
    itm_weight=0.5, mlm_weight=0.5, local_batch=8, fusion_width=8, fusion_heads=2,
)  # fmt: skip
TERMS = ["inter_hub", "inter_leaf", "intra", "cma", "imc", "lmi", "itm", "mlm", "temperature"]


@pytest.fixture(scope="module")
def parted(tmp_path_factory: pytest.TempPathFactory) -> World:
    """As `world`, smaller, with parts and sentences."""
    folder = tmp_path_factory.mktemp("parted")
    return World(
        folder,
        hub=(
            with_parts(folder / "text-left.h5", "left", "text", range(60), sentences=True),
            with_parts(folder / "text-right.h5", "right", "text", range(60), sentences=True),
        ),
        leaf=(
            with_parts(folder / "audio.h5", "left", "audio", range(200, 240)),
            with_parts(folder / "image.h5", "right", "image", range(300, 340)),
        ),
        test=(
            with_parts(folder / "audio-test.h5", "left", "audio", range(400, 420)),
            with_parts(folder / "image-test.h5", "right", "image", range(500, 520)),
        ),
    )


@pytest.fixture(scope="module")
def matched(parted: World) -> Bridge:
    """Trained with every term; it is saved in `parted.folder / "matched"`."""
    return train(parted.hub, parted.leaf, parted.folder / "matched", EVERYTHING, device="cpu")


def files_of(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("bridge.safetensors", "matcher.safetensors")]


@pytest.mark.usefixtures("matched")
def test_every_term_is_logged_and_weighed(parted: World) -> None:
    lines = metrics_of(parted.folder / "matched")
    assert [name for name in lines[0] if name in TERMS] == TERMS
    for name in ("inter_hub", "cma"):
        assert lines[-1][name] < lines[0][name], name
    assert lines[-1]["temperature"] != lines[0]["temperature"]
    weights = {"intra": 0.1, "lmi": 0.5, "itm": 0.5, "mlm": 0.5, "temperature": 0.0}
    total = sum(weights.get(name, 1.0) * lines[-1][name] for name in TERMS)
    assert lines[-1]["loss"] == pytest.approx(total, abs=1e-4)


def test_a_temperature_can_be_kept(parted: World, tmp_path: Path) -> None:
    settings = replace(EVERYTHING, tcl_learn_temperature=False, tcl_temperature=0.25, epochs=2)
    made = train(parted.hub, parted.leaf, tmp_path / "out", settings, device="cpu")
    assert [line["temperature"] for line in metrics_of(tmp_path / "out")] == [0.25, 0.25]
    assert made.matcher is not None
    assert made.matcher.spec.temperature == 0.25


def test_cosines_count_in_re_ranking_at_a_temperature_of_their_own(
    parted: World, tmp_path: Path
) -> None:
    settings = replace(EVERYTHING, epochs=1, itm_temperature=0.125)
    train(parted.hub, parted.leaf, tmp_path / "out", settings, device="cpu")
    matcher = load(tmp_path / "out").matcher
    assert matcher is not None
    assert matcher.spec.temperature == 0.125


@pytest.mark.parametrize(
    ("patience", "changes"),
    [(None, {}), (2, {}), (2, {"cma_weight": 0.0, "imc_weight": 0.0, "mlm_weight": 0.0})],
    ids=["to the end", "with patience", "without queues"],
)
def test_going_on_after_interruptions_gives_the_same_bits(
    parted: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: int | None, changes
) -> None:
    settings = replace(EVERYTHING, patience=patience, **changes)
    train(parted.hub, parted.leaf, tmp_path / "whole", settings, device="cpu")
    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", -1.0)
    stops = 0
    while not (tmp_path / "parts" / "bridge.json").exists():
        try:
            train(
                parted.hub, parted.leaf, tmp_path / "parts", settings, device="cpu",
                progress=InterruptAfter(2),
            )  # fmt: skip
        except KeyboardInterrupt:
            stops += 1
            found = load_checkpoint(tmp_path / "parts")
            assert found is not None
            kept = found[0]
            queues = [name for name in kept if name.startswith("beside/queues")]
            assert len(queues) == (0 if changes else 4 * 3)  # rows, items and how many were added
            best = {name for name in kept if name.startswith("best beside/")}
            assert bool(best) == (patience is not None)
            assert {name.split("/")[1].split(".")[0] for name in best} <= {"fusion", "temperature"}
    assert stops > 1
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")
    assert metrics_of(tmp_path / "parts") == metrics_of(tmp_path / "whole")


def test_the_fusion_encoder_comes_back(matched: Bridge, parted: World) -> None:
    again = load(parted.folder / "matched", device="cpu")
    assert matched.matcher is not None
    assert again.matcher is not None
    assert again.matcher.spec == matched.matcher.spec
    assert again.matcher.spec.temperature == pytest.approx(
        metrics_of(parted.folder / "matched")[-1]["temperature"], abs=0.01
    )
    assert {side.modality for side in again.matcher.spec.sides} == {"audio", "image"}
    mine, other = matched.matcher.state_dict(), again.matcher.state_dict()
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    assert again.fingerprint == matched.fingerprint


def test_training_again_without_matching_leaves_no_fusion_encoder(
    parted: World, tmp_path: Path
) -> None:
    train(parted.hub, parted.leaf, tmp_path / "out", EVERYTHING, device="cpu")
    train(parted.hub, parted.leaf, tmp_path / "out", SETTINGS, device="cpu", overwrite=True)
    assert not (tmp_path / "out" / "matcher.safetensors").exists()
    assert load(tmp_path / "out", device="cpu").matcher is None


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda file: file.unlink(), "matcher.safetensors is damaged"),
        (lambda file: file.write_bytes(b"?" * 20), "matcher.safetensors is damaged"),
        (lambda file: _describe(file, width=9), "is damaged .a fusion encoder of 9 x 2 x 2"),
        (lambda file: _describe(file, fingerprint="0"), "has fingerprint [0-9a-f]+ but .* says 0:"),
    ],
    ids=["missing", "damaged", "described wrongly", "of another run"],
)
def test_a_fusion_encoder_that_does_not_fit_is_refused(
    matched: Bridge, tmp_path: Path, spoil, told: str
) -> None:
    matched.save(tmp_path)
    spoil(tmp_path / "matcher.safetensors")
    with pytest.raises(UserError, match=told):
        load(tmp_path, device="cpu")


def _describe(file: Path, **changes: object) -> None:
    about = file.with_name("bridge.json")
    told = read_sealed(about)
    about.write_text(json.dumps({**told, "matcher": {**told["matcher"], **changes}}))


NO_PARTS = "has none: make it again with `mcr extract --local`, or set its weight to 0"
REFUSED: list[tuple[dict[str, object], bool, str]] = [
    ({"lmi_weight": 1.0}, False, "no memory has the parts of its items .*text-left.h5.*--local`"),
    ({"itm_weight": 1.0}, False, f"itm_weight needs the parts of items and .*audio.h5 {NO_PARTS}"),
    ({"mlm_weight": 1.0}, False, f"mlm_weight needs the parts of items and .*audio.h5 {NO_PARTS}"),
    ({"itm_weight": 1.0, "pseudo_pairs": "all"}, True, "itm_weight is set but pseudo_pairs is 'al"),
    ({"fusion_width": 10}, True, "fusion_width is 10, which 4 heads cannot share"),
    ({"tcl_temperature": 0.6}, True, "tcl_temperature is 0.6 but must be at most 0.5"),
    ({"cma_weight": 0.0, "imc_weight": 0.0, "inter_hub_weight": 0.0, "inter_leaf_weight": 0.0,
      "intra_weight": 0.0}, True, "the weights of all terms .* are zero"),
    ({"ensemble": 2}, True, "the setting ensemble is 2 but belongs to cmcr and cwcl and distil"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "parts", "told"), REFUSED, ids=lambda one: str(one)[:30])
def test_what_the_terms_lack_is_told(
    world: World, parted: World, tmp_path: Path, changes, parts: bool, told: str
) -> None:
    chosen = parted if parts else world
    with pytest.raises(UserError, match=told):
        train(
            chosen.hub, chosen.leaf, tmp_path / "out",
            TrainSettings(objective="tcl", **changes), device="cpu",
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_one_leaf_memory_without_parts_among_others_is_told(parted: World, tmp_path: Path) -> None:
    plain = write_items(tmp_path / "plain.h5", "left", "audio", range(600, 640))
    with pytest.raises(UserError, match=r"lmi_weight needs the parts of items and .*plain.h5 has "):
        train(parted.hub, [*parted.leaf, plain], tmp_path / "out", EVERYTHING, device="cpu")


LMI_ALONE = replace(EVERYTHING, epochs=1, itm_weight=0.0, mlm_weight=0.0)


@pytest.mark.parametrize("plain", [["audio.plain"], ["text-left.plain", "text-right.plain"]])
def test_memories_that_lmi_leaves_out_are_told(
    parted: World, tmp_path: Path, plain: list[str]
) -> None:
    """`with_parts` keeps each memory without its parts beside it."""
    hub, leaf = (
        [
            Memory(parted.folder / f"{memory.path.stem}.plain.h5")
            if f"{memory.path.stem}.plain" in plain
            else memory
            for memory in memories
        ]
        for memories in (parted.hub, parted.leaf)
    )
    names = ", ".join(str(parted.folder / f"{name}.h5") for name in plain)
    told = f"LMI leaves out what has no parts of items ({names}): make it again with `mcr extract"
    with pytest.warns(LeftOutOfLmi, match=re.escape(told)):
        train(hub, leaf, tmp_path / "out", LMI_ALONE, device="cpu")
    assert metrics_of(tmp_path / "out")[0]["lmi"] > 0


@pytest.mark.filterwarnings("error::bridge.tcl.requirements.LeftOutOfLmi")
def test_nothing_is_told_where_lmi_leaves_nothing_out(
    world: World, parted: World, tmp_path: Path
) -> None:
    train(parted.hub, parted.leaf, tmp_path / "all", LMI_ALONE, device="cpu")
    without = replace(LMI_ALONE, lmi_weight=0.0)
    train(world.hub, world.leaf, tmp_path / "none", without, device="cpu")


def test_words_cannot_be_guessed_from_text(parted: World, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mlm_weight is set but the memories hold text: to guess"):
        train(parted.hub, [], tmp_path / "out", EVERYTHING, device="cpu")


def test_true_pairs_are_matched_as_they_are(tmp_path: Path) -> None:
    """Without leaves each side is the pairs' own; words of one are guessed from the other."""
    pairs = [
        with_parts(tmp_path / "a.h5", "left", "text", range(60), sentences=True),
        with_parts(tmp_path / "b.h5", "right", "image", range(60)),
    ]
    pairs[1] = _with_ids_of(pairs[0], pairs[1], tmp_path / "c.h5")
    made = train(pairs, [], tmp_path / "out", EVERYTHING, paired=True, device="cpu")
    assert made.matcher is not None
    assert [side.modality for side in made.matcher.spec.sides] == ["text", "image"]


def _with_ids_of(named: Memory, memory: Memory, path: Path) -> Memory:
    columns = Columns(list(named.ids))
    return write_memory(
        path, memory.header, columns, [memory.embeddings], local=[(memory.local, memory.local_mask)]
    )
