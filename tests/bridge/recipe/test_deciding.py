"""What is told of a difference between what a step was made from and what it would be made from."""

from __future__ import annotations

import pytest

from bridge.recipe.deciding import difference

THEN = {
    "options": {"epochs": 2, "kind": "flat"},
    "inputs": {"texts.csv": "one", "train": "two"},
    "code": {"mcr-bridge": "0.1"},
}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"options": {"epochs": 3, "kind": "flat"}}, "epochs is 3, was 2"),
        ({"options": {"epochs": 2}}, "kind is unset, was flat"),
        ({"options": {"epochs": 3, "kind": "hnsw"}}, "epochs is 3, was 2 and 1 more"),
        ({"inputs": {"texts.csv": "three", "train": "two"}}, "texts.csv has changed"),
        ({"inputs": {"texts.csv": "one"}}, "train is no longer used"),
        ({"inputs": {**THEN["inputs"], "more.csv": "x"}}, "more.csv is new"),
        ({"code": {"mcr-bridge": "0.2"}}, "mcr-bridge is 0.2, was 0.1"),
        ({"options": {"epochs": 2, "kind": "x" * 70}}, f"kind is {'x' * 60}…, was flat"),
    ],
)
def test_the_first_difference_is_told_and_how_many_more_there_are(changes, told):
    assert difference(THEN, {**THEN, **changes}) == told
