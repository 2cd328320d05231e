"""Running a recipe: step after step, each begun and ended in the journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from bridge.recipe.deciding import Decision, decide
from bridge.recipe.journal import Entry, Journal, locked
from bridge.recipe.states import digest_parts, output_state
from bridge.recipe.step import DATA, Recipe, Step
from features.errors import UnknownNameError, UserError
from features.progress import SILENT, Progress


@dataclass(frozen=True)
class Outcome:
    """What became of a step: the decision, how long it took, and what failed in it."""

    decision: Decision
    seconds: float = 0.0
    failed: int = 0

    @property
    def skipped(self) -> bool:
        """Whether there was nothing to do."""
        return self.decision.action == "skip"


class Perform(Protocol):
    """Runs the command of a step."""

    def __call__(self, step: Step, *, overwrite: bool, resume: bool) -> int:
        """Returns how many items failed. overwrite, resume: as the commands' options."""


def run_recipe(
    recipe: Recipe,
    steps: Sequence[Step],
    perform: Perform,
    *,
    force: bool = False,
    tell: Callable[[Decision, int], None] = lambda _decision, _place: None,
) -> list[Outcome]:
    """Do what is to be done of `steps`, in their order.

    tell: called with every decision, and the step's place among them from 1.
    Raises UserError where a step cannot be done; what was done before stays.
    """
    outcomes = []
    with locked(recipe.folder):
        journal = Journal(recipe.folder, recipe.path)
        for place, step in enumerate(steps, start=1):
            decision = decide(step, recipe, journal, force=force)
            tell(decision, place)
            outcomes.append(_outcome(decision, journal, perform))
    return outcomes


def _outcome(decision: Decision, journal: Journal, perform: Perform) -> Outcome:
    step, known = decision.step, journal.get(decision.step.name)
    if decision.action == "skip":
        assert known is not None
        return Outcome(decision, failed=known.failed)
    assert decision.parts is not None
    continued = known if known is not None and decision.action == "continue" else None
    begun = Entry(
        digest_parts(decision.parts),
        decision.parts,
        before=continued.before if continued else output_state(step),
        seconds=continued.seconds if continued else 0.0,
    )
    if decision.action != "keep":
        journal[step.name] = begun
    started = time.monotonic()
    try:
        failed = _perform(decision, perform)
    except BaseException:
        if decision.action != "keep":
            spent = begun.seconds + time.monotonic() - started
            journal[step.name] = replace(begun, seconds=round(spent, 3))
        raise
    seconds = time.monotonic() - started
    state = output_state(step)
    if state is None:
        raise UserError(f"{step.name} ended without {step.made}: run the recipe again")
    total = round(begun.seconds + seconds, 3)
    journal[step.name] = replace(begun, state=state, seconds=total, failed=failed)
    return Outcome(decision, seconds, failed)


def _perform(decision: Decision, perform: Perform) -> int:
    step, keep = decision.step, decision.action == "keep"
    try:
        # What was begun with the same settings is continued also where it may be replaced; the
        # made-up numbers are continued only where they may not.
        replaced = ("again",) if step.command == DATA else ("again", "continue")
        return perform(step, overwrite=decision.action in replaced, resume=keep)
    except UnknownNameError:
        raise
    except UserError as error:
        if keep:
            raise UserError(
                f"{step.name}: {step.made} is there but is not what this recipe makes ({error}): "
                "move it away, give another folder, or pass --force to replace it"
            ) from error
        raise UserError(f"{step.name}: {error}", details=error.details) from error


def make_numbers(step: Step, *, overwrite: bool, progress: Progress = SILENT) -> None:
    """The made-up data of the demo, in the step's folder."""
    from bridge.recipe.states import NUMBER_TABLES
    from features.keypad_files import write_keypad_numbers

    assert step.command == DATA
    if overwrite:
        for name in NUMBER_TABLES:
            (step.out / name).unlink(missing_ok=True)
    write_keypad_numbers(step.out, seed=step.options["seed"], progress=progress)
