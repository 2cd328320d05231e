"""Encoders compared: the same, different, or not known."""

from __future__ import annotations

import warnings

import pytest

from features.errors import UserError
from features.memories.provenance import (
    EncoderUnknown,
    check_encoders,
    differing,
    for_modality,
    merged,
    side_by_side,
)

KNOWN = {
    "name": "a",
    "weights": "11",
    "preprocessing": {"image": {"size": [224, 224], "mean": 0.5}, "text": "x" * 60},
    "precision": "fp32",
}


def _check(one: dict[str, object], other: dict[str, object], *, trust: bool = False) -> None:
    check_encoders(("the bridge", one), ("f.h5", other), remedy="do that", trust=trust)


@pytest.mark.parametrize(
    "changes", [{}, {"precision": "bf16"}, {"name": "b", "spec": "b:c", "versions": {"x": "1"}}]
)
def test_name_precision_and_versions_make_no_other_encoder(changes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _check(KNOWN, KNOWN | changes)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"weights": "22"}, "weights"),
        ({"preprocessing": {**KNOWN["preprocessing"], "text": "y"}}, "preprocessing"),
        ({"weights": "22", "preprocessing": {"image": 1}}, "weights and preprocessing"),
    ],
)
def test_other_weights_or_preprocessing_are_refused_side_by_side(changes, what):
    with pytest.raises(UserError) as caught:
        _check(KNOWN, KNOWN | changes)
    assert str(caught.value) == (
        f"f.h5 and the bridge have encoders with other {what}: do that, or pass --trust-encoder "
        "(trust_encoder=True)"
    )
    assert "\n" not in str(caught.value)
    marked = [row.split()[0] for row in caught.value.details.splitlines() if "differs" in row]
    assert {name.split(".")[0] for name in marked} == set(differing(KNOWN, KNOWN | changes))
    _check(KNOWN, KNOWN | changes, trust=True)


@pytest.mark.parametrize("unknown", [{}, {"name": "a", "spec": "a"}])
def test_an_unknown_encoder_is_taken_on_trust_and_that_is_told(unknown):
    with pytest.warns(EncoderUnknown, match=r"embeddings of f.h5 is not recorded: .*on trust"):
        _check(KNOWN, unknown)
    with pytest.warns(EncoderUnknown, match=r"embeddings of the bridge is not recorded"):
        _check(unknown, KNOWN)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _check({}, {})
        _check(KNOWN, unknown, trust=True)


def test_two_encoders_without_weights_are_told_apart_by_their_names():
    one, other = {"name": "a", "spec": "clap:one"}, {"name": "b", "spec": "clap:other"}
    with pytest.warns(EncoderUnknown, match=r"of the bridge and of f.h5 is not recorded"):
        _check(one, one)
    with (
        pytest.warns(EncoderUnknown),
        pytest.raises(UserError, match="have encoders with other names: do that, or pass"),
    ):
        _check(one, other)


def test_descriptions_stand_side_by_side():
    other = {**KNOWN, "preprocessing": {"image": {"size": [336, 336], "mean": 0.5}}}
    lines = [line.split() for line in side_by_side(("one", KNOWN), ("two", other)).splitlines()]
    assert lines == [
        ["one", "two"],
        ["name", "a", "a"],
        ["weights", "11", "11"],
        ["preprocessing.image.size", "[224,", "224]", "[336,", "336]", "<-", "differs"],
        ["preprocessing.image.mean", "0.5", "0.5"],
        ["preprocessing.text", "…" + "x" * 44, "-", "<-", "differs"],
        ["precision", "fp32", "fp32"],
    ]


def test_what_a_memory_says_of_preprocessing_is_of_its_own_modality():
    steps = {"image": {"size": 224}, "text": {"context": 77}, "activation": "GELU"}
    image = for_modality({**KNOWN, "preprocessing": steps}, "image")
    assert image["preprocessing"] == {"image": {"size": 224}, "activation": "GELU"}
    text = for_modality({**KNOWN, "preprocessing": {**steps, "image": {"size": 336}}}, "text")
    assert differing(image, text) == []
    joined = merged([image, {**text, "spec": "b"}])
    assert joined["preprocessing"] == steps
    assert joined["spec"] == "b"
    assert differing(joined, {"preprocessing": {"image": {"size": 336}}}) == ["preprocessing"]
    assert merged([{}, {}]) == {}
