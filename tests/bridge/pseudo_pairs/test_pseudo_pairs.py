from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize, scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from bridge.pseudo_pairs.exact import leaf_centred, retrieve
from tests.bridge.conftest import unit_rows


def naive(queries, keys, values, temperature):
    weights = torch.softmax(queries.double() @ keys.double().T / temperature, dim=1)
    return normalize(weights @ values.double(), dim=-1)


def close(found: torch.Tensor, expected: torch.Tensor, atol: float = 1e-9) -> None:
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=atol)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 20),
    m=st.integers(1, 20),
    query_block=st.integers(1, 25),
    key_block=st.integers(1, 25),
    temperature=st.sampled_from([1e-3, 0.01, 0.1, 1.0, 100.0]),
    seed=st.integers(0, 99),
)
def test_any_blocks_give_the_softmax_average(n, m, query_block, key_block, temperature, seed):
    queries, keys = unit_rows(n, 5, seed=seed), unit_rows(m, 5, seed=seed + 100)
    (found,) = retrieve(
        queries, keys, temperature=temperature, query_block=query_block, key_block=key_block
    )
    close(found, naive(queries, keys, keys, temperature))


@pytest.mark.parametrize("temperature", [1e-3, 0.01, 1.0, 100.0])
def test_float32_is_close_to_float64(temperature):
    queries, keys = unit_rows(50, 16, seed=1), unit_rows(70, 16, seed=2)
    (found,) = retrieve(queries.float(), keys.float(), temperature=temperature, key_block=9)
    assert found.dtype == torch.float32
    cosine = (found.double() * naive(queries, keys, keys, temperature)).sum(dim=1)
    assert float(cosine.min()) > 0.9999


def test_values_other_than_the_keys_share_the_weights():
    queries, keys = unit_rows(6, 4, seed=1), unit_rows(9, 4, seed=2)
    values = (unit_rows(9, 3, seed=3), unit_rows(9, 7, seed=4), keys)
    found = retrieve(queries, keys, values, temperature=0.2, query_block=4, key_block=2)
    assert [one.shape for one in found] == [(6, 3), (6, 7), (6, 4)]
    for one, value in zip(found, values, strict=True):
        close(one, naive(queries, keys, value, 0.2))


def test_half_precision_memories_are_read_at_the_queries_precision():
    queries, keys = unit_rows(6, 4, seed=1), unit_rows(9, 4, seed=2).half()
    (found,) = retrieve(queries, keys, temperature=0.2)
    close(found, naive(queries, keys, keys, 0.2))


def test_equals_scaled_dot_product_attention():
    queries, keys, values = (unit_rows(11, 8, seed=seed) for seed in (1, 2, 3))
    attended = scaled_dot_product_attention(queries[None], keys[None], values[None], scale=1 / 0.05)
    (found,) = retrieve(queries, keys, (values,), temperature=0.05, key_block=4)
    close(found, normalize(attended[0], dim=-1))


def test_a_memory_of_one_row_is_always_the_answer():
    (found,) = retrieve(unit_rows(5, 4, seed=1), unit_rows(1, 4, seed=2), temperature=0.01)
    close(found, unit_rows(1, 4, seed=2).expand(5, 4))


def test_duplicates_in_the_memory_weigh_twice():
    queries, keys = unit_rows(5, 4, seed=1), unit_rows(3, 4, seed=2)
    twice = torch.cat([keys, keys[:1], keys[:1]])
    weights = torch.softmax(queries @ keys.T / 0.5, dim=1) * torch.tensor([3.0, 1.0, 1.0])
    (found,) = retrieve(queries, twice, temperature=0.5, key_block=2)
    close(found, normalize(weights @ keys, dim=-1))


@pytest.mark.parametrize("place", [0, 4, 9])
def test_one_dominant_neighbour_is_returned_as_it_is(place):
    keys = unit_rows(10, 16, seed=1)
    (found,) = retrieve(keys[place : place + 1], keys, temperature=1e-3, key_block=3)
    close(found, keys[place : place + 1])


def test_equal_keys_average_their_values_evenly():
    keys, values = unit_rows(1, 4).expand(6, 4), unit_rows(6, 3, seed=2)
    (found,) = retrieve(unit_rows(2, 4, seed=3), keys, (values,), temperature=0.01, key_block=4)
    close(found, normalize(values.mean(dim=0), dim=0).expand(2, 3))


def test_a_huge_temperature_gives_the_direction_of_the_mean():
    keys = unit_rows(8, 4, seed=2)
    (found,) = retrieve(unit_rows(3, 4), keys, temperature=1e6)
    close(found, normalize(keys.mean(dim=0), dim=0).expand(3, 4), atol=1e-4)


@pytest.mark.parametrize("temperature", [1e-3, 0.01])
@pytest.mark.parametrize("key_block", [1, 3, 100])
def test_opposite_memories_do_not_underflow(temperature, key_block):
    query = torch.eye(1, 4, dtype=torch.float32)
    keys = normalize(-query + 0.01 * unit_rows(7, 4, dtype=torch.float32), dim=-1)
    (found,) = retrieve(query, keys, temperature=temperature, key_block=key_block)
    assert torch.isfinite(found).all()
    close(found, naive(query, keys, keys, temperature), atol=1e-3)


class LargestTensor(TorchDispatchMode):
    """Records the size of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else [result]:
            if isinstance(one, torch.Tensor):
                self.elements = max(self.elements, one.numel())
        return result


def test_the_scores_of_all_queries_and_keys_are_never_held():
    queries, keys = unit_rows(300, 8, seed=1), unit_rows(400, 8, seed=2)
    with LargestTensor() as largest:
        retrieve(queries, keys, temperature=0.01, query_block=32, key_block=64)
    assert 32 * 64 <= largest.elements <= 400 * 8  # a block, or the memory itself


def test_finished_queries_are_reported():
    done: list[int] = []
    retrieve(unit_rows(10, 4), unit_rows(3, 4), temperature=1.0, query_block=4, advance=done.append)
    assert done == [4, 4, 2]


def test_leaf_centred_equals_its_formula():
    leaf, hub = unit_rows(7, 4, seed=1), unit_rows(9, 4, seed=2)
    other_hub, other_leaf = unit_rows(9, 6, seed=3), unit_rows(5, 6, seed=4)
    own, other, other_pair = leaf_centred(leaf, hub, other_hub, other_leaf, temperature=0.1)
    close(own, naive(leaf, hub, hub, 0.1))
    close(other, naive(leaf, hub, other_hub, 0.1))
    assert other_pair is not None
    close(other_pair, naive(naive(leaf, hub, other_hub, 0.1), other_leaf, other_leaf, 0.1))


def test_leaf_centred_without_another_leaf_has_no_pair_there():
    leaf, hub, other_hub = unit_rows(7, 4, seed=1), unit_rows(9, 4, seed=2), unit_rows(9, 6)
    own, other, nothing = leaf_centred(leaf, hub, other_hub, None, temperature=0.1)
    assert (own.shape, other.shape, nothing) == ((7, 4), (7, 6), None)
