from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from bridge.evaluation import retrieval as protocols
from bridge.evaluation.retrieval import LabelsContradictIds, evaluate_retrieval, relevance_of
from features.errors import UserError
from features.memories.writing import save_memory
from tests.bridge.conftest import projected_memory, write_items

# Three axes of the shared space; the cosines of queries and gallery can be read off.
X, Y, Z = (1, 0, 0), (0, 1, 0), (0, 0, 1)
NEAR_X, NEAR_Y = (3, 1, 0), (1, 3, 0)


def test_figures_by_labels_worked_by_hand(made, tmp_path):
    query = projected_memory(
        tmp_path / "q.h5", made, [X, NEAR_Y, Z], ["q0", "q1", "q2"], labels=["a", "a", "b"]
    )
    gallery = projected_memory(
        tmp_path / "g.h5", made, [NEAR_X, Y, Z, (0, 1, 3)], list("wxyz"),
        modality="image", labels=["a", "c", "b", "b"],
    )  # fmt: skip
    result = evaluate_retrieval(made, query, gallery)
    assert (result.query, result.gallery, result.relevance) == ("audio", "image", "labels")
    # q0 finds w first; q1 finds the wrong x, then w; q2 finds y and z first.
    assert result.forward.recall[1] == pytest.approx(2 / 3)
    assert result.forward.recall[5] == 1
    assert result.forward.median_rank == 1
    assert result.forward.mean_average_precision == pytest.approx((1 + 1 / 2 + 1) / 3)
    # w finds q0 and q1; x has no right answer; y and z find q2.
    assert result.backward.recall[1] == 1
    assert (result.backward.queries, result.backward.excluded) == (3, 1)
    assert result.backward.mean_average_precision == 1
    assert result.chance == pytest.approx((1 / 4 + 1 / 4 + 2 / 4) / 3)


def test_ids_say_what_is_right_where_a_memory_has_no_labels(made, tmp_path):
    query = projected_memory(tmp_path / "q.h5", made, [X, Y, Z], ["0", "1", "nowhere"])
    gallery = projected_memory(
        tmp_path / "g.h5", made, [NEAR_X, X, Y], ["0", "2", "1"], labels=["a", "b", "c"]
    )
    result = evaluate_retrieval(made, query, gallery)
    assert result.relevance == "ids"
    assert result.forward.recall[1] == 0.5  # the query 0 finds the item 2 first
    assert (result.forward.queries, result.forward.excluded) == (2, 1)
    assert (result.backward.queries, result.backward.excluded) == (2, 1)
    assert result.chance == pytest.approx(1 / 3)


def test_figures_do_not_depend_on_the_block_of_queries(world, made, monkeypatch):
    whole = evaluate_retrieval(made, *world.test)
    monkeypatch.setattr(protocols, "SCORES_AT_A_TIME", 300)
    assert evaluate_retrieval(made, *world.test) == whole


def test_memories_are_projected_on_the_way(world, made, tmp_path):
    from bridge.projection import project_memory

    figures = evaluate_retrieval(made, *world.test)
    assert figures.forward.queries == 40
    shared = [project_memory(made, m, tmp_path / f"{m.modality}.h5") for m in world.test]
    projected = evaluate_retrieval(made, *shared)
    assert projected.forward.recall == pytest.approx(figures.forward.recall)
    assert projected.backward.median_rank == figures.backward.median_rank


@pytest.mark.parametrize(
    ("labelled", "remedy"),
    [
        ((True, True), "extract both with the same labels"),
        ((False, True), "extract {query} with --label-column"),
        ((True, False), "extract {gallery} with --label-column"),
        ((False, False), "extract {query} and {gallery} with --label-column"),
    ],
)
def test_nothing_in_common_is_refused_with_the_remedy(made, tmp_path, labelled, remedy):
    query = projected_memory(
        tmp_path / "q.h5", made, [X, Y], ["1", "2"], labels=["a", "b"] if labelled[0] else None
    )
    gallery = projected_memory(
        tmp_path / "g.h5", made, [X, Y], ["3", "4"], labels=["c", "d"] if labelled[1] else None
    )
    with pytest.raises(UserError) as caught:
        evaluate_retrieval(made, query, gallery)
    kind, first, other = ("labels", "a", "c") if all(labelled) else ("ids", "1", "3")
    assert str(caught.value) == (
        f"no {kind} of {query.path} ({first}, ...) occur in {gallery.path} ({other}, ...), so no "
        "answer would be right: " + remedy.format(query=query.path, gallery=gallery.path)
    )


def test_a_memory_of_another_encoder_is_refused(world, made, tmp_path):
    foreign = write_items(tmp_path / "f.h5", "left", "audio", range(5), weights="other weights")
    with pytest.raises(
        UserError, match=r"f.h5 and the space left of .* have encoders with other weights"
    ):
        evaluate_retrieval(made, foreign, world.test[1])
    evaluate_retrieval(made, foreign, world.test[1], trust_encoder=True)


def test_labels_that_contradict_ids_are_said(tmp_path: Path) -> None:
    rows = np.eye(3, dtype=np.float32)
    memories = [
        save_memory(tmp_path / f"{name}.h5", rows, ["a", "b", "c"], labels=labels,
                    space=name, modality="image")
        for name, labels in (("one", ["x", "y", "z"]), ("other", ["x", "z", "z"]))
    ]  # fmt: skip
    with pytest.warns(LabelsContradictIds, match=r"1 ids are in both .*'b' as y and z"):
        assert relevance_of(memories[0], memories[1]).kind == "labels"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        relevance_of(memories[0], memories[0])
