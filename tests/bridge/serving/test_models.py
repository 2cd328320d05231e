"""What comes in is checked on the event loop, so a wrong body must cost little."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bridge.serving.requests import EmbedRequest, SearchRequest

MANY = 300_000
KEYS = {str(number): 1 for number in range(MANY)}
TEXT = {"text": "a"}


WRONG: dict[str, object] = {
    "empty queries": {"queries": [{}] * MANY},
    "queries": {"queries": [TEXT] * MANY},
    "keys": KEYS,
    "keys of a query": {"queries": [KEYS]},
    "keys beside a text": {"queries": [{**TEXT, **KEYS}]},
    "keys of an item": {"queries": [{"item": KEYS}]},
    "embeddings": {"queries": [{"embedding": ["a"] * MANY, "space": "s"}] * 100},
    "columns": {"queries": [TEXT], "where": KEYS},
    "keys of a range": {"queries": [TEXT], "where": {"a": KEYS}},
    "values": {"queries": [TEXT], "where": {"a": [None] * MANY}},
    "collections": {"queries": [TEXT], "collections": [""] * MANY},
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("model", [SearchRequest, EmbedRequest])
def test_a_large_wrong_body_is_refused_at_its_first_errors(model, name: str) -> None:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(WRONG[name])
    assert caught.value.error_count() < 8


def test_strings_of_a_filter_are_bounded() -> None:
    SearchRequest.model_validate({"queries": [TEXT], "where": {"a": ["x" * 4096]}})
    with pytest.raises(ValidationError, match="at most 4096 characters"):
        SearchRequest.model_validate({"queries": [TEXT], "where": {"a": ["x" * 4097]}})


@pytest.mark.parametrize(
    ("where", "place", "message"),
    [
        ({"a": "x"}, ("where", "a"), "a filter is a list of values, one of which"),
        ({"a": [None]}, ("where", "a", "<values>", 0), "a value to filter by is a text or"),
        ({"a": {"mn": 1}}, ("where", "a", "<range>"), r"no key 'mn' \(did you mean min\?\), there"),
        ({"a": {"min": "1"}}, ("where", "a", "<range>", "min"), "valid number"),
        ({"a": [True]}, ("where", "a", "<values>", 0, "<number>"), "valid number"),
    ],
)
def test_what_is_wrong_with_a_filter_is_said_of_what_was_sent(where, place, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        SearchRequest.model_validate({"queries": [TEXT], "where": where})
    assert caught.value.errors()[0]["loc"] == place


def test_a_mistyped_key_gets_the_one_that_was_meant() -> None:
    with pytest.raises(
        ValidationError, match=r"no key 'query' \(did you mean queries\?\), there are"
    ):
        SearchRequest.model_validate({"query": [TEXT]})
