"""Which settings belong to which methods and objectives."""

from __future__ import annotations

from dataclasses import fields

import pytest

from bridge.config import METHODS, OBJECTIVES, TrainSettings
from features.errors import UserError

KINDS = [
    *({"objective": objective} for objective in OBJECTIVES),
    *({"method": method} for method in METHODS if method != "projectors"),
]
OWNED = {setting.name: setting for setting in fields(TrainSettings) if "of" in setting.metadata}
OTHER_VALUES = {
    "ensemble": 3,
    "cwcl_space": "clip",
    "cwcl_symmetric": True,
    "batch": 40,
    "patience": 3,
    "lmi_weight": 1.0,
    "itm_weight": 1.0,
    "itm_temperature": 0.03,
    "mlm_weight": 1.0,
    "tcl_momentum": 0.9,
    "tcl_learn_temperature": False,
    "fusion_heads": 8,
}


def other_value(name: str) -> object:
    """One that is not the default."""
    default, choices = OWNED[name].default, OWNED[name].metadata.get("choices")
    if choices:
        return next(choice for choice in choices if choice != default)
    return OTHER_VALUES[name] if name in OTHER_VALUES else type(default)(default * 1.5)


def test_the_settings_of_one_kind_name_kinds_that_there_are():
    kinds = {TrainSettings(**chosen).kind for chosen in KINDS}
    assert kinds == {*OBJECTIVES, *METHODS} - {"projectors"}
    for setting in OWNED.values():
        assert {*setting.metadata["of"].split()} <= kinds, setting.name


@pytest.mark.parametrize("chosen", KINDS, ids=lambda chosen: "".join(chosen.values()))
@pytest.mark.parametrize("name", OWNED)
def test_a_setting_of_another_kind_is_refused_with_the_names(name, chosen):
    (kind,) = chosen.values()
    owners, value = OWNED[name].metadata["of"].split(), other_value(name)
    if kind in owners:
        assert getattr(TrainSettings(**chosen, **{name: value}), name) == value
        return
    with pytest.raises(UserError) as caught:
        TrainSettings(**chosen, **{name: value})
    assert str(caught.value).startswith(
        f"the setting {name} is {value!r} but belongs to {' and '.join(owners)}, and this bridge "
        f"is made by {kind}: "
    )
    TrainSettings(**chosen, **{name: OWNED[name].default})  # the default says nothing


@pytest.mark.parametrize(
    ("changed", "kinds"),
    [
        ({"projector": "linear"}, "cmcr cwcl distil tcl mixture"),
        ({"hidden": 64}, "cmcr cwcl distil tcl mixture"),
        ({"dimension": 8}, "cmcr cwcl distil tcl procrustes ridge cca mixture"),
        ({"start": "cca"}, "cmcr cwcl distil tcl mixture"),
        ({"batch": 64}, "cmcr cwcl distil tcl mixture"),
        ({"patience": 2}, "cmcr cwcl distil tcl mixture"),
        ({"precision": "bf16"}, "cmcr cwcl distil tcl mixture"),
        ({"inter_hub_weight": 0.5}, "cmcr cwcl distil tcl mixture"),
        ({"inter_leaf_weight": 0.5}, "cmcr cwcl tcl mixture"),
        ({"retrieval_temperature": 0.1}, "cmcr cwcl tcl mixture"),
        ({"pseudo_pairs": "all"}, "cmcr cwcl tcl mixture"),
        ({"cwcl_terms": "hub"}, "cwcl"),
        ({"distil_batch": 64}, "distil"),
        ({"cma_weight": 0.5, "itm_weight": 1.0, "fusion_width": 32}, "tcl"),
        ({"routing_temperature": 0.2}, "routing distil"),
        ({"anchors": 9}, "relative routing mixture"),
        ({"penalty": 2.0}, "ridge cca mixture"),
        ({"correlation_power": 1.0}, "cca"),
        (
            {"holdout": 0.1, "seed": 3, "centring": "hub"},
            "cmcr cwcl distil tcl procrustes ridge cca relative routing mixture",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_the_kinds_that_have_a_setting(changed, kinds):
    accepted = []
    for chosen in KINDS:
        try:
            accepted.append(TrainSettings(**chosen, **changed).kind)
        except UserError:
            continue
    assert sorted(accepted) == sorted(kinds.split())


@pytest.mark.parametrize("method", [method for method in METHODS if method != "projectors"])
@pytest.mark.parametrize("objective", ["cwcl", "distil", "tcl"])
def test_an_objective_belongs_to_projectors(method, objective):
    with pytest.raises(UserError) as caught:
        TrainSettings(method=method, objective=objective)
    assert str(caught.value).startswith(
        f"the objective is '{objective}' but the method '{method}' trains no projectors by it"
    )
