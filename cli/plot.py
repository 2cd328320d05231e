"""`mcr plot KIND`: pictures of bridges and memories, one command a kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.boundary import guarded
from cli.options import Device, GalleryMemory, QueryMemory, TrustEncoder
from cli.output import note

if TYPE_CHECKING:
    from bridge.artefact import Bridge
    from bridge.pictures.canvas import Style
    from features.memory import Memory

Memories = Annotated[list[Path], typer.Argument(help="Memories, one or more.")]
BridgeOrNone = Annotated[
    Path | None,
    typer.Option(
        "--bridge", "-b", help="From `mcr train`. Unset: in the space that all memories are of."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="The picture: .svg, .pdf or .png. Unset: KIND.svg in this folder.",
    ),
]
ThemeName = Annotated[
    str, typer.Option("--theme", help="light, dark, or transparent, to be read on either.")
]
Width = Annotated[
    str, typer.Option(help="Of a paper of two columns: column (3.35 in) or page (6.9 in).")
]
Items = Annotated[
    int, typer.Option(min=1, help="Items of each memory at most; of more, as many are drawn.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of what is drawn at random.")]
Relevance = Annotated[
    str, typer.Option(help="What is right: labels, ids, or auto, labels where both have them.")
]


def scatter(
    memories: Memories,
    bridge: BridgeOrNone = None,
    method: Annotated[str, typer.Option(help="Of the plane: pca or umap.")] = "pca",
    items: Items = 2000,
    seed: Seed = 0,
    out: Out = None,
    theme: ThemeName = "light",
    width: Width = "page",
    trust_encoder: TrustEncoder = False,
    device: Device = "auto",
) -> None:
    """Items as points of a plane, before and after the bridge.

    One plane for all memories of a panel, by principal components or UMAP.
    """
    style, out = _begin(out, "scatter", theme, width)
    from bridge.pictures.scatter import scatter as make
    from bridge.pictures.scatter import scatter_figure

    data = make(
        _opened(memories), bridge=_loaded(bridge, device), method=method, items=items, seed=seed,
        trust_encoder=trust_encoder,
    )  # fmt: skip
    _end(scatter_figure(data, style), out, style)


def similarity(
    query: QueryMemory,
    gallery: GalleryMemory,
    bridge: BridgeOrNone = None,
    items: Annotated[
        int, typer.Option(min=2, help="Classes, or ids, at most; of more, as many are drawn.")
    ] = 40,
    relevance: Relevance = "auto",
    seed: Seed = 0,
    out: Out = None,
    theme: ThemeName = "light",
    width: Width = "page",
    trust_encoder: TrustEncoder = False,
    device: Device = "auto",
) -> None:
    """Matrices of cosines, before and after the bridge.

    One item of each memory for every class (or id) that both have, in the same order.
    """
    style, out = _begin(out, "similarity", theme, width)
    from bridge.pictures.similarity import similarity as make
    from bridge.pictures.similarity import similarity_figure

    left, right = _opened([query, gallery])
    data = make(
        left, right, bridge=_loaded(bridge, device), items=items, relevance=relevance, seed=seed,
        trust_encoder=trust_encoder,
    )  # fmt: skip
    _end(similarity_figure(data, style), out, style)


def histogram(
    query: QueryMemory,
    gallery: GalleryMemory,
    bridge: BridgeOrNone = None,
    items: Items = 2000,
    bins: Annotated[int, typer.Option(min=2, max=1000, help="Bins of the cosines.")] = 60,
    relevance: Relevance = "auto",
    seed: Seed = 0,
    out: Out = None,
    theme: ThemeName = "light",
    width: Width = "page",
    trust_encoder: TrustEncoder = False,
    device: Device = "auto",
) -> None:
    """Cosines of matches and of other pairs, before and after the bridge.

    Items match that have the same label (or id).
    """
    style, out = _begin(out, "histogram", theme, width)
    from bridge.pictures.similarity import histogram_figure, histograms

    left, right = _opened([query, gallery])
    data = histograms(
        left, right, bridge=_loaded(bridge, device), items=items, bins=bins, relevance=relevance,
        seed=seed, trust_encoder=trust_encoder,
    )  # fmt: skip
    _end(histogram_figure(data, style), out, style)


def gap(
    memories: Memories,
    bridge: BridgeOrNone = None,
    items: Items = 10_000,
    seed: Seed = 0,
    out: Out = None,
    theme: ThemeName = "light",
    width: Width = "page",
    trust_encoder: TrustEncoder = False,
    device: Device = "auto",
) -> None:
    """The modality gap of every two memories, before and after the bridge.

    The distance between the centroids of their embeddings. Before, only memories of one space
    have one.
    """
    style, out = _begin(out, "gap", theme, width)
    from bridge.pictures.gap import gap_figure, gaps

    data = gaps(
        _opened(memories), bridge=_loaded(bridge, device), items=items, seed=seed,
        trust_encoder=trust_encoder,
    )  # fmt: skip
    _end(gap_figure(data, style), out, style)


def training(
    bridges: Annotated[list[Path], typer.Argument(help="Folders of `mcr train`.")],
    out: Out = None,
    theme: ThemeName = "light",
    width: Width = "page",
) -> None:
    """Training curves, from a bridge's metrics.jsonl.

    The loss with its terms, and the scores on held-out hub items; of several bridges the loss
    and R@1.
    """
    style, out = _begin(out, "training", theme, width)
    from bridge.pictures.training import read_curves, training_figure

    curves = [one for folder in bridges for one in read_curves(folder)]
    _end(training_figure(curves, style), out, style)


def recall(
    results: Annotated[
        list[Path] | None, typer.Argument(help="Results of `mcr eval retrieval`.")
    ] = None,
    query: Annotated[
        Path | None, typer.Option("--query", "-q", help="Instead of results: memory of queries.")
    ] = None,
    gallery: Annotated[
        Path | None, typer.Option("--gallery", "-g", help="Memory that is searched.")
    ] = None,
    bridge: BridgeOrNone = None,
    relevance: Relevance = "auto",
    out: Out = None,
    theme: ThemeName = "light",
    width: Width = "page",
    trust_encoder: TrustEncoder = False,
    device: Device = "auto",
) -> None:
    """Recall at every k, in both directions.

    From results of `mcr eval retrieval`, several for a comparison, or of two memories.
    """
    from features.errors import UserError

    style, out = _begin(out, "recall", theme, width)
    if bool(results) == (query is not None) or (query is None) != (gallery is None):
        raise UserError("give results of `mcr eval retrieval`, or both --query and --gallery")
    from bridge.evaluation.results import read_result
    from bridge.evaluation.retrieval_result import retrieval_result
    from bridge.pictures.recall import recall_curves, recall_figure

    if query is not None and gallery is not None:
        made = _loaded(bridge, device)
        left, right = _opened([query, gallery])
        found = retrieval_result(
            left, right, bridge=made, relevance=relevance, resamples=0,
            trust_encoder=trust_encoder,
        )  # fmt: skip
        named = [(made.name if made is not None else left.space, found)]
    else:
        read = [(path, read_result(path)) for path in results or ()]
        names = [(one.bridge or {}).get("name", path.stem) for path, one in read]
        named = [
            (name if names.count(name) == 1 else path.stem, one)
            for name, (path, one) in zip(names, read, strict=True)
        ]
    _end(recall_figure(recall_curves(named), style), out, style)


def hits(
    query: QueryMemory,
    gallery: GalleryMemory,
    bridge: BridgeOrNone = None,
    ids: Annotated[
        list[str] | None, typer.Option("--id", help="A query of this id; any number.")
    ] = None,
    choose: Annotated[
        str, typer.Option(help="Without --id, queries: spread, random, best or worst.")
    ] = "spread",
    rows: Annotated[int, typer.Option(min=1, max=100, help="Queries.")] = 6,
    k: Annotated[int, typer.Option("--k", "-k", min=1, max=20, help="Hits of each.")] = 7,
    items: Annotated[
        int, typer.Option(min=1, help="Queries that best and worst are chosen from.")
    ] = 2000,
    relevance: Relevance = "auto",
    seed: Seed = 0,
    out: Out = None,
    theme: ThemeName = "light",
    width: Width = "page",
    trust_encoder: TrustEncoder = False,
    device: Device = "auto",
) -> None:
    """A contact sheet of queries with their hits.

    Pictures as thumbnails, sounds as spectrograms, point clouds as views, texts as words; which
    hits are right, where labels or ids say it.
    """
    style, out = _begin(out, "hits", theme, width)
    from bridge.pictures.answers import Searches, sheet_rows
    from bridge.pictures.sheet import sheet_figure

    left, right = _opened([query, gallery])
    searches = Searches(
        left, right, bridge=_loaded(bridge, device), relevance=relevance, items=items, seed=seed,
        trust_encoder=trust_encoder,
    )  # fmt: skip
    found = searches.named(ids, k) if ids else searches.chosen(choose, rows, k)
    if searches.unknown:
        note(f"which hits are right is not known: {searches.unknown}")
    _end(sheet_figure(sheet_rows(found), style, notes=found.notes), out, style)


def _begin(out: Path | None, kind: str, theme: str, width: str) -> tuple[Style, Path]:
    """The style and the file, checked before any work."""
    from bridge.pictures.canvas import WIDTHS, Style, check_picture
    from bridge.pictures.palette import theme_named
    from features.errors import UserError
    from features.extras import require_package

    require_package("matplotlib", "a picture")
    if width not in WIDTHS:
        raise UserError(f"there is no width '{width}': choose {' or '.join(WIDTHS)}")
    out = out or Path(f"{kind}.svg")
    check_picture(out)
    return Style(theme_named(theme), WIDTHS[width]), out


def _opened(paths: Sequence[Path]) -> list[Memory]:
    from features.errors import UserError
    from features.memory import Memory

    for path in paths:
        if path.is_dir():
            raise UserError(
                f"{path} is a folder but this picture is of memories: name a bridge's folder "
                "with --bridge"
            )
    return [Memory(path) for path in paths]


def _loaded(folder: Path | None, device: str) -> Bridge | None:
    from bridge.artefact import load

    return None if folder is None else load(folder, device=device)


def _end(figure: Any, out: Path, style: Style) -> None:
    from bridge.pictures.canvas import save

    typer.echo(save(figure, out, style))


KINDS: dict[str, Callable[..., None]] = {
    "scatter": scatter,
    "similarity": similarity,
    "gap": gap,
    "histogram": histogram,
    "training": training,
    "recall": recall,
    "hits": hits,
}
plots = typer.Typer(
    name="plot",
    help="Draw pictures of bridges and memories.",
    epilog="See docs/pictures.md, which has one of each kind.",
    no_args_is_help=True,
)
for name, kind in KINDS.items():
    plots.command(name)(guarded(kind, continues=False))
