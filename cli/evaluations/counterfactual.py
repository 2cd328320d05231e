"""`mcr eval counterfactual`: does a model know when nothing in the picture sounds?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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


def counterfactual(
    sounds: Sounds,
    dataset: Dataset = None,
    annotations: AnnotationFile = None,
    extended: Annotated[
        Path | None,
        typer.Option(
            "--pairs",
            help="The extended set's file, such as vggss_test_plus_silent.csv. Unset: annotated "
            "samples without a box are silent.",
        ),
    ] = None,
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
    """Tell whether what is heard is in the picture.

    A sample is confident if the top quarter of its map is. Prints AP, max-F1 and LocAcc of extended
    VGG-SS, extended Flickr-SoundNet, or a set of your own with sounding and silent samples.
    """
    from bridge.evaluation.counterfactual import counterfactual_result
    from cli.progress import BarProgress
    from features.datasets.pairs import read_pairs
    from features.errors import UserError

    boxes = read_labels(dataset, annotations)
    if boxes is None:
        raise UserError(
            "counterfactual recognition needs the boxes of what sounds: give --dataset and "
            "--annotations"
        )
    listed, fingerprint = (None, "") if extended is None else read_pairs(extended)
    made = load_bridge(bridge, device)
    folder = work_folder(bridge, pictures or str(crops))
    named = pairs("--encoder", encoder, form="SPACE=SPEC")
    maps, settings = picture_maps(
        pictures, crops, regions, made, folder, grid=grid, fit=fit, upsample=upsample,
        overrides=named, device=device, trust_encoder=trust_encoder,
    )  # fmt: skip
    result = counterfactual_result(
        maps,
        open_memory(sounds, "audio", bridge=made, folder=folder, overrides=named, device=device),
        boxes,
        listed,
        pairs_file=None
        if extended is None
        else {"path": str(extended), "fingerprint": fingerprint},
        bridge=made,
        threshold=threshold,
        settings=settings,
        resamples=resamples,
        seed=seed,
        trust_encoder=trust_encoder,
        progress=BarProgress(),
    )
    answer(result, write(result, out, folder), json=json)
