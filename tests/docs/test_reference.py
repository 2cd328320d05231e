"""The reference is the code's: pages that are out of date fail here, and say how to make them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from bridge.config import load_settings, setting_fields
from cli.main import app
from docs.tools.reference import PAGES, REFERENCE, made


@pytest.mark.parametrize("name", PAGES)
def test_the_reference_is_up_to_date(name: str):
    told = f"docs/reference/{name} is out of date: run `python -m docs.tools.reference`"
    assert (REFERENCE / name).read_text("utf-8") == made(name), told


def test_every_command_and_option_is_in_the_reference():
    page = made("cli.md")
    settings = {setting.name for setting in setting_fields()}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        if hasattr(command, "commands"):
            continue
        part = re.split(r"^## ", page, flags=re.MULTILINE)
        (own,) = [one for one in part if one.startswith(f"mcr {name}\n")]
        names = {one.name for one in command.params}
        for one in command.params:
            if one.param_type_name == "option" and not (settings <= names and one.name in settings):
                assert all(f"`{flag}`" in own for flag in one.opts), (name, one.opts)


def test_every_setting_is_in_the_reference_once():
    page = made("settings.md")
    for setting in setting_fields():
        assert page.count(f"| `{setting.name}` |") == 1
        assert str(setting.metadata["help"]).split("(")[0].strip()[:40] in page.replace("\\", "")


def test_the_settings_file_of_the_page_loads(tmp_path: Path):
    (example,) = re.findall(r"```toml\n(.*?)```", made("settings.md"), flags=re.DOTALL)
    (tmp_path / "settings.toml").write_text(example)
    settings = load_settings(tmp_path / "settings.toml")
    assert (settings.objective, settings.epochs) == ("tcl", 12)
    assert not settings.tcl_learn_temperature


def test_the_python_reference_has_what_is_exported():
    import bridge

    page = made("python.md")
    for name in bridge.__all__:
        assert f"\n#### `{name}`\n" in page
    assert 'left: Float[Tensor, "n d"]' in page
