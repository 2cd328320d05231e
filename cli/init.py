"""`mcr init`: a commented recipe to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import choices
from cli.output import note, print_table


def init(
    recipe: Annotated[
        str | None,
        typer.Argument(help="Which one. Unset: list them.", autocompletion=choices.recipe),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The file to write, NAME.toml. Unset: RECIPE.toml."),
    ] = None,
) -> None:
    """Write a recipe for `mcr run`, to be changed.

    Without an argument, lists what there is.
    """
    from bridge.recipe.journal import NAME as JOURNAL
    from bridge.recipe.templates import RECIPES, template
    from features.errors import UnknownNameError, UserError
    from features.files import replacing
    from features.suggest import did_you_mean

    if recipe is None:
        print_table(["recipe", "what it does"], RECIPES.items())
        typer.echo("\nWrite one: mcr init demo")
        return
    if recipe not in RECIPES:
        raise UnknownNameError(
            f"there is no recipe '{recipe}'{did_you_mean(recipe, RECIPES)}: choose "
            f"{', '.join(RECIPES)}"
        )
    path = out or Path(f"{recipe}.toml")
    if path.suffix != ".toml":
        raise UserError(f"a recipe is called NAME.toml, not {path.name}: write {path.name}.toml")
    if set(path.stem) & set('"\\'):
        raise UserError(f"{path.name} would need quoting in the recipe: choose a plain name")
    if path.exists():
        raise UserError(f"{path} exists: remove it, or choose another file with --out")
    with replacing(path) as temporary:
        text = template(recipe).replace("NAME", path.stem).replace("FILE", path.name)
        temporary.write_text(text, encoding="utf-8")
    typer.echo(f"{path} is written: read it, put your own in, and then")
    typer.echo(f"  mcr run {path} --dry-run    # what would be done")
    typer.echo(f"  mcr run {path}              # do it")
    folder = path.with_suffix("")
    if recipe == "demo" and (folder / "data").is_dir() and not (folder / JOURNAL).exists():
        note(
            f"{folder} is there already, and nothing of a recipe: give it another folder, or write "
            f"it elsewhere, such as mcr init {recipe} -o first.toml"
        )
