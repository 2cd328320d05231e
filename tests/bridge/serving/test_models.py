"""What comes in is checked on the event loop, so a wrong body must cost little."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bridge.serving.models import EmbedRequest, SearchRequest

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
