"""Names that are mistyped: wrong usage, and the nearest name that there is."""

from __future__ import annotations

import pytest

from tests.cli.conftest import mcr

MISTYPED = {
    "command": (("trian",), "No such command 'trian'. Did you mean 'train'?"),
    "protocol": (("eval", "retreival"), "No such command 'retreival'. Did you mean 'retrieval'?"),
    "option": (("train", "--epoch", "3"), "No such option: --epoch (Possible options: --epochs)"),
    "option of eval": (("eval", "--qurey", "x"), "No such option: --qurey"),
    "encoder": (
        ("extract", "gone", "-e", "mini-clop", "-m", "text", "-o", "x.h5"),
        "error: 'mini-clop' is not an encoder (did you mean mini-clip?), these are: clip, ",
    ),
    "modality": (
        ("extract", "gone", "-e", "mini-clip", "-m", "texts", "-o", "x.h5"),
        "error: 'texts' is not a modality (did you mean text?): use one of text, image, aud",
    ),
    "preset": (
        ("train", "--hub", "a.h5", "--hub", "b.h5", "-o", "x", "--preset", "besst"),
        "error: there is no preset 'besst' (did you mean best?): choose published or best",
    ),
    "value of a setting": (
        ("train", "--hub", "a.h5", "--hub", "b.h5", "-o", "x", "--method", "proscrutes"),
        "error: the setting method is 'proscrutes' but must be one of projectors, procrustes, "
        "ridge, cca, relative, routing, mixture (did you mean procrustes?)",
    ),
    "device": (
        ("doctor", "mini-clip", "--device", "gpu"),
        "error: 'gpu' is not a device: use auto, cpu, cuda, cuda:1 or mps",
    ),
    "theme": (
        ("plot", "gap", "a.h5", "--theme", "drak", "-o", "x.svg"),
        "error: there is no theme 'drak' (did you mean dark?): choose light, dark or transparent",
    ),
    "a form": (
        ("extract", "gone", "-e", "mini-clip", "-m", "text", "-o", "x.h5", "--where", "split"),
        "error: --where split should read COLUMN=VALUE",
    ),
    "a shard": (
        ("extract", "gone", "-e", "mini-clip", "-m", "text", "-o", "x.h5", "--shard", "1of8"),
        "error: --shard 1of8 is not a shard: write I/N, such as 1/8",
    ),
    "recipe": (("init", "dmeo"), "error: there is no recipe 'dmeo' (did you mean demo?): choose "),
}


@pytest.mark.parametrize("name", MISTYPED)
def test_a_mistyped_name_is_wrong_usage_and_comes_with_the_nearest(name):
    arguments, told = MISTYPED[name]
    result = mcr(*arguments)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].removeprefix("Error: ").startswith(told)
    assert result.stdout == ""


def test_an_unknown_setting_of_a_file_comes_with_the_nearest(tmp_path):
    settings = tmp_path / "settings.toml"
    settings.write_text("learning-rate = 0.1\n")
    result = mcr("train", "--hub", "a.h5", "--hub", "b.h5", "-o", "x", "--config", settings)
    assert result.exit_code == 2
    assert (
        f"error: {settings} has the setting 'learning-rate', which does not exist (did you mean "
        "learning_rate?): `mcr train --help` lists all "
    ) in result.stderr
