"""What recipes may say, read off the commands: their options, types, limits and choices."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin

from typer.models import ArgumentInfo, OptionInfo

from bridge.recipe.vocabulary import Key, Vocabulary
from cli.choices import CLOSED
from features.errors import UserError

Command = Callable[..., None]

_COMMANDS = {  # as recipes call them -> where they are
    "extract": "cli.extract:extract",
    "import": "cli.import_:import_memory",
    "train": "cli.train:train",
    "project": "cli.project:project",
    "index": "cli.index:index",
    "report": "cli.report:report",
}
_GROUPS = {"eval": "cli.evaluations:PROTOCOLS", "plot": "cli.plot:KINDS"}


@cache
def recipe_commands() -> dict[str, Command]:
    """The commands that a recipe's steps run, by name, such as `train` and `eval retrieval`."""
    found = {name: _at(home) for name, home in _COMMANDS.items()}
    groups = {name: _at(home) or {} for name, home in _GROUPS.items()}
    members = {
        f"{group} {name}": command
        for group, commands in groups.items()
        for name, command in commands.items()
    }
    return {**{name: command for name, command in found.items() if command}, **members}


def _at(home: str) -> Any:
    """What stands at MODULE:ATTRIBUTE, None if there is no such module."""
    module, _, attribute = home.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return None


@cache
def vocabulary() -> Vocabulary:
    """The keys of every command of recipes."""
    return {name: keys_of(command) for name, command in recipe_commands().items()}


def keys_of(command: Command) -> dict[str, Key]:
    """The options and arguments of a command as keys."""
    signature = inspect.signature(command, eval_str=True)
    return {name: _key(parameter) for name, parameter in signature.parameters.items()}


def steps_of(recipe: Path) -> list[str]:
    """Names of the stages and steps of a recipe, as far as it can be read: for the shell."""
    from bridge.recipe.reading import read_recipe

    try:
        with working_in(recipe.absolute().parent):
            steps = read_recipe(Path(recipe.name), vocabulary()).steps
    except (UserError, OSError):
        return []
    return list(dict.fromkeys(name for step in steps for name in (step.stage, step.name)))


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Work in the folder of a recipe: its steps run as commands that are typed there."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def told_command(name: str, options: Mapping[str, Any], keys: Mapping[str, Key]) -> list[str]:
    """The words of the command line that does the same; options at their defaults are left out."""
    words = ["mcr", *name.split(" ")]
    for key in keys.values():
        value = options.get(key.name, key.default)
        if value is None or value == key.default:
            continue
        for one in value if key.many else [value]:
            if isinstance(one, bool):
                words.append(key.option if one else f"--no-{key.option.removeprefix('--')}")
            else:
                words += [key.option, str(one)] if key.option else [str(one)]
    return words


def _key(parameter: inspect.Parameter) -> Key:
    hint, info = parameter.annotation, None
    if get_origin(hint) is Annotated:
        hint, *extra = get_args(hint)
        info = next((one for one in extra if isinstance(one, OptionInfo | ArgumentInfo)), None)
    if info is None:
        raise UserError(f"the option {parameter.name} says nothing about itself: annotate it")
    kind, many = _kind(hint)
    required = parameter.default in (inspect.Parameter.empty, ...)
    is_option = isinstance(info, OptionInfo)
    declared = [one for one in getattr(info, "param_decls", None) or () if one.startswith("--")]
    option = (declared or [f"--{parameter.name.replace('_', '-')}"])[0].partition("/")[0]
    return Key(
        name=parameter.name,
        option=option if is_option else "",
        kind=kind,
        many=many,
        form=info.metavar if info.metavar and "=" in info.metavar else None,
        required=required,
        low=info.min,
        high=info.max,
        choices=tuple(CLOSED[info.autocompletion]()) if info.autocompletion in CLOSED else (),
        default=None if required else parameter.default,
    )


def _kind(hint: Any) -> tuple[type, bool]:
    """The type of one value, and whether there may be several."""
    if get_origin(hint) is UnionType:
        (hint,) = (one for one in get_args(hint) if one is not NoneType)
    if get_origin(hint) is list:
        return get_args(hint)[0], True
    if hint not in (str, int, float, bool, Path):
        raise TypeError(hint)
    return hint, False
