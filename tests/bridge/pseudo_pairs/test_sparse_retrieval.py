"""Sparse retrieval against the formula in float64, on memories that are hard for it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from bridge.pseudo_pairs import neighbours
from bridge.pseudo_pairs import sparse as sparse_retrieval
from bridge.pseudo_pairs.exact import retrieve
from bridge.pseudo_pairs.neighbours import find_neighbours, spread
from bridge.pseudo_pairs.sparse import retrieve_sparse
from features.search import rough
from features.search.rough import Levels

D = 64


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit(rows: Tensor) -> Tensor:
    return normalize(rows, dim=1)


def naive(queries: Tensor, keys: Tensor, values: Tensor, temperature: float) -> Tensor:
    weights = torch.softmax(queries.double() @ keys.double().T / temperature, dim=1)
    return normalize(weights @ values.double(), dim=1)


def error(found: Tensor, queries: Tensor, keys: Tensor, temperature: float) -> float:
    right = naive(queries, keys, keys, temperature)
    return float((1 - (right * found.double()).sum(dim=1)).max())


def scattered(items: int) -> Tensor:
    return unit(draw(items, D, seed=1))


def cone(items: int) -> Tensor:
    """About a common mean, with a few dimensions that dwarf the others."""
    shift = torch.zeros(D)
    shift[:3] = torch.tensor([6.0, -9.0, 4.0])
    return unit(draw(items, D, seed=2) + shift)


def classes(items: int) -> Tensor:
    """Forty classes in their order, as a sorted data set has them."""
    centres = unit(draw(40, D, seed=3))
    return unit(centres.repeat_interleave(items // 40, dim=0) + 0.1 * draw(items, D, seed=4))


def copies(items: int) -> Tensor:
    """Eight vectors, each many times: two of them are equally far from many queries."""
    return unit(draw(8, D, seed=5)).repeat_interleave(items // 8, dim=0)


def equal(items: int) -> Tensor:
    return unit(draw(1, D, seed=6)).expand(items, -1).contiguous()


def one_stands_out(items: int) -> Tensor:
    rows = scattered(items)
    rows[items // 2] = unit(draw(1, D, seed=7))[0]
    return rows


MEMORIES = [scattered, cone, classes, copies, equal, one_stands_out]
ITEMS = 8000


def asked(keys: Tensor) -> Tensor:
    """Like some of the keys, like none of them, and between two of them."""
    near = unit(keys[::1000] + 0.3 * draw(len(keys[::1000]), D, seed=8) / D**0.5)
    between = unit(keys[:4] + keys[-4:] + 1e-4)
    return torch.cat([near, unit(draw(8, D, seed=7)), between])


@pytest.mark.parametrize("temperature", [1e-4, 0.003, 0.01, 0.05, 0.3, 10.0])
@pytest.mark.parametrize("make", MEMORIES)
def test_values_are_those_of_the_formula(make, temperature):
    keys = make(ITEMS)
    queries = asked(keys)
    found = retrieve_sparse(queries, keys, temperature=temperature)
    assert error(found.values[0], queries, keys, temperature) < 1e-3
    torch.testing.assert_close(found.values[0].norm(dim=1), torch.ones(len(queries)))
    assert bool(((found.outside >= 0) & (found.outside <= 1)).all())


@pytest.mark.parametrize("items", [1, 2, 15, 16, 17, 63, 64, 65, 300])
def test_small_memories_are_answered_by_all_of_their_items(items):
    keys = scattered(items)
    queries = asked(scattered(3000))
    found = retrieve_sparse(queries, keys, temperature=0.02, kept=300)
    assert error(found.values[0], queries, keys, 0.02) < 1e-5
    assert float(found.outside.max()) == 0


def test_values_may_be_others_than_the_keys():
    keys, values = classes(ITEMS), draw(ITEMS, 20, seed=9)
    queries = asked(keys)
    found = retrieve_sparse(queries, keys, (keys, unit(values)), temperature=0.01, kept=64)
    both = zip((keys, unit(values)), found.values, strict=True)
    for table, ours in both:
        right = naive(queries, keys, table, 0.01)
        assert float((1 - (right * ours.double()).sum(dim=1)).max()) < 1e-3


def test_the_share_outside_is_told():
    keys = scattered(ITEMS)
    queries = asked(keys)
    scores = (queries @ keys.T).double() / 0.05
    weights = torch.softmax(scores, dim=1).sort(dim=1, descending=True).values
    found = retrieve_sparse(queries, keys, temperature=0.05, kept=64)
    first = queries.shape[0] - int((found.outside < 0.02).sum())
    assert first > 0
    right = weights[:, 64:].sum(dim=1)
    # Queries that needed more neighbours tell what is outside of those.
    few = (found.outside.double() - right).abs() < 0.15
    assert int(few.sum()) + int((found.outside < right).sum()) >= len(queries)


@pytest.mark.parametrize("in_bytes", [True, False])
@pytest.mark.parametrize("make", MEMORIES)
def test_neighbours_are_those_above_a_level_whatever_the_blocks(make, in_bytes, monkeypatch):
    if in_bytes and not rough.multiplies_bytes(torch.device("cpu")):
        pytest.skip("this processor does not multiply bytes")
    monkeypatch.setattr(rough, "multiplies_bytes", lambda _: in_bytes)
    keys = make(ITEMS)
    queries = asked(keys)
    levels = Levels.of(keys, keys.mean(dim=0))
    sample = queries @ keys[spread(ITEMS, 16)].T
    near = find_neighbours(queries, keys, levels, sample, 200)
    monkeypatch.setattr(neighbours, "_MARKS", 64 * 1000)
    again = find_neighbours(queries, keys, levels, sample, 200)
    scores = queries @ keys.T
    for query, (row, count, complete) in enumerate(zip(*vars(near).values(), strict=True)):
        mine = row[:count].tolist()
        assert mine == again.row[query, :count].tolist()
        assert mine == sorted(set(mine))
        if not complete:
            continue  # with many equal items there may be more than can be kept
        others = scores[query].clone()
        others[mine] = -1
        # Rough scores may swap items that are nearly as good.
        assert not mine or float(others.max() - scores[query, mine].min()) < 0.03


def test_bytes_are_within_half_a_level_of_the_rows():
    rows = cone(ITEMS)
    levels = Levels.of(rows, rows[:100].mean(dim=0))
    back = levels.mean + levels.scale * (torch.from_numpy(levels.byte).float() - rough.MIDDLE)
    assert float((back - rows).abs().max()) <= levels.scale * 0.5001
    assert levels.byte.min() >= 1


def test_the_number_of_cores_changes_nothing():
    keys, queries = classes(ITEMS), asked(classes(ITEMS)).repeat(20, 1)
    many = retrieve_sparse(queries, keys, temperature=0.01).values[0]
    cores = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = retrieve_sparse(queries, keys, temperature=0.01).values[0]
    finally:
        torch.set_num_threads(cores)
    torch.testing.assert_close(one, many, rtol=1e-6, atol=1e-6)


def test_the_same_queries_get_the_same_answers():
    keys, queries = classes(ITEMS), asked(classes(ITEMS))
    one, other = (retrieve_sparse(queries, keys, temperature=0.01).values[0] for _ in range(2))
    assert torch.equal(one, other)


def test_an_order_of_the_memory_does_not_hide_a_class():
    centres = unit(draw(16, D, seed=11))
    keys = unit(centres.repeat(ITEMS // 16, 1) + 0.1 * draw(ITEMS, D, seed=12))
    queries = asked(keys)
    mixed = keys[torch.randperm(ITEMS, generator=torch.Generator().manual_seed(1))]
    found = [retrieve_sparse(queries, each, temperature=0.05) for each in (keys, mixed)]
    assert error(found[0].values[0], queries, keys, 0.05) < 1e-3
    assert abs(float(found[0].outside.mean() - found[1].outside.mean())) < 0.05


def test_queries_of_any_layout_and_type_are_answered_alike():
    keys = scattered(ITEMS)
    queries = asked(keys)
    right = retrieve_sparse(queries, keys, temperature=0.01).values[0]
    for other in (queries.T.contiguous().T, queries.double()):
        found = retrieve_sparse(other, keys, temperature=0.01).values[0]
        assert torch.equal(found, right)
    none = retrieve_sparse(queries[:0], keys, temperature=0.01)
    assert none.values[0].shape == (0, D)


@pytest.mark.parametrize(("temperature", "copies"), [(0.01, 1), (0.05, 1), (0.3, 1), (0.3, 70)])
def test_progress_adds_up_to_all_queries(temperature, copies):
    keys = scattered(ITEMS)
    queries, told = asked(keys).repeat(copies, 1), []
    retrieve_sparse(queries, keys, temperature=temperature, advance=told.append)
    assert sum(told) == len(queries)


def test_where_most_queries_of_a_sample_fail_all_are_answered_by_all_items(monkeypatch):
    keys = scattered(ITEMS)
    queries = asked(keys).repeat(60, 1)
    looked = []
    true = sparse_retrieval._Memory.retrieve
    monkeypatch.setattr(
        sparse_retrieval._Memory,
        "retrieve",
        lambda self, some, *rest: looked.append(len(some)) or true(self, some, *rest),
    )
    found = retrieve_sparse(queries, keys, temperature=10.0)
    assert found.exact == len(queries)
    assert sum(looked) == 512
    assert error(found.values[0], queries, keys, 10.0) < 1e-6


def test_it_runs_where_gradients_are_off():
    keys = scattered(ITEMS)
    queries = asked(keys).repeat(40, 1)
    right = retrieve_sparse(queries, keys, temperature=0.01).values[0]
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            found = retrieve_sparse(queries, keys, temperature=0.01)
            exact = retrieve(queries, keys, temperature=0.01)[0]
        assert torch.equal(found.values[0], right)
        assert error(exact, queries, keys, 0.01) < 1e-6


def test_it_tells_how_good_it_is():
    keys = scattered(ITEMS)
    found = retrieve_sparse(asked(keys), keys, temperature=0.01)
    assert "of the softmax is outside of the nearest items" in found.told()
    assert f"answered {found.exact} of {len(found.outside)} queries" in found.told()
