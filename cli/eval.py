"""`mcr eval`: retrieval between two memories through a bridge."""

from __future__ import annotations

from dataclasses import asdict

import typer

from cli.options import BridgeFolder, Device, GalleryMemory, Json, QueryMemory, TrustEncoder
from cli.output import note, print_json, print_table


def evaluate(
    bridge: BridgeFolder,
    query: QueryMemory,
    gallery: GalleryMemory,
    trust_encoder: TrustEncoder = False,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Measure retrieval between two memories, in both directions.

    Items with the same label are right for each other where both memories have labels (see
    `mcr extract --label-column`), otherwise items with the same id.
    """
    from bridge.artefact import load
    from bridge.evaluation.retrieval import evaluate_retrieval
    from features.memory import Memory

    result = evaluate_retrieval(
        load(bridge, device=device), Memory(query), Memory(gallery), trust_encoder=trust_encoder
    )
    if json:
        print_json({"bridge": str(bridge), **asdict(result)})
        return
    directions = {
        f"{result.query} -> {result.gallery}": result.forward,
        f"{result.gallery} -> {result.query}": result.backward,
    }
    print_table(
        ["", "R@1", "R@5", "R@10", "median rank", "mAP", "queries"],
        [
            [
                name,
                *(f"{figures.recall[k]:.3f}" for k in (1, 5, 10)),
                f"{figures.median_rank:.0f}",
                f"{figures.mean_average_precision:.3f}",
                f"{figures.queries:,}",
            ]
            for name, figures in directions.items()
        ],
    )
    typer.echo(f"right by {result.relevance}; R@1 of chance {result.chance:.4f}")
    excluded = result.forward.excluded + result.backward.excluded
    if excluded:
        note(f"{excluded} queries have no right item in the other memory and are left out")
