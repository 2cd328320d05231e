from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict, fields
from pathlib import Path

import pytest

from bridge.config import TrainSettings, load_settings
from features.errors import UserError

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
    text = 'projector = "linear"\nepochs = 3\nintra_weight = 1\ncentred = true\npatience = 2\n'
    changed = {
        "projector": "linear", "epochs": 3, "intra_weight": 1.0, "centred": True, "patience": 2
    }  # fmt: skip
    loaded = load_settings(written(tmp_path, text))
    assert asdict(loaded) == asdict(TrainSettings()) | changed
    assert isinstance(loaded.intra_weight, float)


def test_overrides_win_over_the_file_unless_they_are_none(tmp_path):
    path = written(tmp_path, "epochs = 3\nhidden = 7\n")
    loaded = load_settings(path, {"epochs": 5, "hidden": None, "seed": 9})
    assert (loaded.epochs, loaded.hidden, loaded.seed) == (5, 7, 9)


def test_without_a_file_the_defaults_stand():
    assert load_settings() == TrainSettings()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "epoch = 3",
            "{path} has the setting 'epoch', which does not exist: the settings are projector, ",
        ),
        ("epochs = 3.5", "the setting epochs is 3.5 but must be of type int"),
        ('epochs = "3"', "the setting epochs is '3' but must be of type int"),
        ("epochs = true", "the setting epochs is True but must be of type int"),
        ("batch = true", "the setting batch is True but must be of type int"),
        ("intra_weight = true", "the setting intra_weight is True but must be of type float"),
        ('intra_weight = "1"', "the setting intra_weight is '1' but must be of type float"),
        ("centred = 1", "the setting centred is 1 but must be of type bool"),
        ("projector = 1", "the setting projector is 1 but must be of type str"),
        (
            'projector = "mlp3"',
            "the setting projector is 'mlp3' but must be one of mlp2, mlp1, linear",
        ),
        ('precision = "fp8"', "the setting precision is 'fp8' but must be one of auto, fp32, bf16"),
        (
            'pseudo_pairs = "both"',
            "the setting pseudo_pairs is 'both' but must be one of hub, leaf, all",
        ),
        ("epochs = 0", "the setting epochs is 0 but must be at least 1"),
        ("batch = 1", "the setting batch is 1 but must be at least 2"),
        ("seed = -1", "the setting seed is -1 but must be at least 0"),
        ("holdout = 1", "the setting holdout is 1.0 but must be less than 1"),
        ("holdout = -0.1", "the setting holdout is -0.1 but must be at least 0"),
        ("learning_rate = 0", "the setting learning_rate is 0.0 but must be more than 0"),
        ("noise_variance = nan", "the setting noise_variance is nan but must be "),
        ("retrieval_temperature = inf", "the setting retrieval_temperature is inf but must be "),
        ("epochs = ", "{path} is not TOML ("),
        ("just words", "{path} is not TOML ("),
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
    with pytest.raises(UserError, match=r"settings\.toml is not TOML"):
        load_settings(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"settings file .*none.toml does not exist: check"):
        load_settings(tmp_path / "none.toml")


def test_overrides_are_checked_as_well():
    with pytest.raises(UserError, match="epochs is 0 but must be at least 1"):
        load_settings(None, {"epochs": 0})
