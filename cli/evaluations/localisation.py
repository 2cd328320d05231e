"""`mcr eval localisation`: where in its picture a sound comes from."""

from __future__ import annotations

from cli.evaluations.inputs import localising, read_boxes
from cli.evaluations.options import Labels, Measuring, Places
from cli.options import with_groups


@with_groups
def localisation(places: Places, labels: Labels, measuring: Measuring) -> None:
    """Find where in its picture a sound comes from.

    Prints the success rate (share of samples with a cIoU of 0.5, which papers call cIoU), the area
    under the success curve, and the mean cIoU. Samples without a box are left out and counted.
    """
    from bridge.evaluation.localisation import localisation_result

    boxes = read_boxes(labels, "localisation")
    evaluation = localising(places, measuring)
    maps, settings = evaluation.maps(places)
    sounds = evaluation.memory(places.sounds, "audio")
    result = localisation_result(
        maps, sounds, boxes, threshold=places.threshold, settings=settings, **evaluation.how
    )
    evaluation.answer(result)
