"""From a checkpoint to an encoder: which towers it holds, and their weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from features.device import resolve_device
from features.encoders.spec import Argument, parse_argument, space_name
from features.encoders.ulip.encoder import OPEN_CLIP, OPEN_CLIP_DIMENSION, UlipEncoder
from features.encoders.ulip.image import ImageTransformer
from features.encoders.ulip.points import PointBERT
from features.encoders.ulip.settings import GROUPS, PointSettings
from features.encoders.ulip.shapes import Shapes
from features.encoders.ulip.text import TextTransformer
from features.errors import UserError
from features.space import Modality
from features.tensors import load_exactly, read_state, tensors_hash

OPTIONS = ("points", "normalise", "space", "clip")
# Of the 1280-d model: OpenCLIP's towers, which have an encoder of their own. Of both: the
# temperature of their training.
UNUSED = ("open_clip_model.", "logit_scale")
IMAGE = ("visual.", "image_projection")
TEXT = (
    "transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection",
)  # fmt: skip
CHANNELS = "point_encoder.encoder.first_conv.0.weight"
TOWERS: dict[Modality, type[nn.Module]] = {
    "image": ImageTransformer,
    "text": TextTransformer,
    "points": PointBERT,
}


def load(argument: str, *, device: str, precision: str) -> UlipEncoder:
    """Load `CHECKPOINT[,OPTION=VALUE...]`. Raises UserError if it cannot be."""
    given = parse_argument(argument, family="ulip", options=OPTIONS)
    if not given.values:
        raise UserError("the encoder 'ulip' needs its checkpoint: write ulip:FILE.pt")
    if len(given.values) > 1 and "clip" in given.options and Path(given.values[0]).is_file():
        raise UserError(
            f"clip={given.options['clip']},{given.values[1]} cannot be given here, a comma ends "
            "it: use clip=hf-hub:ORG/REPO or clip=local-dir:FOLDER"
        )
    limit, normalise = _limit(given), given.option("normalise", "yes", ("yes", "no"))
    space = space_name(given, "")  # without one, the encoder knows its own
    place = resolve_device(device)
    path = Path(given.path)
    tensors = {
        name: tensor
        for name, tensor in read_state(path, "a ULIP checkpoint").items()
        if not name.startswith(UNUSED)
    }
    if "point_encoder.cls_token" not in tensors:
        raise UserError(
            f"{path} has no tensor point_encoder.cls_token, which ULIP's PointBERT has: give a "
            "PointBERT checkpoint, such as pointbert_ULIP-2.pt"
        )
    shapes = Shapes(tensors, path)
    settings = PointSettings(limit, normalise == "yes", _colours(shapes, path))
    towers = _towers(tensors, shapes, path)
    partner = given.options.get("clip")
    if partner is None and tuple(towers) == ("points",) and shapes.dimension == OPEN_CLIP_DIMENSION:
        partner = OPEN_CLIP
    if partner is not None and tuple(towers) != ("points",):
        raise UserError(f"{path} has image and text towers of its own: leave clip={partner} out")
    return UlipEncoder(
        towers,
        dimension=shapes.dimension,
        settings=settings,
        space=space,
        partner=partner,
        spec=",".join([f"ulip:{path.resolve()}", *_options(given)]),
        weights=tensors_hash(tensors),
        device=place,
        precision=precision,
    )


def _towers(tensors: Mapping[str, Tensor], shapes: Shapes, path: Path) -> dict[Modality, nn.Module]:
    """The towers that the checkpoint has any tensor of; each must have all of them."""
    parts: dict[Modality, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        parts.setdefault(_modality_of(name), {})[name] = tensor
    towers: dict[Modality, nn.Module] = {}
    for modality, kind in TOWERS.items():
        if modality in parts:
            # Made without weights: initial values take seconds and the global generator.
            with torch.device("meta"):
                tower = kind(shapes)
            load_exactly(tower.to_empty(device="cpu"), parts[modality], path)
            towers[modality] = tower
    return towers


def _modality_of(name: str) -> Modality:
    """The tower of a tensor; an unknown one goes to the points, which will name it."""
    if name.startswith(IMAGE):
        return "image"
    return "text" if name.startswith(TEXT) else "points"


def _limit(given: Argument) -> int:
    value = given.options.get("points", str(PointSettings.limit))
    if not value.isdecimal() or int(value) < GROUPS:
        raise UserError(
            f"points={value} is not a number of points from {GROUPS}: ULIP was trained with 8192 "
            "and 10000"
        )
    return int(value)


def _colours(shapes: Shapes, path: Path) -> bool:
    """Whether points have colours beside their coordinates."""
    channels = shapes.of(CHANNELS, 1)
    if channels not in (3, 6):
        raise UserError(
            f"{path} takes {channels} numbers per point, ULIP 3 or, with colours, 6: give a "
            "published ULIP checkpoint"
        )
    return channels == 6


def _options(given: Argument) -> list[str]:
    return [f"{key}={given.options[key]}" for key in OPTIONS if key in given.options]
