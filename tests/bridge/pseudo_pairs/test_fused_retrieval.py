"""The kernel runs on a GPU where there is one, and in Triton's interpreter elsewhere."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from bridge.pseudo_pairs.exact import leaf_centred
from bridge.pseudo_pairs.fused import fits_fused, retrieve_fused
from bridge.pseudo_pairs.retriever import retriever
from features.errors import UserError
from tests.bridge.conftest import DEVICE, unit_rows

pytest.importorskip("triton", reason="Triton is there on Linux only")


def naive(queries, keys, values, temperature):
    weights = torch.softmax(queries.double() @ keys.double().T / temperature, dim=1)
    return normalize(weights @ values.double(), dim=-1)


def fused(queries, keys, values=(), *, temperature):
    tables = {id(table): table.float().to(DEVICE) for table in (queries, keys, *values)}
    there = tuple(tables[id(value)] for value in values)
    made = retrieve_fused(tables[id(queries)], tables[id(keys)], there, temperature=temperature)
    return [one.cpu().double() for one in made]


def errors(found, right):
    """The cosine errors of unit rows."""
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(found)).double())
    return 1 - (found * right).sum(dim=1)


def rounded(rows):
    return rows.half().double()


def scattered():
    return unit_rows(70, 40, seed=1), unit_rows(130, 40, seed=2)


def duplicates():
    queries, keys = scattered()
    return queries, torch.cat([keys[:3].repeat(40, 1), keys])


def one_dominant():
    queries, keys = scattered()
    return queries, torch.cat([keys, queries[:1]])


def all_equal():
    queries, keys = scattered()
    return queries, keys[:1].expand(150, -1).contiguous()


def one_row():
    queries, keys = scattered()
    return queries, keys[:1]


def one_query():
    queries, keys = scattered()
    return queries[:1], keys


def opposite():
    """All scores are near -1, and every item's weight is small."""
    queries, _ = scattered()
    return queries[:1], normalize(-queries[:1] + 0.05 * unit_rows(100, 40, seed=3), dim=1)


CASES = (scattered, duplicates, one_dominant, all_equal, one_row, one_query, opposite)


@pytest.mark.parametrize("temperature", [0.005, 0.01, 1.0, 100.0])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_it_is_the_formula_to_a_thousandth(case, temperature):
    queries, keys = case()
    (found,) = fused(queries, keys, temperature=temperature)
    assert float(errors(found, naive(queries, keys, keys, temperature)).max()) < 2e-4


@pytest.mark.parametrize("temperature", [1e-4, 0.01, 100.0])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_only_the_rounding_of_rows_is_lost(case, temperature):
    queries, keys = (rounded(rows) for rows in case())
    (found,) = fused(queries, keys, temperature=temperature)
    assert float(errors(found, naive(queries, keys, keys, temperature)).max()) < 1e-5


@pytest.mark.parametrize("width", [3, 16, 100, 300, 512])
def test_any_width(width):
    queries, keys = unit_rows(5, width, seed=1), unit_rows(90, width, seed=2)
    (found,) = fused(queries, keys, temperature=0.05)
    assert float(errors(found, naive(queries, keys, keys, 0.05)).max()) < 1e-5


def test_small_weights_are_many_and_count():
    """Float16 has no weight below 6e-8; 4,000 of 1e-8 are lifted over that."""
    one, other = torch.eye(16, dtype=torch.float64)[:2]
    far = normalize(one * 0.8158 + other * (1 - 0.8158**2) ** 0.5, dim=0)  # exp(-18.42) = 1e-8
    keys = rounded(torch.cat([one[None], far.expand(4000, -1)]))
    (found,) = fused(one[None], keys, temperature=0.01)
    right = naive(one[None], keys, keys, 0.01)
    assert float(right[0, 1]) > 1e-5
    assert float(found[0, 1]) == pytest.approx(float(right[0, 1]), rel=0.01)


def test_values_other_than_the_keys_share_the_weights():
    queries, keys = scattered()
    values = (unit_rows(130, 24, seed=3), unit_rows(130, 70, seed=4), keys)
    found = fused(queries, keys, values, temperature=0.1)
    assert [one.shape for one in found] == [(70, 24), (70, 70), (70, 40)]
    for one, value in zip(found, values, strict=True):
        assert float(errors(one, naive(queries, keys, value, 0.1)).max()) < 1e-5


def test_it_stands_in_for_retrieve_around_leaf_items():
    leaf, hub = (rows.float().to(DEVICE) for rows in scattered())
    other = unit_rows(130, 24, seed=3).float().to(DEVICE)
    found = leaf_centred(leaf, hub, other, None, by=retrieve_fused, temperature=0.1)
    right = leaf_centred(leaf, hub, other, None, temperature=0.1)
    for one, expected in zip(found[:2], right[:2], strict=True):
        torch.testing.assert_close(one, expected, atol=2e-3, rtol=0)


def test_no_queries_have_no_answers_and_progress_counts_them():
    queries, keys = scattered()
    told: list[int] = []
    tables = [rows.float().to(DEVICE) for rows in (queries, keys)]
    retrieve_fused(*tables, temperature=0.1, advance=told.append)
    assert sum(told) == len(queries)
    (found,) = retrieve_fused(tables[0][:0], tables[1], temperature=0.1)
    assert found.shape == (0, 40)


def test_wider_rows_are_refused_in_a_sentence():
    rows = unit_rows(3, 520).float().to(DEVICE)
    with pytest.raises(UserError, match="at most 512 dimensions but these have 520"):
        retrieve_fused(rows, rows, temperature=0.1)


def test_it_is_for_gpus_with_room_for_it_where_it_is_asked_for(monkeypatch):
    rows = unit_rows(3, 40).float()
    assert not fits_fused(rows, rows, (rows,), temperature=0.01)
    if DEVICE == "cuda" and torch.cuda.get_device_capability() >= (9, 0):
        there = rows.cuda()
        assert not fits_fused(there, there, (there,), temperature=0.01)
        monkeypatch.setenv("MCR_TRITON", "1")
        assert fits_fused(there, there, (there,), temperature=0.01)
        assert not fits_fused(there, there, (there,), temperature=0.001)
        assert not fits_fused(there, rows, (there,), temperature=0.01)


@pytest.mark.skipif(DEVICE != "cuda", reason="needs a CUDA device")
def test_what_is_chosen_for_a_large_memory_on_the_gpu_is_right(monkeypatch):
    monkeypatch.setenv("MCR_TRITON", "1")
    queries, keys = unit_rows(2000, 512, seed=1).float(), unit_rows(70_000, 512, seed=2).float()
    there, table = queries.cuda(), keys.cuda()
    (found,) = retriever("auto")(there, table, (table,), temperature=0.01)
    right = naive(queries[:50], keys, keys, 0.01)
    assert float(errors(found[:50].cpu().double(), right).max()) < 1e-3
