"""Options that several commands share, and those that come from the training settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import Field, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from bridge.config import TrainSettings, setting_fields
from cli import choices
from features.errors import UsageError

ENGINES = ("local", "ray")

Device = Annotated[
    str,
    typer.Option(
        "--device",
        help="auto, cpu, cuda, cuda:1 or mps.",
        show_default=True,
        autocompletion=choices.device,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Keep a finished output of this same command. An unfinished one is always continued.",
    ),
]
Cache = Annotated[
    bool,
    typer.Option(
        "--cache/--no-cache",
        help="Keep large sets of pseudo pairs beside the leaf memory, in LEAF.h5.pairs.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Only say what would be done: sizes, disk, memory, time. Writes nothing."
    ),
]
TrustEncoder = Annotated[
    bool,
    typer.Option("--trust-encoder", help="Accept embeddings of another encoder; see `mcr info`."),
]
Engine = Annotated[
    str,
    typer.Option(
        help="Where the work is done: local, this machine's processes, or ray, a Ray cluster.",
        autocompletion=choices.among(ENGINES),
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="With --engine ray: a cluster, or `auto` for the one that this machine is in. "
        "Unset: RAY_ADDRESS, or this machine alone.",
    ),
]
ShardProcesses = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Ask memories on the disk, such as shards that are not merged, in so many processes. "
        "Unset: in this one.",
    ),
]
Hub = Annotated[
    list[Path],
    typer.Option("--hub", help="A memory of the shared modality; give one of each space."),
]
Leaf = Annotated[
    list[Path] | None,
    typer.Option(
        "--leaf",
        help="A memory of a modality that only one space knows; any number. NAME.h5 stands for its "
        "shards NAME.I-of-N.h5 as well.",
    ),
]
Align = Annotated[bool, typer.Option("--align", help="Use the hub ids that match, if not all do.")]
QueryMemory = Annotated[Path, typer.Option("--query", "-q", help="Memory of queries.")]
GalleryMemory = Annotated[Path, typer.Option("--gallery", "-g", help="Memory that is searched.")]
BridgeFolder = Annotated[Path, typer.Option("--bridge", "-b", help="A bridge from `mcr train`.")]
EncoderOverrides = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder",
        metavar="SPACE=SPEC",
        help="Load the encoder of SPACE from SPEC instead of where the bridge found it.",
    ),
]


def each(
    option: str, values: Sequence[str] | None, *, form: str = "NAME=VALUE"
) -> list[tuple[str, str]]:
    """`NAME=VALUE` options in their order. Raises UsageError for one without `=`."""
    parsed = []
    for value in values or ():
        name, separator, rest = value.partition("=")
        if not separator or not name:
            raise UsageError(f"{option} {value} should read {form}")
        parsed.append((name, rest))
    return parsed


def pairs(option: str, values: Sequence[str] | None, *, form: str = "NAME=VALUE") -> dict[str, str]:
    """`NAME=VALUE` options as a dict. Raises UsageError for one without `=`."""
    return dict(each(option, values, form=form))


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option for every training setting.

    The command takes them as `**settings`; those not given on the command line are None.
    """
    own = [
        parameter
        for parameter in inspect.signature(command, eval_str=True).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    return _shown_as(command, command, [*own, *_setting_parameters()])


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option for every field of the dataclasses that it takes.

    Such a dataclass is a group of options that several commands share; the command gets it filled.
    """
    own = inspect.signature(command, eval_str=True).parameters.values()
    parts = {one.name: _fields_of(one.annotation) for one in own if is_dataclass(one.annotation)}
    shown = [flat for one in own for flat in parts.get(one.name, [one])]

    def run(**values: Any) -> None:
        for one in own:
            if one.name in parts:
                # Programs, such as recipes, leave out what has a default.
                names = [part.name for part in parts[one.name] if part.name in values]
                values[one.name] = one.annotation(**{name: values.pop(name) for name in names})
        command(**values)

    return _shown_as(command, run, shown)


def _fields_of(group: Any) -> list[inspect.Parameter]:
    return list(inspect.signature(group, eval_str=True).parameters.values())


def _shown_as(
    command: Callable[..., None],
    runs: Callable[..., None],
    parameters: Sequence[inspect.Parameter],
) -> Callable[..., None]:
    """What `runs`, with the name and docstring of `command`, for typer with these parameters."""

    def run(**values: Any) -> None:
        runs(**values)

    named = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
    run.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def _setting_parameters() -> list[inspect.Parameter]:
    hints = get_type_hints(TrainSettings)
    return [
        inspect.Parameter(
            setting.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                _plain(hints[setting.name]) | None,
                typer.Option(
                    _flag(setting.name, hints[setting.name]),
                    help=_help(setting.metadata["help"], setting.default),
                    show_default=False,
                    autocompletion=_values(setting),
                ),
            ],
        )
        for setting in setting_fields()
    ]


def _values(setting: Field[Any]) -> choices.Completer | None:
    known = setting.metadata.get("choices")
    return choices.among(known) if known else None


def _flag(name: str, hint: Any) -> str:
    flag = name.replace("_", "-")
    return f"--{flag}/--no-{flag}" if hint is bool else f"--{flag}"


def _plain(hint: Any) -> Any:
    if get_origin(hint) is UnionType:
        return next(one for one in get_args(hint) if one is not type(None))
    return hint


def _help(text: str, default: object) -> str:
    return text if default is None else f"{text} [default: {default}]"
