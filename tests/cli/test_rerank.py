"""`mcr train --objective tcl` with a fusion encoder, and `mcr query --rerank` by it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from bridge.artefact import load
from bridge.tcl.fusion import Tokens
from features.encoders import load_encoder
from features.memories.memory import Memory
from tests.cli.conftest import NUMBERS, TINY, Workshop, answer, done
from tests.cli.refusals import refused

TCL = (
    "--objective", "tcl", "--itm-weight", "1", "--lmi-weight", "1", "--mlm-weight", "1",
    "--fusion-width", "8", "--fusion-heads", "2", "--local-batch", "8", *TINY,
)  # fmt: skip


@dataclass(frozen=True)
class Parted:
    """Memories with parts, a bridge with a fusion encoder, and the images in its space."""

    folder: Path
    bridge: Path

    def memory(self, name: str) -> Path:
        return self.folder / f"{name}.h5"


@pytest.fixture(scope="module")
def parted(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Parted:
    made = Parted(folder := tmp_path_factory.mktemp("parted"), folder / "bridge")
    for table, space, modality, name in (
        ("texts", "sees", "text", "text-sees"),
        ("texts", "hears", "text", "text-hears"),
        ("images", "sees", "image", "images"),
        ("sounds", "hears", "audio", "sounds"),
    ):
        done(
            "extract", workshop.files / f"{table}.csv", "-e", workshop.specs[space],
            "-m", modality, "-o", made.memory(name), "--device", "cpu", "--local",
            *(() if modality == "text" else ("--id-column", "key")),
        )  # fmt: skip
    done(
        "train", "--hub", made.memory("text-hears"), "--hub", made.memory("text-sees"),
        "--leaf", made.memory("sounds"), "--leaf", made.memory("images"), "-o", made.bridge, *TCL,
    )  # fmt: skip
    done("project", made.memory("images"), "-b", made.bridge, "-o", made.memory("shared"))
    done("index", made.memory("shared"))
    return made


def test_the_first_hits_are_ordered_by_cosine_and_match(workshop: Workshop, parted: Parted) -> None:
    sound = workshop.item("audio", NUMBERS[3])
    asked = ("query", sound, "-b", parted.bridge, "--memory", parted.memory("images"))
    plain = answer(*asked, "-k", 6)["hits"]
    again = answer(*asked, "-k", 6, "--rerank", 6)["hits"]
    matcher = load(parted.bridge, device="cpu").matcher
    assert matcher is not None
    encoder = load_encoder(workshop.specs["hears"], device="cpu")
    found = encoder.encode_local([encoder.input("audio")(sound)], "audio")
    query, images = (
        Tokens.of(found.pooled, found.local, found.mask),
        Memory(parted.memory("images")),
    )
    expected = {}
    for hit in plain:
        row = torch.tensor([images.row_of[hit["id"]]]).numpy()
        tokens = Tokens.of(images.tensor(row), *images.local_tensors(row))
        logit = float(matcher(query, tokens).detach())
        expected[hit["id"]] = hit["score"] / matcher.spec.temperature + logit
    assert {hit["id"]: hit["score"] for hit in again} == pytest.approx(expected, abs=1e-3)
    scores = [hit["score"] for hit in again]
    assert scores == sorted(scores, reverse=True)
    few = answer(*asked, "-k", 2, "--rerank", 6)["hits"]
    assert [hit["id"] for hit in few] == [hit["id"] for hit in again[:2]]


def test_an_index_is_re_ranked_by_the_parts_of_its_items(
    workshop: Workshop, parted: Parted
) -> None:
    sound = workshop.item("audio", NUMBERS[3])
    asked = ("query", sound, "-b", parted.bridge, "-k", 5, "--rerank", 5)
    by_memory = answer(*asked, "--memory", parted.memory("images"))["hits"]
    parts = ("--parts", parted.memory("images"))
    for gallery in (("-i", parted.folder / "shared.faiss"), ("--memory", parted.memory("shared"))):
        found = answer(*asked, *gallery, *parts)["hits"]
        assert {hit["id"] for hit in found} == {hit["id"] for hit in by_memory}


def test_mistakes_in_re_ranking_are_told(workshop: Workshop, parted: Parted) -> None:
    sound, images = workshop.item("audio", NUMBERS[3]), parted.memory("images")
    asked = ("query", sound, "-b", parted.bridge, "-k", 3)
    cases = {
        (*asked, "--memory", images, "--parts", images): "--parts is for re-ranking: give --rerank",
        (*asked, "-i", parted.folder / "shared.faiss", "--rerank", 3): (
            "--rerank takes a bridge's fusion encoder and the parts of the gallery's items: give "
            "--parts"
        ),
        ("query", workshop.item("image", NUMBERS[3]), "--memory", images, "-k", 3, "--rerank", 3): (
            "--rerank takes a bridge's fusion encoder and the parts of the gallery's items: give "
            "--bridge"
        ),
        (
            *asked,
            "--memory",
            parted.memory("shared"),
            "--rerank",
            3,
        ): "shared.h5 is projected, and ",
        (*asked, "--memory", workshop.memory("images"), "--rerank", 3): "images.h5 has no parts, ",
        ("query", "one", "-b", parted.bridge, "--memory", images, "-k", 3, "--rerank", 3): (
            "matches audio in hears of 4 parts with image in sees of 8 parts, not text with image"
        ),
        (*asked, "--memory", images, "-k", 20, "--rerank", 5): (
            "--rerank 5 scores 5 hits but 20 are to be printed, with scores of two kinds: "
            "give -k 5 or less, or --rerank 20"
        ),
        ("query", sound, "-b", workshop.sound_bridge, "--memory", images, "-k", 3, "--rerank", 3): (
            "the bridge sound-bridge has no fusion encoder to re-rank with: train one with"
        ),
    }
    for arguments, told in cases.items():
        assert told in refused(*arguments)
    other = parted.folder / "other.h5"
    done(
        "extract", workshop.files / "images.csv", "-e", workshop.specs["sees"], "-m", "image",
        "-o", other, "--device", "cpu", "--local",
    )  # fmt: skip
    arguments = (*asked, "--memory", images, "--rerank", 3, "--parts", other)
    assert "other.h5 does not hold the item images-" in refused(*arguments)


def test_training_without_parts_names_the_command(workshop: Workshop, tmp_path: Path) -> None:
    hub = ("--hub", workshop.memory("text-hears"), "--hub", workshop.memory("text-sees"))
    told = refused("train", *hub, "-o", tmp_path / "out", *TCL)
    assert "make it again with `mcr extract --local`" in told


def test_training_tells_what_lmi_leaves_out(
    workshop: Workshop, parted: Parted, tmp_path: Path
) -> None:
    hub = [workshop.memory("text-hears"), workshop.memory("text-sees")]
    result = done(
        "train", "--hub", hub[0], "--hub", hub[1], "--leaf", parted.memory("sounds"),
        "-o", tmp_path / "out", "--objective", "tcl", "--lmi-weight", "1", "--local-batch", "8",
        *TINY,
    )  # fmt: skip
    (note,) = [line for line in result.stderr.splitlines() if line.startswith("note: LMI ")]
    assert note.startswith("note: LMI leaves out what has no parts of items (")
    assert all(str(memory) in note for memory in hub)
    assert "sounds.h5" not in note
    assert "`mcr extract --local`" in note
