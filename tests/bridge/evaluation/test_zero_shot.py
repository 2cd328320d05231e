from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bridge.evaluation.prompts import (
    names_of,
    prompts,
    read_classes,
    read_templates,
    templates_for,
)
from bridge.evaluation.retrieval_result import retrieval_result
from bridge.evaluation.zero_shot import zero_shot_result
from bridge.search import Embedder
from features.datasets import read_annotations
from features.errors import UserError
from features.memories.memory import Memory
from features.memories.writing import save_memory
from features.space import MODALITIES
from tests.bridge.conftest import unit_rows
from tests.features.datasets.layouts import AVE, ESC50, MODELNET40, MODELNET40_NAMES, write

TEMPLATES = ["{}", "a picture of {}", "the {} again", "{} and nothing else", "see the {} here"]
LABELS = ["cat", "dog", "a_bird", "cat", "dog", "cat", "fish", "fish"]


@pytest.fixture
def items(tiny_encoder, tmp_path) -> Memory:
    """Eight items in the space of the tiny encoder, which embeds text as well."""
    rows = unit_rows(8, 16, seed=3).float()
    return save_memory(
        tmp_path / "items.h5", rows, [f"files/{i}.wav" for i in range(8)],
        space="tiny", modality="image", labels=LABELS, encoder=tiny_encoder.description.as_dict(),
    )  # fmt: skip


def by_hand(encoder, memory: Memory, names: dict[str, str], k: int) -> list[int]:
    """Ranks of the items' classes by the definition, class after class."""
    make = encoder.input("text")
    classes = []
    for name in names.values():
        rows = encoder.encode([make(one.replace("{}", name)) for one in TEMPLATES[:k]], "text")
        classes.append(F.normalize(sum(rows), dim=0))
    scores = memory.tensor() @ torch.stack(classes).T
    labels = list(names)
    return [
        1 + sum(bool(row[j] >= row[labels.index(label)]) for j in range(len(labels))
                if labels[j] != label)
        for row, label in zip(scores, LABELS, strict=True)
    ]  # fmt: skip


def test_figures_are_those_of_the_definition(items, tiny_encoder):
    result = zero_shot_result(
        items, None, TEMPLATES, Embedder(device="cpu"), first=(1, 3, 5), resamples=100
    )
    names = names_of(sorted(set(LABELS)))
    assert names["a_bird"] == "a bird"
    assert list(result.figures) == ["1 template", "3 templates", "5 templates"]
    for k, part in zip((1, 3, 5), result.figures, strict=True):
        ranks = by_hand(tiny_encoder, items, names, k)
        assert result.samples[part].columns["rank"] == ranks
        right = np.array(ranks) == 1
        shares = [right[[label == one for label in LABELS]].mean() for one in names]
        assert result.figures[part] == {
            "top-1": right.mean(),
            "top-3": (np.array(ranks) <= 3).mean(),
            "top-5": 1.0,
            "per class": pytest.approx(np.mean(shares), abs=1e-15),
        }
    assert result.settings["templates"] == TEMPLATES


def test_classes_without_items_are_possible_answers_and_counted(items):
    classes = {**{label: label for label in LABELS}, "unicorn": "unicorn", "yeti": "yeti"}
    result = zero_shot_result(
        items, classes, TEMPLATES, Embedder(device="cpu"), first=(1,), resamples=0
    )
    assert result.counts == {
        "items": 8, "items without a label": 0, "classes": 6, "classes without items": 2
    }  # fmt: skip
    assert np.isfinite(list(result.figures["1 template"].values())).all()


def test_labels_from_a_data_sets_annotations(tiny_encoder, tmp_path):
    rows = unit_rows(3, 16, seed=4).float()
    ids = ["audio/1-100032-A-0.wav", "audio/1-100038-A-14.wav", "audio/other.wav"]
    memory = save_memory(
        tmp_path / "m.h5", rows, ids, space="tiny", modality="audio",
        encoder=tiny_encoder.description.as_dict(),
    )  # fmt: skip
    annotations = read_annotations("esc50", write(tmp_path / "esc50.csv", ESC50))
    result = zero_shot_result(
        memory, None, TEMPLATES, Embedder(device="cpu"), annotations=annotations, first=(5,),
        resamples=0,
    )  # fmt: skip
    assert result.samples["5 templates"].ids == ids[:2]
    assert result.counts["items without a label"] == 1
    assert result.files["annotations"]["fingerprint"] == annotations.fingerprint


def test_modelnets_classes_are_all_of_its_names(tiny_encoder, tmp_path):
    memory = save_memory(
        tmp_path / "m.h5", unit_rows(2, 16).float(),
        ["airplane/test/airplane_0627.off", "night_stand/test/night_stand_0201.off"],
        space="tiny", modality="points", encoder=tiny_encoder.description.as_dict(),
    )  # fmt: skip
    write(tmp_path / "modelnet40_shape_names.txt", MODELNET40_NAMES)
    annotations = read_annotations(
        "modelnet40", write(tmp_path / "modelnet40_test.txt", MODELNET40)
    )
    result = zero_shot_result(
        memory, None, TEMPLATES, Embedder(device="cpu"), annotations=annotations, first=(1,),
        resamples=0,
    )  # fmt: skip
    assert (result.counts["classes"], result.counts["classes without items"]) == (3, 1)


def refuse(items: Memory, tmp_path: Path, case: str) -> None:
    embedder = Embedder(device="cpu")
    if case == "names":
        zero_shot_result(items, {"cat": "a cat"}, TEMPLATES, embedder, first=(1,))
    elif case == "no labels":
        bare = save_memory(
            tmp_path / "bare.h5", unit_rows(2, 16).float(), ["a", "b"], space="tiny",
            modality="image",
        )  # fmt: skip
        zero_shot_result(bare, None, TEMPLATES, embedder, first=(1,))
    elif case == "others":
        annotations = read_annotations("ave", write(tmp_path / "a.txt", AVE))
        zero_shot_result(items, None, TEMPLATES, embedder, annotations=annotations, first=(1,))
    else:
        first = {"many": (1, 6), "falling": (5, 1), "zero": (0,)}[case]
        zero_shot_result(items, None, TEMPLATES, embedder, first=first)


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        (
            "names",
            r"5 items of .* are of classes that are not named \(a_bird, dog, fish\): add them to "
            r"--classes",
        ),
        ("no labels", "has no labels: extract with --label-column, or name the data set's"),
        (
            "others",
            r"no name of .* \(RUhOCu3LNXM, ...\) is that of an item of .* \(files/0.wav, ...\): "
            r"the labels are not of these items",
        ),
        ("many", "the first 6 templates are asked for but the list has 5"),
        ("falling", "the numbers of templates are 5, 1 but should rise"),
        ("zero", "the numbers of templates are 0 but should rise"),
    ],
)
def test_bad_input_is_refused(case, sentence, items, tmp_path):
    with pytest.raises(UserError, match=sentence):
        refuse(items, tmp_path, case)


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_lists_that_come_along(modality):
    templates = templates_for(modality)
    assert len(templates) >= 10
    assert len(set(templates)) == len(templates)
    assert all(one.count("{}") == 1 for one in templates)


def test_prompts_are_class_after_class():
    assert prompts({"a": "cat", "b": "dog"}, ["{}", "the {}."]) == [
        "cat",
        "the cat.",
        "dog",
        "the dog.",
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("\n", "has no templates: give one a line"),
        ("{}\na photo\n", "'a photo' of .* has 0 places {} for the name of a class: give it one"),
        ("{} and {}\n", "has 2 places"),
    ],
)
def test_templates_without_a_place_are_refused(content, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        read_templates(write(tmp_path / "t.txt", content))


def test_classes_are_read_from_a_table(tmp_path):
    path = write(tmp_path / "c.csv", "label,name\nn02,golden retriever\nn03,cat\n")
    assert read_classes(path) == {"n02": "golden retriever", "n03": "cat"}
    with pytest.raises(UserError, match="names the class 'n02' twice"):
        read_classes(write(tmp_path / "d.csv", "label,name\nn02,a\nn02,b\n"))


def test_retrieval_in_one_space_needs_no_bridge(items, tmp_path):
    order = [3, 1, 0, 2, 7, 6, 5, 4]
    other = save_memory(
        tmp_path / "other.h5", items.tensor()[order], [items.ids[i] for i in order], space="tiny",
        modality="text", encoder=items.header.encoder,
    )  # fmt: skip
    result = retrieval_result(items, other, resamples=0)
    assert result.figures["image -> text"] == {
        "R@1": 1, "R@5": 1, "R@10": 1, "median rank": 1, "mAP": 1
    }  # fmt: skip
    assert result.bridge is None
    assert result.settings["relevance"] == "ids"


def test_retrieval_by_a_data_sets_pairs_and_classes(tmp_path):
    rows = torch.eye(3)
    videos = ["RUhOCu3LNXM", "0giAfYq9oVM", "VWi2ENBuTbw"]
    sounds = save_memory(
        tmp_path / "sounds.h5", rows, [f"{v}.wav" for v in videos], space="s", modality="audio"
    )
    frames = save_memory(
        tmp_path / "frames.h5", rows[[2, 1, 0]], [f"frames/{v}.jpg" for v in videos], space="s",
        modality="image",
    )  # fmt: skip
    annotations = read_annotations("ave", write(tmp_path / "Annotations.txt", AVE))
    paired = retrieval_result(sounds, frames, annotations=annotations, relevance="ids", resamples=0)
    # The frames of the first and the last video are swapped: both are church bells.
    assert paired.figures["audio -> image"]["R@1"] == 1 / 3
    classes = retrieval_result(sounds, frames, annotations=annotations, resamples=0)
    assert classes.settings["relevance"] == "labels"
    assert classes.figures["audio -> image"]["R@1"] == 1
    # By hand: 1 for speech; for bells one frame is first, and the other third, behind a tie.
    assert classes.figures["audio -> image"]["mAP"] == pytest.approx((1 + 2 * (1 + 2 / 3) / 2) / 3)
    with pytest.raises(UserError, match="no relevance 'both': choose auto, labels or ids"):
        retrieval_result(sounds, frames, relevance="both")
    with pytest.raises(UserError, match="has no labels: extract with --label-column, or choose"):
        retrieval_result(sounds, frames, relevance="labels")
