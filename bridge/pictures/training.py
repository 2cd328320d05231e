"""Training curves: what `metrics.jsonl` of a bridge's folder has of every epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.pictures.canvas import DASHES, EndLabel, Style, label_ends, line_panels, styled
from bridge.runs.layout import METRICS_FILE
from bridge.runs.log import read_log
from features.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOSS, _HELD_OUT = "loss", "held_out_"
_BESIDE = ("epoch", "seconds")
_LOG = 20  # times: more between the least and the greatest is drawn on a logarithmic scale


@dataclass(frozen=True)
class Curves:
    """What was measured at the end of each epoch, by name. losses: the loss and its terms."""

    name: str
    epochs: Sequence[int]
    losses: Mapping[str, Sequence[float]]
    held_out: Mapping[str, Sequence[float]]


def read_curves(folder: Path) -> list[Curves]:
    """The curves of a training, or of each part of a mixture or ensemble whose lines name it.

    Raises UserError if there are none: closed forms and mixtures write none, nor does a folder
    that is no bridge have them; or if the file is damaged.
    """
    path = folder / METRICS_FILE
    if not path.is_file():
        raise UserError(
            f"{folder} has no {METRICS_FILE}, which only projectors trained by themselves write, "
            "not closed forms, mixtures or imported bridges: give the folder of a `mcr train` "
            "with --preset published or --objective"
        )
    parts: dict[str, list[dict[str, float]]] = {}
    for number, entry in enumerate(read_log(path), start=1):
        try:
            part = str(entry.pop("part", ""))
            entry["epoch"] = int(entry["epoch"])
            parts.setdefault(part, []).append({name: float(v) for name, v in entry.items()})
        except (ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
            raise UserError(
                f"line {number} of {path} is damaged ({error}): copy the bridge again"
            ) from error
    if not parts:
        raise UserError(f"{path} has no epochs: train the bridge first")
    name = folder.resolve().name
    return [_curves(f"{name}, {part}" if part else name, one) for part, one in parts.items()]


def _curves(name: str, entries: Sequence[Mapping[str, float]]) -> Curves:
    known = [one for one in entries[-1] if one not in _BESIDE]
    columns = {one: [entry.get(one, math.nan) for entry in entries] for one in known}
    return Curves(
        name,
        [int(entry["epoch"]) for entry in entries],
        {one: column for one, column in columns.items() if not one.startswith(_HELD_OUT)},
        {one: column for one, column in columns.items() if one.startswith(_HELD_OUT)},
    )


def training_figure(runs: Sequence[Curves], style: Style) -> Figure:
    """Losses on the left, held-out scores on the right, if hub items were held out.

    Of one run all terms; of several the loss and the held-out R@1, each line named by its run.
    """
    with styled(style):
        parts = [[(run, run.losses) for run in runs], [(run, run.held_out) for run in runs]]
        parts = [part for part in parts if any(values for _, values in part)]
        figure, axes = line_panels(style, len(parts), 2.3)
        titles = ("loss" if len(runs) > 1 else "loss and its terms", "held-out hub items")
        for axis, title, part in zip(axes, titles, parts, strict=False):
            _draw(axis, part, style)
            axis.set_title(title, loc="left")
            axis.set_xlabel("epoch")
    return figure


def _draw(
    axis: Axes, part: Sequence[tuple[Curves, Mapping[str, Sequence[float]]]], style: Style
) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    held_out = any(name.startswith(_HELD_OUT) for _, values in part for name in values)
    lines = [
        (run.name if len(part) > 1 else name, name == _LOSS, run.epochs, column)
        for run, values in part
        for name, column in values.items()
        if len(part) == 1 or name in (_LOSS, f"{_HELD_OUT}r1")
    ]
    lines.sort(key=lambda line: not line[1])  # the loss first
    known = [y for *_, column in lines for y in column if math.isfinite(y)]
    if not held_out and min(known) > 0 and max(known) > _LOG * min(known):
        axis.set_yscale("log")
        plain = FuncFormatter(lambda value, _: f"{value:g}")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(plain)
        axis.yaxis.set_minor_formatter(NullFormatter())
    labels = []
    for i, (name, main, epochs, column) in enumerate(lines):
        strong = main or len(part) > 1
        colour = style.theme.ink if strong else style.theme.muted
        mark = "o" if len(epochs) == 1 else None
        width, dash = 1.8 if main else 1.2, DASHES[i % len(DASHES)]
        axis.plot(epochs, column, color=colour, linewidth=width, linestyle=dash, marker=mark)
        value = f"{column[-1]:.3g}"
        labels.append(EndLabel(column[-1], _told(name), colour, dash, value))
    if held_out:
        axis.set_ylim(0, 1)
    axis.margins(x=0)
    label_ends(axis, labels, style)


def _told(name: str) -> str:
    name = name.removeprefix(_HELD_OUT)
    return {"r1": "R@1", "mrr": "MRR"}.get(name, name.replace("_", " "))
