"""`mcr plot KIND`: pictures of bridges and memories, one command a kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from cli.boundary import guarded
from cli.options import Device, GalleryMemory, Overwrite, QueryMemory, TrustEncoder
from cli.output import note
from cli.plot_options import (
    BridgeOrNone,
    Items,
    Memories,
    Out,
    Relevance,
    Seed,
    ThemeName,
    Width,
    begin,
    end,
    loaded,
    opened,
)


def scatter(
    memories: Memories,
    bridge: BridgeOrNone = None,
    method: Annotated[str, typer.Option(help="Of the plane: pca or umap.")] = "pca",
    items: Items = 2000,
    seed: Seed = 0,
    out: Out = None,
    theme: ThemeName = "light",
    width: Width = "page",
    overwrite: Overwrite = False,
    trust_encoder: TrustEncoder = False,
    device: Device = "auto",
) -> None:
    """Items as points of a plane, before and after the bridge.

    One plane for all memories of a panel, by principal components or UMAP.
    """
    style, out = begin(out, "scatter", theme, width, overwrite=overwrite)
    from bridge.pictures.scatter import scatter as make
    from bridge.pictures.scatter import scatter_figure

    data = make(
        opened(memories), bridge=loaded(bridge, device), method=method, items=items, seed=seed,
        trust_encoder=trust_encoder,
    )  # fmt: skip
    end(scatter_figure(data, style), out, style)


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
    overwrite: Overwrite = False,
    trust_encoder: TrustEncoder = False,
    device: Device = "auto",
) -> None:
    """Matrices of cosines, before and after the bridge.

    One item of each memory for every class (or id) that both have, in the same order.
    """
    style, out = begin(out, "similarity", theme, width, overwrite=overwrite)
    from bridge.pictures.similarity import similarity as make
    from bridge.pictures.similarity import similarity_figure

    left, right = opened([query, gallery])
    data = make(
        left, right, bridge=loaded(bridge, device), items=items, relevance=relevance, seed=seed,
        trust_encoder=trust_encoder,
    )  # fmt: skip
    end(similarity_figure(data, style), out, style)


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
    overwrite: Overwrite = False,
    trust_encoder: TrustEncoder = False,
    device: Device = "auto",
) -> None:
    """Cosines of matches and of other pairs, before and after the bridge.

    Items match that have the same label (or id).
    """
    style, out = begin(out, "histogram", theme, width, overwrite=overwrite)
    from bridge.pictures.similarity import histogram_figure, histograms

    left, right = opened([query, gallery])
    data = histograms(
        left, right, bridge=loaded(bridge, device), items=items, bins=bins, relevance=relevance,
        seed=seed, trust_encoder=trust_encoder,
    )  # fmt: skip
    end(histogram_figure(data, style), out, style)


def gap(
    memories: Memories,
    bridge: BridgeOrNone = None,
    items: Items = 10_000,
    seed: Seed = 0,
    out: Out = None,
    theme: ThemeName = "light",
    width: Width = "page",
    overwrite: Overwrite = False,
    trust_encoder: TrustEncoder = False,
    device: Device = "auto",
) -> None:
    """The modality gap of every two memories, before and after the bridge.

    The distance between the centroids of their embeddings. Before, only memories of one space
    have one.
    """
    style, out = begin(out, "gap", theme, width, overwrite=overwrite)
    from bridge.pictures.gap import gap_figure, gaps

    data = gaps(
        opened(memories), bridge=loaded(bridge, device), items=items, seed=seed,
        trust_encoder=trust_encoder,
    )  # fmt: skip
    end(gap_figure(data, style), out, style)


def training(
    bridges: Annotated[list[Path], typer.Argument(help="Folders of `mcr train`.")],
    out: Out = None,
    theme: ThemeName = "light",
    width: Width = "page",
    overwrite: Overwrite = False,
) -> None:
    """Training curves, from a bridge's metrics.jsonl.

    The loss with its terms, and the scores on held-out hub items; of several bridges the loss
    and R@1.
    """
    style, out = begin(out, "training", theme, width, overwrite=overwrite)
    from bridge.pictures.training import read_curves, training_figure

    curves = [one for folder in bridges for one in read_curves(folder)]
    end(training_figure(curves, style), out, style)


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
    overwrite: Overwrite = False,
    trust_encoder: TrustEncoder = False,
    device: Device = "auto",
) -> None:
    """Recall at every k, in both directions.

    From results of `mcr eval retrieval`, several for a comparison, or of two memories.
    """
    from features.errors import UserError

    style, out = begin(out, "recall", theme, width, overwrite=overwrite)
    if bool(results) == (query is not None) or (query is None) != (gallery is None):
        raise UserError("give results of `mcr eval retrieval`, or both --query and --gallery")
    from bridge.evaluation.results import read_result
    from bridge.evaluation.retrieval_result import retrieval_result
    from bridge.pictures.recall import recall_curves, recall_figure

    if query is not None and gallery is not None:
        made = loaded(bridge, device)
        left, right = opened([query, gallery])
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
    end(recall_figure(recall_curves(named), style), out, style)


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
    overwrite: Overwrite = False,
    trust_encoder: TrustEncoder = False,
    device: Device = "auto",
) -> None:
    """A contact sheet of queries with their hits.

    Pictures as thumbnails, sounds as spectrograms, point clouds as views, texts as words; which
    hits are right, where labels or ids say it.
    """
    style, out = begin(out, "hits", theme, width, overwrite=overwrite)
    from bridge.pictures.answers import Searches, sheet_rows
    from bridge.pictures.sheet import sheet_figure

    left, right = opened([query, gallery])
    searches = Searches(
        left, right, bridge=loaded(bridge, device), relevance=relevance, items=items, seed=seed,
        trust_encoder=trust_encoder,
    )  # fmt: skip
    found = searches.named(ids, k) if ids else searches.chosen(choose, rows, k)
    if searches.unknown:
        note(f"which hits are right is not known: {searches.unknown}")
    end(sheet_figure(sheet_rows(found), style, notes=found.notes), out, style)


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
