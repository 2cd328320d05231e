from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict, fields
from pathlib import Path

import pytest

from bridge.config import (
    CLOSED_FORMS,
    PRESETS,
    SettingsChanged,
    TrainSettings,
    load_settings,
)
from features.errors import UserError
from features.sealed import sealed_text

PUBLISHED = {
    "projector": "mlp2",
    "dimension": 512,
    "hidden": 1024,
    "retrieval_temperature": 0.01,
    "inter_hub_temperature": 0.01,
    "inter_leaf_temperature": 0.01,
    "noise_variance": 0.004,
    "inter_hub_weight": 1.0,
    "inter_leaf_weight": 1.0,
    "intra_weight": 0.1,
    "pseudo_pairs": "hub",
    "epochs": 36,
    "learning_rate": 1e-3,
}


def written(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text)
    return path


def test_settings_that_are_not_as_a_run_wrote_them_are_told(tmp_path, recwarn):
    text = sealed_text("epochs = 3\n")
    assert load_settings(written(tmp_path, text)).epochs == 3
    assert not recwarn
    with pytest.warns(SettingsChanged, match=r"settings\.toml .* was edited or is damaged"):
        assert (
            load_settings(written(tmp_path, text.replace("epochs = 3", "epochs = 4"))).epochs == 4
        )


@pytest.mark.parametrize(("name", "value"), PUBLISHED.items())
def test_defaults_are_the_published_recipe(name, value):
    assert getattr(TrainSettings(), name) == value


def test_every_setting_has_a_help_text_that_is_a_sentence():
    for setting in fields(TrainSettings):
        assert setting.metadata["help"].endswith("."), setting.name


def test_settings_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        TrainSettings().epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("batch", "items", "expected"),
    [
        (None, 2_330_000, 10_240),  # published
        (None, 163_840, 10_240),
        (None, 100_000, 6250),  # a sixteenth
        (None, 1000, 128),  # but at least 128
        (None, 50, 50),  # but no more than there are
        (64, 1000, 64),
        (64, 10, 10),
    ],
)
def test_batch_for(batch, items, expected):
    assert TrainSettings(batch=batch).batch_for(items) == expected


def test_toml_values_replace_defaults_and_whole_numbers_serve_as_fractions(tmp_path):
    text = 'projector = "linear"\nepochs = 3\nintra_weight = 1\ncentring = "hub"\npatience = 2\n'
    changed = {
        "projector": "linear", "epochs": 3, "intra_weight": 1.0, "centring": "hub", "patience": 2
    }  # fmt: skip
    loaded = load_settings(written(tmp_path, text))
    assert asdict(loaded) == asdict(TrainSettings()) | changed
    assert isinstance(loaded.intra_weight, float)


def test_overrides_win_over_the_file_unless_they_are_none(tmp_path):
    path = written(tmp_path, "epochs = 3\nhidden = 7\n")
    loaded = load_settings(path, {"epochs": 5, "hidden": None, "seed": 9})
    assert (loaded.epochs, loaded.hidden, loaded.seed) == (5, 7, 9)


def test_without_a_file_the_preset_stands():
    assert load_settings(preset="published") == TrainSettings()
    assert load_settings(preset="best") == TrainSettings(method="mixture")


def test_the_file_wins_over_the_preset_and_overrides_over_both(tmp_path):
    path = written(tmp_path, 'method = "cca"\npenalty = 2\n')
    loaded = load_settings(path, preset="best")
    assert loaded == TrainSettings(method="cca", penalty=2.0)
    loaded = load_settings(path, {"method": "ridge"}, preset="best")
    assert loaded == TrainSettings(method="ridge", penalty=2.0)


def test_an_unknown_preset_is_refused_with_those_there_are():
    with pytest.raises(UserError, match=r"^there is no preset 'worst': choose published or best$"):
        load_settings(preset="worst")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_loaded(preset):
    assert load_settings(preset=preset) == TrainSettings(**PRESETS[preset])


@pytest.mark.parametrize(
    ("settings", "means"),
    [
        ({}, "none"),
        ({"objective": "distil"}, "none"),
        ({"projector": "linear"}, "none"),
        *(({"method": method}, "modality") for method in CLOSED_FORMS),
        *(({"method": "cca", "centring": means}, means) for means in ("none", "hub", "modality")),
        ({"centring": "hub"}, "hub"),
    ],
)
def test_the_means_that_are_subtracted(settings, means):
    assert TrainSettings(**settings).means == means


def test_methods_and_their_settings_can_be_written_as_toml(tmp_path):
    text = 'method = "routing"\nrouting_temperature = 1\nanchors = 12\ncentring = "hub"\n'
    assert load_settings(written(tmp_path, text)) == TrainSettings(
        method="routing", routing_temperature=1.0, anchors=12, centring="hub"
    )
    text = 'objective = "cwcl"\ncwcl_space = "clip"\ncwcl_symmetric = true\n'
    assert load_settings(written(tmp_path, text)) == TrainSettings(
        objective="cwcl", cwcl_space="clip", cwcl_symmetric=True
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "epoch = 3",
            "{path} has the setting 'epoch', which does not exist (did you mean epochs?): "
            "`mcr train --help` lists all ",
        ),
        ("epochs = 3.5", "the setting epochs is 3.5 but must be of type int"),
        ('epochs = "3"', "the setting epochs is '3' but must be of type int"),
        ("epochs = true", "the setting epochs is True but must be of type int"),
        ("batch = true", "the setting batch is True but must be of type int"),
        ("intra_weight = true", "the setting intra_weight is True but must be of type float"),
        ('intra_weight = "1"', "the setting intra_weight is '1' but must be of type float"),
        ("centred = true", "{path} has the setting 'centred', which does not exist (did you mean "),
        ("centring = true", "the setting centring is True but must be of type str"),
        (
            'centring = "all"',
            "the setting centring is 'all' but must be one of auto, none, hub, modality",
        ),
        (
            'objective = "cwcl"\ncwcl_symmetric = 1',
            "the setting cwcl_symmetric is 1 but must be of type bool",
        ),
        ("projector = 1", "the setting projector is 1 but must be of type str"),
        (
            'projector = "mlp3"',
            "the setting projector is 'mlp3' but must be one of mlp2, mlp1, linear",
        ),
        (
            'method = "svd"',
            "the setting method is 'svd' but must be one of projectors, procrustes, ridge, cca, "
            "relative, routing, mixture",
        ),
        (
            'objective = "clip"',
            "the setting objective is 'clip' but must be one of cmcr, cwcl, distil",
        ),
        (
            'method = "cca"\npenalty = -1',
            "the setting penalty is -1.0 but must be at least 0",
        ),
        (
            'objective = "distil"\nsmoothing = 1',
            "the setting smoothing is 1.0 but must be less than 1",
        ),
        (
            'method = "routing"\nanchors = 1',
            "the setting anchors is 1 but must be at least 2",
        ),
        (
            "penalty = 2",
            "the setting penalty is 2.0 but belongs to ridge and cca and mixture, and this bridge "
            "is made by cmcr: ",
        ),
        ('precision = "fp8"', "the setting precision is 'fp8' but must be one of auto, fp32, bf16"),
        (
            'pseudo_pairs = "both"',
            "the setting pseudo_pairs is 'both' but must be one of hub, leaf, all, each",
        ),
        ("epochs = 0", "the setting epochs is 0 but must be at least 1"),
        ("batch = 1", "the setting batch is 1 but must be at least 2"),
        ("seed = -1", "the setting seed is -1 but must be at least 0"),
        ("holdout = 1", "the setting holdout is 1.0 but must be less than 1"),
        ("holdout = -0.1", "the setting holdout is -0.1 but must be at least 0"),
        ("learning_rate = 0", "the setting learning_rate is 0.0 but must be more than 0"),
        ("noise_variance = nan", "the setting noise_variance is nan but must be "),
        ("retrieval_temperature = inf", "the setting retrieval_temperature is inf but must be "),
        ("epochs = ", "{path}, line 1: `epochs =` is not TOML, as its value is of no kind: put"),
        ("just words", "{path}, line 1: `just words` is not TOML, as a key has no value: wri"),
    ],
)
def test_bad_settings_are_refused_with_a_sentence(tmp_path, text, sentence):
    path = written(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load_settings(path)
    assert str(caught.value).startswith(sentence.format(path=path))


def test_a_file_that_is_not_text_is_not_toml(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"settings\.toml is not TOML, it is no text in UTF-8"):
        load_settings(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"settings file .*none.toml does not exist: check"):
        load_settings(tmp_path / "none.toml")


def test_overrides_are_checked_as_well():
    with pytest.raises(UserError, match="epochs is 0 but must be at least 1"):
        load_settings(None, {"epochs": 0})


@pytest.mark.parametrize("changed", [{"objective": "distil"}, {"projector": "linear"}])
def test_the_best_preset_and_what_only_projectors_have_are_refused(changed):
    (name,) = changed
    with pytest.raises(UserError, match=f"best is a mixture but the setting {name} is "):
        load_settings(overrides=changed, preset="best")
    assert load_settings(overrides=changed).method == "projectors"
    if name == "projector":
        mixed = load_settings(overrides={**changed, "method": "mixture"}, preset="best")
        assert (mixed.kind, mixed.projector) == ("mixture", "linear")
