"""`mcr train` with every method, objective and preset, and what it prints of them."""

from __future__ import annotations

import shutil

import pytest

from bridge.artefact import load
from bridge.config import CLOSED_FORMS
from bridge.runs.layout import PARTS_FOLDER
from bridge.training.checkpoint import MIXTURE_FILE
from tests.cli.conftest import NARROW, NUMBERS, TINY, answer, done
from tests.cli.refusals import file, refused

# Beginnings of the printed figures, and the width of the shared space.
KINDS = {
    "published": (("--preset", "published"), 8, "loss "),
    "cmcr": (("--method", "projectors"), 8, "loss "),
    "cwcl": (("--method", "projectors", "--objective", "cwcl", "--cwcl-terms", "hub"), 8, "loss "),
    "distil": (("--method", "projectors", "--objective", "distil"), 8, "loss "),
    "procrustes": (("--method", "procrustes"), 8, "held-out hub R@1 "),
    "ridge": (("--method", "ridge", "--penalty", 2), 8, "held-out hub R@1 "),
    "cca": (("--method", "cca", "--correlation-power", 1), 8, "held-out hub R@1 "),
    "relative": (("--method", "relative", "--anchors", 5), 5, "held-out hub R@1 "),
    "routing": (("--method", "routing", "--routing-temperature", 0.2), 61, "held-out hub R@1 "),
    "streamed": (("--method", "projectors", "--stream", "always"), 8, "loss "),
}


def arguments(workshop, out, *more: object, sizes=TINY) -> tuple[object, ...]:
    return (
        "train", "--hub", workshop.memory("text-hears"), "--hub", workshop.memory("text-sees"),
        "--leaf", workshop.memory("sounds"), "--leaf", workshop.memory("images"), "-o", out,
        *sizes, *more,
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_train_tells_what_it_made(workshop, tmp_path, kind):
    out, (chosen, width, figures) = tmp_path / "bridge", KINDS[kind]
    sizes = NARROW if kind in CLOSED_FORMS else TINY
    if kind in ("relative", "routing"):
        sizes = ("--device", "cpu")  # as wide as they have anchors
    result = done(*arguments(workshop, out, *chosen, sizes=sizes))
    made = load(out, device="cpu")
    told = []
    if "loss" in made.metrics:
        told.append(f"loss {made.metrics['loss']:.4f}")
    told.append(f"held-out hub R@1 {made.metrics['held_out_r1']:.3f}")
    assert told[0].startswith(figures)
    assert result.stdout == f"{out}: hears + sees, {width}-d, {', '.join(told)}\n"
    assert made.settings.kind == ("cmcr" if kind in ("published", "streamed") else kind)


@pytest.fixture(scope="module")
def mixed(workshop, tmp_path_factory):
    """What `mcr train` makes unless it is told otherwise, and what it printed."""
    out = tmp_path_factory.mktemp("mixed") / "best"
    return out, done(*arguments(workshop, out)).stdout


def test_train_mixes_unless_it_is_told_otherwise(workshop, tmp_path, mixed):
    out, printed = mixed
    made = load(out, device="cpu")
    shares = {
        name.removeprefix("weight of "): share
        for name, share in made.metrics.items()
        if name.startswith("weight of ")
    }
    assert sum(shares.values()) == pytest.approx(1)
    assert printed == (
        f"{out}: hears + sees, {made.dimension}-d, a mixture of "
        f"{', '.join(f'{name} {share:.2f}' for name, share in shares.items())}, "
        f"held-out hub R@1 {made.metrics['held_out_r1']:.3f}\n"
    )
    for name, chosen in (("preset", ("--preset", "best")), ("method", ("--method", "mixture"))):
        done(*arguments(workshop, tmp_path / name, *chosen))
        same = load(tmp_path / name, device="cpu")
        assert same.fingerprint == made.fingerprint
        assert same.settings.method == "mixture"


def test_a_mixture_answers_as_any_bridge(workshop, tmp_path, mixed):
    bridge, _ = mixed
    shared = tmp_path / "shared.h5"
    told = answer("project", workshop.memory("images"), "-b", bridge, "-o", shared)
    assert told["dimension"] == load(bridge, device="cpu").dimension
    done("index", shared)
    sound = workshop.item("audio", NUMBERS[0])
    through = answer("query", sound, "-b", bridge, "-i", tmp_path / "shared.faiss", "-k", 3)
    straight = answer("query", sound, "-b", bridge, "--memory", workshop.memory("images"), "-k", 3)
    assert [hit["id"] for hit in through["hits"]] == [hit["id"] for hit in straight["hits"]]
    stored, exact = ([hit["score"] for hit in one["hits"]] for one in (through, straight))
    assert stored == pytest.approx(exact, abs=2e-3)  # stored as float16


def test_a_bridge_with_means_of_modalities_answers_queries(workshop, tmp_path):
    done(*arguments(workshop, tmp_path / "cca", "--method", "cca", sizes=NARROW))
    asked = ("-b", tmp_path / "cca", "--memory", workshop.memory("images"), "-k", 2)
    for query in (workshop.item("audio", NUMBERS[0]), workshop.item("image", NUMBERS[0]), "one"):
        assert len(answer("query", query, *asked)["hits"]) == 2
    (first, _) = answer("query", workshop.item("image", NUMBERS[0]), *asked)["hits"]
    assert first["id"] == f"images-{NUMBERS[0]}"


REFUSED = {
    "objective of a closed form": (
        ("--method", "cca", "--objective", "cwcl"),
        "the objective is 'cwcl' but the method 'cca' trains no projectors",
    ),
    "setting of another objective": (
        ("--method", "projectors", "--objective", "distil", "--cwcl-sharpness", "2"),
        "the setting cwcl_sharpness is 2.0 but belongs to cwcl, and this bridge is made by distil",
    ),
    "setting of another method": (
        ("--method", "procrustes", "--anchors", "9"),
        "the setting anchors is 9 but belongs to relative and routing and mixture, and this "
        "bridge is made by procrustes",
    ),
    "setting of gradients": (
        ("--method", "ridge", "--epochs", "2"),
        "the setting epochs is 2 but belongs to cmcr and cwcl and distil and tcl and mixture, and "
        "this bridge is made by ridge",
    ),
    "unknown method": (("--method", "svd"), "the setting method is 'svd' but must be one of pro"),
    "unknown objective": (("--objective", "clip"), "objective is 'clip' but must be one of cmcr"),
    "unknown preset": (
        ("--preset", "worst"), "there is no preset 'worst': choose published or best"
    ),
    "unknown place": (("--stream", "sometimes"), "the setting stream is 'sometimes' but must be"),
    "batches from the disk": (
        ("--method", "projectors", "--objective", "distil", "--stream", "always"),
        "is left on the disk (stream is 'always'), but the objective distil draws batches",
    ),
    "leaf-centred pairs from the disk": (
        ("--method", "projectors", "--pseudo-pairs", "leaf", "--stream", "always"),
        "load it all the same with --stream never, or set pseudo_pairs to hub",
    ),
    "unknown space": (
        ("--method", "projectors", "--objective", "cwcl", "--cwcl-space", "clip"),
        "cwcl_space is 'clip' but the hub joins hears and sees: name one of them",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_together_is_refused(workshop, tmp_path, case):
    chosen, fragment = REFUSED[case]
    assert fragment in refused(*arguments(workshop, tmp_path / "bridge", *chosen, sizes=NARROW))
    assert not (tmp_path / "bridge" / "bridge.json").exists()


@pytest.mark.parametrize(
    ("chosen", "fragment"),
    [
        (
            ("--objective", "distil"),
            "distil needs a leaf memory of both spaces and hears and sees lacks it",
        ),
        (
            ("--objective", "cwcl", "--cwcl-terms", "leaf"),
            "cwcl_terms is 'leaf' but pairs of leaf embeddings need a leaf memory of both spaces",
        ),
    ],
)
def test_an_objective_without_its_leaves_is_refused(workshop, tmp_path, chosen, fragment):
    hub = ("--hub", workshop.memory("text-hears"), "--hub", workshop.memory("text-sees"))
    told = refused("train", *hub, "-o", tmp_path / "bridge", *TINY, *chosen)
    assert fragment in told


def test_resume_keeps_a_finished_mixture_and_removes_leftovers(workshop, tmp_path, mixed):
    bridge, _ = mixed
    out = shutil.copytree(bridge, tmp_path / "best")
    before = sorted(path.name for path in out.iterdir())
    (out / MIXTURE_FILE).write_text("")
    (out / PARTS_FOLDER / "cca").mkdir(parents=True)
    (out / "checkpoint-2.safetensors").write_text("")
    told = answer(*arguments(workshop, out, "--resume"))
    assert told["fingerprint"] == load(bridge, device="cpu").fingerprint
    assert sorted(path.name for path in out.iterdir()) == before


def test_a_settings_file_can_name_a_method(workshop, tmp_path):
    config = file(tmp_path / "s.toml", 'method = "relative"\nanchors = 7\n')
    sizes = ("--device", "cpu")
    told = answer(*arguments(workshop, tmp_path / "bridge", "-c", config, sizes=sizes))
    assert [space["projector"]["shape"] for space in told["spaces"]] == ["relative", "relative"]
    assert {space["projector"]["outputs"] for space in told["spaces"]} == {7}
