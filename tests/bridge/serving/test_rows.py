"""Searches with a filter, of every kind of rows, against float64; and what is kept of queries."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bridge.serving.columns import passing
from bridge.serving.refusal import Refusal
from bridge.serving.requests import Range
from bridge.serving.rows import ExactRows, IndexRows, Rows
from bridge.serving.saved import SavedQueries, SavedQuery
from features.memories.writing import save_memory
from features.search.building import build_index
from features.search.filters import TableFilters
from features.search.index import HitTable
from tests.bridge.conftest import unit_rows

COUNT, WIDTH, K = 6000, 16, 9
KINDS = ("memory", "flat", "hnsw", "ivf", "IVF20,SQ8", "PCA8,Flat", "Flat,RFlat")


@pytest.fixture(scope="module")
def stored() -> np.ndarray:
    return unit_rows(COUNT, WIDTH, seed=1).float().numpy()


@pytest.fixture(scope="module")
def make_rows(stored: np.ndarray, tmp_path_factory: pytest.TempPathFactory):
    folder: Path = tmp_path_factory.mktemp("rows")
    memory = save_memory(folder / "rows.h5", stored, range(COUNT), space="s", modality="text")
    made: dict[str, Rows] = {"memory": ExactRows(lambda: memory.embeddings)}

    def make(kind: str) -> Rows:
        if kind not in made:
            made[kind] = IndexRows(build_index(memory, folder / f"{len(made)}.faiss", kind=kind))
        return made[kind]

    return make


def _allowed(share: float) -> np.ndarray:
    return np.random.default_rng(3).random(COUNT) < share


@pytest.mark.parametrize("share", [1.0, 0.9, 0.1, 0.01, 0.0005])
@pytest.mark.parametrize("kind", KINDS[:4])
def test_the_best_of_those_that_pass_are_found(make_rows, stored, kind: str, share: float) -> None:
    queries, allowed = unit_rows(7, WIDTH, seed=2).float(), _allowed(share)
    scores, rows = make_rows(kind).search(queries, K, allowed)
    exact = queries.double().numpy() @ stored.astype(np.float64).T
    wanted = np.where(allowed, exact, -np.inf)
    order = np.argsort(-wanted, axis=1)[:, : min(K, int(allowed.sum()))]
    assert rows.shape == order.shape
    assert allowed[rows].all()
    # The graph and the cells may miss a few, where most pass; where few do, all are compared.
    same = [len(np.intersect1d(*pair)) for pair in zip(rows, order, strict=True)]
    found = sum(same) / order.size
    assert found >= (1 if kind in ("memory", "flat") or share < 0.5 else 0.9)
    assert scores == pytest.approx(np.take_along_axis(exact, rows, 1), abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("passing", [0, 1, 5, 700, 5000])
def test_a_page_is_full_if_enough_pass(make_rows, kind: str, passing: int) -> None:
    allowed = np.zeros(COUNT, dtype=bool)
    allowed[np.random.default_rng(passing).permutation(COUNT)[:passing]] = True
    scores, rows = make_rows(kind).search(unit_rows(3, WIDTH).float(), K, allowed)
    assert rows.shape == scores.shape == (3, min(K, passing))
    assert allowed[rows].all()
    assert [len(set(row)) for row in rows.tolist()] == [min(K, passing)] * 3


@pytest.mark.parametrize("kind", ["memory", "flat", "hnsw", "ivf"])
def test_an_item_is_asked_by_its_own_embedding(make_rows, stored, kind: str) -> None:
    for row in (0, 17, COUNT - 1):
        assert make_rows(kind).vector(row).numpy() == pytest.approx(stored[row], abs=1e-3)


def test_a_filter_of_the_wrong_kind_is_a_refusal() -> None:
    filters = TableFilters(HitTable(["a"], ["a"], ["x"], None, {"year": ["1999"]}))
    assert passing(filters, {"year": Range(min=1999)}).all()
    assert passing(filters, {}) is None
    for where, told in (
        ({"label": Range(min=1)}, "holds text"),
        ({"year": ["x"]}, "holds numbers"),
    ):
        with pytest.raises(Refusal, match=told) as refused:
            passing(filters, where)
        assert refused.value.status == 422


def _query(number: int) -> SavedQuery:
    return SavedQuery("audio", f"{number}.wav", {"s": unit_rows(1, 8, seed=number)[0].float()})


def test_queries_are_kept_and_the_oldest_forgotten(tmp_path: Path) -> None:
    kept = SavedQueries(3, tmp_path)
    keys = [kept.keep(_query(number)) for number in range(3)]
    assert kept.get(keys[0]) is not None  # used last
    keys.append(kept.keep(_query(3)))
    assert [kept.get(key) is not None for key in keys] == [True, False, True, True]
    again = SavedQueries(3, tmp_path)
    assert [again.get(key) is not None for key in keys] == [True, False, True, True]
    back = again.get(keys[3])
    assert (back.modality, back.filename) == ("audio", "3.wav")
    assert torch.equal(back.vectors["s"], _query(3).vectors["s"])


def test_vectors_of_another_maker_are_not_taken(tmp_path: Path) -> None:
    one, both = unit_rows(2, 8).float()
    vectors = {"bridge b": one, "s": both}
    kept = SavedQueries(3, tmp_path, {"bridge b": "first", "s": "encoder"})
    keys = [
        kept.keep(SavedQuery("audio", None, chosen))
        for chosen in (vectors, {"bridge b": one}, {"s": both})
    ]
    trained_anew = SavedQueries(3, tmp_path, {"bridge b": "second", "s": "encoder"})
    found = [trained_anew.get(key) for key in keys]
    assert [one and list(one.vectors) for one in found] == [["s"], None, ["s"]]
    path = tmp_path / f"{keys[2]}.json"  # of an earlier version, which did not note the makers
    told = json.loads(path.read_text())
    del told["made_by"]
    path.write_text(json.dumps(told))
    assert SavedQueries(3, tmp_path, kept.made_by).get(keys[2]) is None
    assert SavedQueries(3, tmp_path, kept.made_by).get(keys[1]) is not None


def test_damaged_files_of_kept_queries_are_as_if_forgotten(tmp_path: Path) -> None:
    key = SavedQueries(3, tmp_path).keep(_query(0))
    (tmp_path / f"{key}.json").write_text('{"modality": "audio", "vectors": [')
    (tmp_path / f"{'0' * 32}.json").write_text("[]")
    (tmp_path / "other.json").write_text("{}")
    assert len(SavedQueries(3, tmp_path)) == 0


def test_no_query_is_kept_where_none_shall_be() -> None:
    assert SavedQueries(0).keep(_query(0)) is None
