"""`mcr eval counterfactual`: does a model know when nothing in the picture sounds?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.evaluations.inputs import localising, read_boxes
from cli.evaluations.options import Labels, Measuring, Places
from cli.options import with_groups


@with_groups
def counterfactual(
    places: Places,
    labels: Labels,
    *,
    extended: Annotated[
        Path | None,
        typer.Option(
            "--pairs",
            help="The extended set's file, such as vggss_test_plus_silent.csv. Unset: annotated "
            "samples without a box are silent.",
        ),
    ] = None,
    measuring: Measuring,
) -> None:
    """Tell whether what is heard is in the picture.

    A sample is confident if the top quarter of its map is. Prints AP, max-F1 and LocAcc of extended
    VGG-SS, extended Flickr-SoundNet, or a set of your own with sounding and silent samples.
    """
    from bridge.evaluation.counterfactual import counterfactual_result
    from features.datasets.pairs import read_pairs

    boxes = read_boxes(labels, "counterfactual recognition")
    listed, file = None, None
    if extended is not None:
        listed, fingerprint = read_pairs(extended)
        file = {"path": str(extended), "fingerprint": fingerprint}
    evaluation = localising(places, measuring)
    maps, settings = evaluation.maps(places)
    sounds = evaluation.memory(places.sounds, "audio")
    result = counterfactual_result(
        maps, sounds, boxes, listed, pairs_file=file, threshold=places.threshold,
        settings=settings, **evaluation.how,
    )  # fmt: skip
    evaluation.answer(result)
