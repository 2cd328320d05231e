"""`mcr eval zero-shot`: classification by the prompts of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.evaluations.inputs import Evaluation, read_labels
from cli.evaluations.options import Labels, Measuring
from cli.options import with_groups


@with_groups
def zero_shot(
    items: Annotated[
        str,
        typer.Option("--items", "-i", help="Memory of what is classified, or its files."),
    ],
    *,
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
    labels: Labels,
    measuring: Measuring,
) -> None:
    """Classify items by the prompts of classes.

    A class is the mean of its prompts, such as "a photo of a dog." Prints top-1, top-3 and top-5,
    and the mean accuracy over classes, with the first 1, 5 and 10 templates: how much these differ
    is how much a space depends on its prompts. Classes without items are left out of the mean.
    """
    from bridge.evaluation.prompts import FIRST, read_classes
    from bridge.evaluation.zero_shot import zero_shot_result
    from bridge.search import Embedder
    from features.space import modality_named

    evaluation = Evaluation(measuring, items)
    kind = None if modality is None else modality_named(modality)
    memory = evaluation.memory(items, kind)
    lines, where = _templates(templates or memory.modality)
    embedder = Embedder(
        device=measuring.device,
        overrides=evaluation.overrides,
        trust_encoder=measuring.trust_encoder,
    )
    result = zero_shot_result(
        memory, None if classes is None else read_classes(classes), lines, embedder, via=via,
        annotations=read_labels(labels), first=tuple(first) if first else FIRST, where=where,
        **evaluation.how,
    )  # fmt: skip
    evaluation.answer(result)


def _templates(chosen: str) -> tuple[list[str], str]:
    """Templates, and what they are called."""
    from bridge.evaluation.prompts import read_templates, templates_for
    from features.space import MODALITIES

    for modality in MODALITIES:
        if chosen == modality:
            return templates_for(modality), f"the list for {modality}"
    return read_templates(Path(chosen)), chosen
