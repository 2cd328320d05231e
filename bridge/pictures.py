"""Pictures of a bridge at work: contact sheets of queries with their hits, similarities.

One colour stands for a modality everywhere.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from features.decode import read_audio, read_image, read_points
from features.errors import UserError
from features.files import replacing

if TYPE_CHECKING:
    from jaxtyping import Float

    from features.space import Modality

COLOURS = {"text": "#4c72b0", "image": "#dd8452", "audio": "#55a868", "points": "#8172b3"}
QUERY, RIGHT, WRONG = "#444444", "#2a8a43", "#c44e52"
SPECTROGRAM_RATE = 8000  # hertz
WORDS_WIDTH = 16  # characters a line of a text tile


@dataclass(frozen=True)
class Tile:
    """One item on a contact sheet.

    value: a path, or the sentence itself for text. right: whether it answers the query, None
    for the query.
    """

    modality: Modality
    value: str | Path
    caption: str
    right: bool | None = None


def contact_sheet(rows: Sequence[tuple[Tile, Sequence[Tile]]], out: Path, *, title: str) -> None:
    """Draw each query with its hits, best first; frames tell right from wrong."""
    plt = _pyplot()
    columns = 1 + max(len(hits) for _, hits in rows)
    figure, axes = plt.subplots(
        len(rows), columns, figsize=(1.55 * columns, 1.25 * len(rows) + 0.6), squeeze=False
    )
    for line, (query, hits) in zip(axes, rows, strict=True):
        for axis, tile in zip(line, [query, *hits], strict=False):
            _draw(axis, tile)
        for axis in line[1 + len(hits) :]:
            axis.set_axis_off()
    figure.suptitle(title, fontsize=11)
    legend = "left: the query; right: hits, best first; green: right, red: wrong"
    figure.text(0.5, 0.005, legend, ha="center", fontsize=8, color="#555555")
    figure.tight_layout(rect=(0, 0.025, 1, 0.98))
    _save(figure, out)


def similarity_matrices(
    matrices: Sequence[tuple[str, Float[NDArray[Any], "n n"]]],
    names: Sequence[str],
    out: Path,
    *,
    axes_named: tuple[str, str],
) -> None:
    """Draw square matrices of cosines side by side; row i and column i belong together."""
    plt = _pyplot()
    figure, axes = plt.subplots(1, len(matrices), figsize=(4.6 * len(matrices), 4.4), squeeze=False)
    for axis, (title, matrix) in zip(axes[0], matrices, strict=True):
        drawn = axis.imshow(matrix, cmap="viridis")
        axis.set_title(title, fontsize=10)
        ticks = range(0, len(names), max(1, len(names) // 10))
        axis.set_xticks(ticks, [names[i] for i in ticks], rotation=90, fontsize=7)
        axis.set_yticks(ticks, [names[i] for i in ticks], fontsize=7)
        axis.set_ylabel(axes_named[0], color=COLOURS.get(axes_named[0]), fontsize=9)
        axis.set_xlabel(axes_named[1], color=COLOURS.get(axes_named[1]), fontsize=9)
        figure.colorbar(drawn, ax=axis, shrink=0.8, label="cosine")
    figure.tight_layout()
    _save(figure, out)


def _draw(axis: Any, tile: Tile) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    path = Path(tile.value)
    if tile.modality == "image":
        axis.imshow(read_image(path), cmap="gray")
    elif tile.modality == "audio":
        samples = read_audio(path, SPECTROGRAM_RATE)
        axis.specgram(samples, NFFT=256, Fs=SPECTROGRAM_RATE, noverlap=192, cmap="magma")
        axis.set_aspect("auto")
    elif tile.modality == "points":
        xyz = read_points(path, min_points=1)
        axis.scatter(xyz[:, 0], xyz[:, 1], s=1.5, color=COLOURS["points"])
        axis.set_aspect("equal", adjustable="datalim")
    else:
        words = textwrap.fill(str(tile.value), WORDS_WIDTH)
        axis.text(0.5, 0.5, words, ha="center", va="center", fontsize=8).set_in_layout(False)
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1)
    axis.set_title(tile.caption, fontsize=8, pad=2)
    colour = QUERY if tile.right is None else RIGHT if tile.right else WRONG
    for side in axis.spines.values():
        side.set_edgecolor(colour)
        side.set_linewidth(2.0)


def _pyplot() -> Any:
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise UserError(
            'pictures need matplotlib, which is not installed: pip install "mcr-bridge[demo]"'
        ) from error
    mpl.use("agg")
    from matplotlib import pyplot as plt

    return plt


def _save(figure: Any, out: Path) -> None:
    with replacing(out) as temporary:
        figure.savefig(temporary, format=out.suffix[1:], dpi=130)
    _pyplot().close(figure)
