"""Exact retrieval from the items that carry weight, on memories that are hard for it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bridge.pseudo_pairs import exact, heavy
from bridge.pseudo_pairs.exact import retrieve
from bridge.pseudo_pairs.heavy import fits_heavy, retrieve_heavy
from tests.bridge.pseudo_pairs.test_sparse_retrieval import (
    ITEMS,
    MEMORIES,
    D,
    asked,
    classes,
    draw,
    naive,
    scattered,
    unit,
)

TEMPERATURES = [1e-4, 0.003, 0.01, 0.05, 0.3, 10.0]
pytestmark = pytest.mark.skipif(
    not fits_heavy(torch.zeros(heavy.LEAST_QUERIES, 1), torch.zeros(heavy.LEAST_ITEMS, 1)),
    reason="this processor does not multiply bfloat16",
)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """So few rows would not be worth it; three parts of the memory are held one after another."""
    monkeypatch.setattr(heavy, "LEAST_QUERIES", 1)
    monkeypatch.setattr(heavy, "LEAST_ITEMS", 1)
    monkeypatch.setattr(heavy, "_HELD", 3072)


def errors(found: Tensor, right: Tensor) -> Tensor:
    return 1 - torch.cosine_similarity(found.double(), right, dim=1)


def heavily(queries, keys, values, temperature):
    outputs = [torch.empty(len(queries), value.shape[1]) for value in values]
    tried, wrong = retrieve_heavy(
        queries, keys, values, outputs, temperature=temperature, advance=lambda _: None
    )
    sure = torch.arange(len(queries)) < tried
    sure[wrong] = False
    return outputs, sure


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("make", MEMORIES)
def test_what_is_certain_is_right_and_the_rest_is_made_by_all_items(make, temperature):
    keys = make(ITEMS)
    queries = asked(keys)
    right = naive(queries, keys, keys, temperature)
    (found,), sure = heavily(queries, keys, (keys,), temperature)
    assert bool((errors(found, right)[sure] < 1e-6).all())
    (whole,) = retrieve(queries, keys, temperature=temperature)
    assert float(errors(whole, right).max()) < 1e-6
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(len(queries)))


@pytest.mark.parametrize("make", MEMORIES)
def test_low_temperatures_need_few_items(make):
    keys = make(ITEMS)
    queries = keys[::500].contiguous()
    added = []
    true = heavy.add_heavy

    def counted(rough, asked_, *rest):
        level, doubt = asked_[1:]
        scores = torch.from_numpy(rough).view(torch.bfloat16).float()
        added.append(float((scores >= torch.from_numpy(level - 2 * doubt)[:, None]).sum()))
        true(rough, asked_, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heavy, "add_heavy", counted)
        _, sure = heavily(queries, keys, (keys,), 0.003)
    if make.__name__ in {"copies", "equal"}:  # nearly all of some queries' items have weight
        assert not sure.all()
    else:
        assert sure.all()
        assert sum(added) < 0.3 * len(queries) * len(keys)


@pytest.mark.parametrize("caution", [0.01, 1.0, 30.0, 1000.0])
@pytest.mark.parametrize("make", MEMORIES)
def test_what_is_left_out_is_within_both_bounds(make, caution, monkeypatch):
    monkeypatch.setattr(heavy, "_CAUTION", caution)
    keys = make(ITEMS)
    queries, temperature = asked(keys), 0.02
    memory = heavy._Memory(keys, (keys,))
    sums = heavy._Sums(queries, memory, temperature)
    sums.add_all(lambda _: None)
    some = sums.left.isfinite().all(dim=1)  # others had too many items above their level
    assert not sums.certain()[~some].any()
    scores = (queries.double() @ keys.double().T)[some]
    weights = torch.exp((scores - sums.best[some, None].double()) / temperature)
    found, left = sums.sums[some].double(), sums.left[some].double()
    lost = torch.linalg.vector_norm(weights @ keys.double() - found, dim=1)
    rounding = 2e-5 * weights.sum(dim=1)
    assert bool((lost <= max(memory.of_keys.longest) * left[:, 0] + rounding).all())
    assert bool((lost <= memory.of_keys.widest * left[:, 1].sqrt() + rounding).all())


@pytest.mark.parametrize("make", MEMORIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_measures_of_a_table_hold_and_are_close(make, dtype):
    table = make(ITEMS).to(dtype)
    known = heavy._Measures.of(table)
    widest = float(torch.linalg.matrix_norm(table.double(), ord=2))
    assert widest <= known.widest <= 1.15 * widest
    rows = table.double()
    rounded = table.bfloat16().double()
    for block, start in enumerate(range(0, ITEMS, 1024)):
        part = slice(start, start + 1024)
        assert known.longest[block] >= float(rows[part].norm(dim=1).max()) * (1 - 1e-6)
        lost = float((rows - rounded)[part].norm(dim=1).max())
        assert known.lost[block] == pytest.approx(lost, rel=1e-5)


def test_rough_scores_are_within_their_doubt():
    keys, queries = classes(ITEMS), asked(classes(ITEMS))
    sums = heavy._Sums(queries, heavy._Memory(keys, (keys,)), 0.01)
    for start in range(0, ITEMS, 1024):
        rough = sums._rough(start).double()
        right = queries.double() @ keys[start : start + 1024].double().T
        above = sums._doubt(start)[:, None] + 2**-8 * rough.abs()
        assert bool((right <= rough + above).all())


def test_values_other_than_the_keys_share_the_weights():
    keys, values = scattered(ITEMS), unit(draw(ITEMS, 20, seed=9))
    queries = asked(keys)
    tables = (values, keys, 3 * values)
    found, sure = heavily(queries, keys, tables, 0.01)
    assert sure.float().mean() > 0.5
    for one, table in zip(found, tables, strict=True):
        assert float(errors(one, naive(queries, keys, table, 0.01))[sure].max()) < 1e-6
    for one, table in zip(retrieve(queries, keys, tables, temperature=0.01), tables, strict=True):
        assert float(errors(one, naive(queries, keys, table, 0.01)).max()) < 1e-6


def test_values_that_cancel_out_are_not_certain():
    keys = scattered(ITEMS)
    rows = unit(draw(ITEMS, 16, seed=1))
    signs = torch.ones(ITEMS, 1)
    signs[1::2] = -1
    pairs = rows.repeat_interleave(2, dim=0)[:ITEMS] * signs  # each beside its opposite
    twins = keys.repeat_interleave(2, dim=0)[:ITEMS] + 1e-4 * draw(ITEMS, D, seed=3)
    right = naive(asked(keys), twins, pairs, 0.3)
    (found,) = retrieve(asked(keys), twins, (pairs,), temperature=0.3)
    assert float(errors(found, right).max()) < 1e-6


@pytest.mark.parametrize("temperature", [1e-4, 0.01, 10.0])
def test_a_memory_of_one_row_is_always_the_answer(temperature):
    one = scattered(1)
    (found,) = retrieve(scattered(50), one, temperature=temperature)
    torch.testing.assert_close(found, one.expand(50, D))


def test_half_precision_memories_are_read_in_blocks():
    keys = scattered(ITEMS).half()
    queries = asked(scattered(ITEMS))
    (found,) = retrieve(queries, keys, temperature=0.01)
    assert found.dtype == torch.float32
    assert float(errors(found, naive(queries, keys, keys, 0.01)).max()) < 1e-6


def test_embeddings_that_are_no_numbers_stay_so():
    keys = scattered(ITEMS)
    queries = asked(keys)
    queries[1, 3] = torch.nan
    (found,) = retrieve(queries, keys, temperature=0.01)
    assert found[1].isnan().all()
    assert not found[[0, 2]].isnan().any()
    keys[5] = torch.nan
    assert retrieve(queries, keys, temperature=0.01)[0].isnan().all()


@pytest.mark.parametrize(("temperature", "first"), [(0.01, 8), (0.01, 512), (0.3, 8), (0.03, 8)])
def test_progress_adds_up_to_all_queries(temperature, first, monkeypatch):
    monkeypatch.setattr(heavy, "_FIRST", first)
    keys, told = scattered(ITEMS), []
    queries = asked(keys)
    retrieve(queries, keys, temperature=temperature, advance=told.append)
    assert sum(told) == len(queries)
    assert min(told) >= 0


def test_where_most_of_the_first_queries_fail_the_others_are_not_tried(monkeypatch):
    monkeypatch.setattr(heavy, "_FIRST", 8)
    keys = scattered(ITEMS)
    queries = asked(keys)
    outputs = [torch.empty(len(queries), D)]
    tried, wrong = retrieve_heavy(
        queries, keys, (keys,), outputs, temperature=10.0, advance=lambda _: None
    )
    assert (tried, sorted(wrong.tolist())) == (8, list(range(8)))


def test_an_order_of_the_memory_changes_little():
    keys = classes(ITEMS)
    queries = asked(keys)
    right = naive(queries, keys, keys, 0.01)
    for each in (keys, keys.flip(0)):
        (found,), sure = heavily(queries, each, (each,), 0.01)
        assert float(errors(found, right)[sure].max()) < 1e-6
        assert sure.float().mean() > 0.5


def test_the_number_of_cores_changes_nothing_to_speak_of():
    keys = scattered(ITEMS)
    queries = asked(keys).repeat(20, 1)
    (many,) = retrieve(queries, keys, temperature=0.01)
    assert torch.equal(many, retrieve(queries, keys, temperature=0.01)[0])
    cores = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        (one,) = retrieve(queries, keys, temperature=0.01)
    finally:
        torch.set_num_threads(cores)
    torch.testing.assert_close(one, many, rtol=0, atol=1e-6)


def test_it_is_not_taken_where_bfloat16_is_not_faster(monkeypatch):
    keys = scattered(ITEMS)
    queries = asked(keys)
    assert fits_heavy(queries, keys)
    assert not fits_heavy(queries.double(), keys)
    monkeypatch.setattr(heavy, "fast_dtype", lambda _: torch.float32)
    assert not fits_heavy(queries, keys)
    monkeypatch.setattr(exact, "retrieve_heavy", None)  # cannot be called
    (found,) = retrieve(queries, keys, temperature=0.01)
    assert float(errors(found, naive(queries, keys, keys, 0.01)).max()) < 1e-6


def test_the_few_that_fail_are_tried_with_more_caution(monkeypatch):
    keys = scattered(ITEMS)
    queries = keys[::500].contiguous()
    tried = []
    true = heavy._Sums.__init__

    def seen(self, queries, memory, temperature, caution):
        tried.append(caution)
        true(self, queries, memory, temperature, caution)

    monkeypatch.setattr(heavy._Sums, "__init__", seen)
    sure = heavy._Sums.certain
    monkeypatch.setattr(  # the first time, one of each part is said to fail
        heavy._Sums, "certain",
        lambda self: sure(self) & ((torch.arange(len(self.queries)) > 0) | (self.caution < 0.1)),
    )  # fmt: skip
    (found,), certain = heavily(queries, keys, (keys,), 0.003)
    assert certain.all()
    assert min(tried) == heavy._MORE_CAUTION
    assert float(errors(found, naive(queries, keys, keys, 0.003)).max()) < 1e-6
