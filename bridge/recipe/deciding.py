"""Whether a step has anything to do, and why, told from the journal and what is there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bridge.recipe.journal import Entry, Journal
from bridge.recipe.states import Parts, digest_parts, key_parts, output_state
from bridge.recipe.step import Recipe, Step
from features.errors import UnknownNameError, UserError
from features.suggest import did_you_mean

# skip; make what is not there; go on with what was begun; make it again; or keep what is there
# if the command finds that it is the result.
Action = Literal["skip", "make", "continue", "again", "keep"]
_CAN_KEEP = ("extract", "train")
_LONGEST = 60  # characters of a value


@dataclass(frozen=True)
class Decision:
    """What to do about a step and why. parts: what it would be made from, None if not known yet."""

    step: Step
    action: Action
    why: str
    parts: Parts | None = None


def decide(
    step: Step,
    recipe: Recipe,
    journal: Journal,
    *,
    force: bool = False,
    pending: Collection[str] = (),
) -> Decision:
    """What to do about a step.

    force: do it even if nothing has changed. pending: steps before it that are yet to run, of a
    dry run. Raises UserError if an input is missing, or an output is there that is not the
    recipe's.
    """
    waiting = [name for names in step.needs.values() for name in names if name in pending]
    if waiting:
        return Decision(step, "make", f"after {waiting[0]}")
    steps = {one.name: one for one in recipe.steps}
    for name in dict.fromkeys(name for names in step.needs.values() for name in names):
        if output_state(steps[name]) is None:
            raise UserError(
                f"{step.name} needs {steps[name].made}, which {name} has not made yet: run the "
                "recipe without --from and --only, or that step first"
            )
    entry, now, parts = journal.get(step.name), output_state(step), key_parts(step, steps)
    return Decision(step, *_action(step, entry, now, parts, force=force), parts)


def _action(
    step: Step, entry: Entry | None, now: str | None, parts: Parts, *, force: bool
) -> tuple[Action, str]:
    if force:
        return "again", "--force"
    if entry is None:
        if now is None:
            return "make", "not made yet"
        if step.command in _CAN_KEEP:
            return "keep", f"{step.made} is there already"
        raise UserError(
            f"{step.name}: {step.made} is there but was not made by this recipe: move it away, "
            "give another folder, or pass --force to replace it"
        )
    if entry.key != digest_parts(parts):
        return "again", difference(entry.parts, parts)
    if not entry.done:
        if now is not None and now != entry.before and step.command in _CAN_KEEP:
            return "keep", "it was finished when the last run was stopped"
        return "continue", "it was begun and stopped"
    if now is None:
        return "again", f"{step.made} is not there or cannot be read"
    if now != entry.state:
        return "again", f"{step.made} was changed by something else"
    return "skip", "nothing has changed"


def difference(then: Parts, now: Parts) -> str:
    """The first thing that differs, and how many more do."""
    told = []
    for part in ("options", "inputs", "code"):
        old, new = then.get(part, {}), now.get(part, {})
        for name in dict.fromkeys([*new, *old]):
            if old.get(name) != new.get(name):
                told.append(_one(part, name, old, new))
    more = f" and {len(told) - 1} more" if len(told) > 1 else ""
    return f"{told[0]}{more}" if told else "it was made otherwise"


def _one(part: str, name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    if part == "inputs":
        if name not in old:
            return f"{name} is new"
        return f"{name} has changed" if name in new else f"{name} is no longer used"
    return f"{name} is {_short(new.get(name))}, was {_short(old.get(name))}"


def _short(value: Any) -> str:
    told = "unset" if value is None else str(value)
    return told if len(told) <= _LONGEST else f"{told[:_LONGEST]}…"


def selected(
    recipe: Recipe, *, start: str | None = None, only: Sequence[str] | None = None
) -> list[Step]:
    """The steps from `start` on, and of these `only` those named, by name or stage.

    Raises UnknownNameError for a name that no step has.
    """
    steps = list(recipe.steps)
    if start is not None:
        first = _named(recipe, start, "--from")[0]
        steps = steps[steps.index(first) :]
    if only:
        wanted = [step for name in only for step in _named(recipe, name, "--only")]
        steps = [step for step in steps if step in wanted]
    return steps


def _named(recipe: Recipe, name: str, option: str) -> list[Step]:
    found = [step for step in recipe.steps if name in (step.name, step.stage)]
    if not found:
        known = list(dict.fromkeys(n for s in recipe.steps for n in (s.stage, s.name)))
        raise UnknownNameError(
            f"{option} {name} is no step of {recipe.path}{did_you_mean(name, known)}: its steps "
            f"are {', '.join(step.name for step in recipe.steps)}"
        )
    return found
