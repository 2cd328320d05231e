"""docs/reference/cli.md: every command with its arguments and options, as typer knows them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from enum import EnumMeta
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from bridge.config import setting_fields
from cli.main import app
from docs.tools.links import slug
from docs.tools.tables import cell, table

INTRO = """# Commands

What `mcr COMMAND --help` says, of all commands. Options of [training settings](settings.md) are
listed once, there. Results go to standard output (as JSON with `--json`), progress and notes to
standard error. Exit codes: 0 done, 1 something to put right (one sentence says what), 2 wrong
usage, 3 done but some items failed (and are listed), 130 stopped.
"""
# What they are depends on the shell in which the page is made.
OF_THE_SHELL = {"install_completion", "show_completion", "help"}


def cli_page() -> str:
    """The whole page."""
    # Their class is click's or typer's own, by version: only what both have is used.
    commands = list(_commands(typer.main.get_command(app), "mcr"))
    summary = [[f"[`{name}`](#{slug(name)})", cell(_first(one.help))] for name, one in commands]
    return "\n".join([INTRO, table(["command", ""], summary), *(_part(*one) for one in commands)])


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    for word, one in getattr(command, "commands", {}).items():
        if one.hidden:
            continue
        # A group is a command as well if it does something by itself.
        if not hasattr(one, "commands") or getattr(one, "invoke_without_command", False):
            yield f"{name} {word}", one
        yield from _commands(one, f"{name} {word}")


def _part(name: str, command: Any) -> str:
    settings = {setting.name for setting in setting_fields()}
    if not settings <= {one.name for one in command.params}:
        settings = set()  # a command that trains has all of them; others have some of the names
    shown = [one for one in command.params if not getattr(one, "hidden", False)]
    shown = [one for one in shown if one.name not in OF_THE_SHELL]
    arguments = [one for one in shown if one.param_type_name == "argument"]
    own = [one for one in shown if one not in arguments and one.name not in settings]
    lines = [f"\n## {name}\n", _text(command.help), "", f"```text\n{_usage(name, arguments)}\n```"]
    if arguments:
        rows = [[f"`{_metavar(one)}`", cell(one.help)] for one in arguments]
        lines += ["", table(["argument", ""], rows)]
    if own:
        kinds = _kinds(command)
        rows = [
            [_flags(one), _values(one, kinds.get(one.name, str)), _default(one), cell(one.help)]
            for one in own
        ]
        lines += ["", table(["option", "value", "default", ""], rows)]
    if len(own) + len(arguments) < len(shown):
        lines += ["", "And one option for every [training setting](settings.md)."]
    return "\n".join(lines)


def _usage(name: str, arguments: list[Any]) -> str:
    shown = [_metavar(one) if one.required else f"[{_metavar(one)}]" for one in arguments]
    return " ".join([name, "[OPTIONS]", *shown])


def _metavar(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper()) + ("..." if argument.nargs == -1 else "")


def _flags(option: Any) -> str:
    return ", ".join(f"`{flag}`" for flag in (*option.opts, *option.secondary_opts))


def _values(option: Any, kind: Any) -> str:
    several = ", several times" if option.multiple else ""
    if option.metavar:
        return f"`{cell(option.metavar)}`{several}"
    if choices := _choices(kind):
        return ", ".join(f"`{one}`" for one in choices)
    if option.is_flag:
        return ""
    named = {"str": "text", "int": "whole number", "float": "number", "Path": "path"}
    name = str(kind.__name__)
    return named.get(name, name) + several


def _choices(kind: Any) -> list[str]:
    if get_origin(kind) is Literal:
        return [str(one) for one in get_args(kind)]
    members: list[Any] = list(kind) if isinstance(kind, EnumMeta) else []
    return [str(one.value) for one in members]


def _kinds(command: Any) -> dict[str, Any]:
    """The Python type of every parameter, of lists that of their items."""
    # Not from typer's own objects, which keep it in another place in every version.
    parameters = inspect.signature(command.callback, eval_str=True).parameters
    return {name: _innermost(one.annotation) for name, one in parameters.items()}


def _innermost(hint: Any) -> Any:
    if get_origin(hint) in (Annotated, list, Union, UnionType):
        return _innermost(next(one for one in get_args(hint) if one is not type(None)))
    return hint


def _default(option: Any) -> str:
    if option.required:
        return "required"
    nothing = option.default is None or option.default is False or option.default in ((), [])
    if nothing or callable(option.default):
        return ""
    if option.is_flag:
        return f"`{option.opts[0]}`"
    return f"`{cell(str(option.default))}`"


def _first(text: str | None) -> str:
    return (text or "").strip().split("\n")[0]


def _text(text: str | None) -> str:
    """A docstring's paragraphs, each on one line."""
    paragraphs = re.split(r"\n\s*\n", (text or "").replace("\b", "").strip())
    return "\n\n".join(cell(" ".join(one.split())) for one in paragraphs)
