"""`mcr run`: a recipe, of which only what has changed is done again."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import choices
from cli.boundary import SOME_FAILED
from cli.options import DryRun, Json
from cli.output import note, print_json, print_table
from features.errors import UserError

if TYPE_CHECKING:
    from bridge.recipe.deciding import Decision
    from bridge.recipe.running import Outcome
    from bridge.recipe.step import Recipe, Step

_TOLD = {
    "make": "make",
    "continue": "continue",
    "again": "make again",
    "keep": "check",
    "skip": "skip",
}
_DONE = {"skip": "skipped", "keep": "kept"}


def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe, NAME.toml; see `mcr init`.")],
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STEP",
            help="Begin with this step; leave those before it as they are.",
            autocompletion=choices.step,
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STEP",
            help="Only this step, such as train or extract/images; any number.",
            autocompletion=choices.step,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Do the chosen steps again even if nothing has changed.")
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Do the whole journey of a recipe.

    A step is skipped if its options, its inputs and what it made have not changed. Can be stopped
    at any moment: the same command continues. Paths in a recipe are relative to its file.
    """
    from bridge.recipe.deciding import selected
    from bridge.recipe.reading import read_recipe
    from bridge.recipe.running import run_recipe
    from cli.vocabulary import vocabulary, working_in
    from features.files import require_file

    if not recipe.exists() and recipe.with_name(f"{recipe.name}.toml").exists():
        raise UserError(f"recipe {recipe} does not exist: did you mean {recipe}.toml?")
    require_file(recipe, "recipe")
    with working_in(recipe.absolute().parent), _told_where(recipe.parent):
        read = read_recipe(Path(recipe.name), vocabulary())
        steps = selected(read, start=start, only=only)
        if dry_run:
            from cli.dry_run import show_plan

            show_plan(read, steps, force=force, json=json)
            return
        outcomes = run_recipe(
            read, steps, _perform, force=force, tell=lambda *told: _tell(*told, of=len(steps))
        )
        _summarise(recipe, read, outcomes, json=json)


@contextmanager
def _told_where(folder: Path) -> Iterator[None]:
    """Where an error comes from the folder of the recipe, say so: its paths are relative to it."""
    try:
        yield
    except (UserError, OSError):
        if folder != Path():
            note(f"paths in the error are relative to {folder}")
        raise


def _perform(step: Step, *, overwrite: bool, resume: bool) -> int:
    """Run a step's command, whose answer goes to stderr. Returns how many items failed."""
    from bridge.recipe.running import make_numbers
    from bridge.recipe.step import DATA
    from cli.progress import BarProgress
    from cli.vocabulary import recipe_commands, vocabulary

    if step.command == DATA:
        make_numbers(step, overwrite=overwrite, progress=BarProgress())
        return 0
    options: dict[str, Any] = dict(step.options)
    modes = {"overwrite": overwrite, "resume": resume}
    options |= {name: on for name, on in modes.items() if name in vocabulary()[step.command]}
    try:
        with redirect_stdout(sys.stderr):
            recipe_commands()[step.command](**options)
    except typer.Exit as end:
        if end.exit_code != SOME_FAILED:
            raise
        failures = step.out.with_suffix(".failures.jsonl")
        return len(failures.read_text("utf-8").splitlines())
    return 0


def _tell(decision: Decision, place: int, *, of: int) -> None:
    note(f"[{place}/{of}] {decision.step.name}: {_TOLD[decision.action]}, {decision.why}")


def _summarise(path: Path, recipe: Recipe, outcomes: Sequence[Outcome], *, json: bool) -> None:
    """What was made and what was skipped, and why; exit code 3 if items failed in any step."""
    if json:
        print_json({"recipe": str(path), "folder": str(path.parent / recipe.folder),
                    "steps": [_as_json(one) for one in outcomes]})  # fmt: skip
    else:
        print_table(
            ["step", "", "seconds", "why", "output"],
            [
                [
                    one.decision.step.name,
                    _DONE.get(one.decision.action, "made"),
                    "" if one.skipped else f"{one.seconds:.1f}",
                    one.decision.why,
                    _output(path, one.decision.step),
                ]
                for one in outcomes
            ],
        )
    failed = [one for one in outcomes if one.failed]
    for one in failed:
        listed = path.parent / one.decision.step.out.with_suffix(".failures.jsonl")
        note(f"{one.decision.step.name}: {one.failed} items failed and are listed in {listed}")
    if failed:
        raise typer.Exit(SOME_FAILED)


def _output(path: Path, step: Step) -> str:
    from features.search.backends import is_address

    return step.made if is_address(step.made) else str(path.parent / step.out)


def _as_json(outcome: Outcome) -> dict[str, Any]:
    decision = outcome.decision
    return {
        "step": decision.step.name,
        "action": decision.action,
        "why": decision.why,
        "seconds": round(outcome.seconds, 3),
        "failed": outcome.failed,
        "out": decision.step.made,
    }
