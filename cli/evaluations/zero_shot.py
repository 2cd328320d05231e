"""`mcr eval zero-shot`: classification by the prompts of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.evaluations.answer import answer, write
from cli.evaluations.inputs import load_bridge, open_memory, read_labels, work_folder
from cli.evaluations.options import (
    AnnotationFile,
    BridgeOrNone,
    Dataset,
    Out,
    Resamples,
    Seed,
)
from cli.options import Device, EncoderOverrides, Json, TrustEncoder, pairs


def zero_shot(
    items: Annotated[
        str,
        typer.Option("--items", "-i", help="Memory of what is classified, or its files."),
    ],
    bridge: BridgeOrNone = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            help="Table of label and name, what prompts say. Unset: the labels themselves."
        ),
    ] = None,
    templates: Annotated[
        str | None,
        typer.Option(
            help="A list that comes along (image, audio, points or text), or a file with one "
            "template a line. Unset: that of the items' modality."
        ),
    ] = None,
    first: Annotated[
        list[int] | None,
        typer.Option(help="Use the first so many templates; any number. [default: 1, 5 and 10]"),
    ] = None,
    modality: Annotated[
        str | None, typer.Option("--as", help="What the files are. Unset: as their suffixes say.")
    ] = None,
    via: Annotated[
        str | None,
        typer.Option(help="Embed prompts in this space. Unset: in all that know text, averaged."),
    ] = None,
    dataset: Dataset = None,
    annotations: AnnotationFile = None,
    encoder: EncoderOverrides = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    out: Out = None,
    trust_encoder: TrustEncoder = False,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Classify items by the prompts of classes.

    A class is the mean of its prompts, such as "a photo of a dog." Prints top-1, top-3 and top-5,
    and the mean accuracy over classes, with the first 1, 5 and 10 templates: how much these differ
    is how much a space depends on its prompts. Classes without items are left out of the mean.
    """
    from bridge.evaluation.prompts import FIRST, read_classes
    from bridge.evaluation.zero_shot import zero_shot_result
    from bridge.search import Embedder
    from cli.progress import BarProgress
    from features.space import modality_named

    made = load_bridge(bridge, device)
    folder = work_folder(bridge, items)
    named = pairs("--encoder", encoder, form="SPACE=SPEC")
    kind = None if modality is None else modality_named(modality)
    memory = open_memory(items, kind, bridge=made, folder=folder, overrides=named, device=device)
    lines, where = _templates(templates or memory.modality)
    result = zero_shot_result(
        memory,
        None if classes is None else read_classes(classes),
        lines,
        Embedder(device=device, overrides=named, trust_encoder=trust_encoder),
        bridge=made,
        via=via,
        annotations=read_labels(dataset, annotations),
        first=tuple(first) if first else FIRST,
        where=where,
        resamples=resamples,
        seed=seed,
        trust_encoder=trust_encoder,
        progress=BarProgress(),
    )
    answer(result, write(result, out, folder), json=json)


def _templates(chosen: str) -> tuple[list[str], str]:
    """Templates, and what they are called."""
    from bridge.evaluation.prompts import read_templates, templates_for
    from features.space import MODALITIES

    for modality in MODALITIES:
        if chosen == modality:
            return templates_for(modality), f"the list for {modality}"
    return read_templates(Path(chosen)), chosen
