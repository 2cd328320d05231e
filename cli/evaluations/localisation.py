"""`mcr eval localisation`: where in its picture a sound comes from."""

from __future__ import annotations

from cli.evaluations.answer import answer, write
from cli.evaluations.inputs import (
    load_bridge,
    open_memory,
    picture_maps,
    read_labels,
    work_folder,
)
from cli.evaluations.options import (
    AnnotationFile,
    BridgeOrNone,
    Crops,
    Dataset,
    Fit,
    Grid,
    Out,
    Pictures,
    Regions,
    Resamples,
    Seed,
    Sounds,
    Threshold,
    Upsample,
)
from cli.options import Device, EncoderOverrides, Json, TrustEncoder, pairs


def localisation(
    sounds: Sounds,
    dataset: Dataset = None,
    annotations: AnnotationFile = None,
    pictures: Pictures = None,
    crops: Crops = None,
    regions: Regions = None,
    bridge: BridgeOrNone = None,
    grid: Grid = None,
    fit: Fit = None,
    upsample: Upsample = "bicubic",
    threshold: Threshold = None,
    encoder: EncoderOverrides = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    out: Out = None,
    trust_encoder: TrustEncoder = False,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Find where in its picture a sound comes from.

    Prints the success rate (share of samples with a cIoU of 0.5, which papers call cIoU), the area
    under the success curve, and the mean cIoU. Samples without a box are left out and counted.
    """
    from bridge.evaluation.localisation import localisation_result
    from cli.progress import BarProgress
    from features.errors import UserError

    boxes = read_labels(dataset, annotations)
    if boxes is None:
        raise UserError("localisation needs boxes: give --dataset and --annotations")
    made = load_bridge(bridge, device)
    folder = work_folder(bridge, pictures or str(crops))
    named = pairs("--encoder", encoder, form="SPACE=SPEC")
    maps, settings = picture_maps(
        pictures, crops, regions, made, folder, grid=grid, fit=fit, upsample=upsample,
        overrides=named, device=device, trust_encoder=trust_encoder,
    )  # fmt: skip
    result = localisation_result(
        maps,
        open_memory(sounds, "audio", bridge=made, folder=folder, overrides=named, device=device),
        boxes,
        bridge=made,
        threshold=threshold,
        settings=settings,
        resamples=resamples,
        seed=seed,
        trust_encoder=trust_encoder,
        progress=BarProgress(),
    )
    answer(result, write(result, out, folder), json=json)
