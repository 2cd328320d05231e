"""Groups of options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from cli.options import with_groups


@dataclass(frozen=True)
class Paint:
    colour: Annotated[str, typer.Option("--colour", "-c", help="What it is painted.")]
    coats: Annotated[int, typer.Option(min=1)] = 2


@dataclass(frozen=True)
class Size:
    width: float = 1.0


@pytest.fixture
def app():
    made = typer.Typer()

    @made.command()
    @with_groups
    def build(
        name: Annotated[str, typer.Argument()],
        paint: Paint,
        *,
        tall: Annotated[bool, typer.Option("--tall")] = False,
        size: Size,
    ) -> None:
        """Build something."""
        typer.echo(f"{name} {paint} {size} {tall}")

    return made


def test_a_command_gets_its_groups_filled(app):
    result = CliRunner().invoke(app, ["shed", "-c", "red", "--width", "3", "--tall"])
    assert result.stdout == "shed Paint(colour='red', coats=2) Size(width=3.0) True\n"


def test_options_of_a_group_are_checked_and_told_as_any(app):
    runner = CliRunner()
    assert runner.invoke(app, ["shed"]).exit_code == 2
    assert "--coats" in runner.invoke(app, ["shed", "-c", "red", "--coats", "0"]).stderr
    told = runner.invoke(app, ["--help"]).stdout
    places = [told.index(word) for word in ("Build something", "--colour", "--coats", "--tall")]
    assert places == sorted(places)
    assert "What it is painted" in told
