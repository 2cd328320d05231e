"""What decides how items become a ULIP network's inputs; no torch.

The colour of clouds without one is that of ULIP's own evaluation on ModelNet40
(`data/dataset_3d.py`). The image transform is the zero-shot evaluation of SLIP, whose towers
ULIP took; ULIP has none of its own, as it only ever embeds images in training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from features.space import Modality

GROUPS = 512  # PointTransformer_8192point.yaml: num_group
GROUP_SIZE = 32  # group_size
HEAD_WIDTH = 64  # of the attention heads of all towers
GREY = 0.4
IMAGE_SIZE = 224
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
CONTEXT = 77
VOCABULARY = 49_408


@dataclass(frozen=True)
class PointSettings:
    """limit: most points of a cloud. normalise: centre it, largest norm 1. colours: or none."""

    limit: int = 10_000
    normalise: bool = True
    colours: bool = False


def preprocessing(modality: Modality, points: PointSettings) -> dict[str, Any]:
    """The settings between an item and the network, for an encoder's description."""
    if modality == "points":
        return {
            "points": points.limit,
            "choice": "rows spread evenly over the cloud",
            "normalise": "mean 0, largest norm 1" if points.normalise else "no",
            "colours": f"red, green, blue; {GREY} where missing" if points.colours else "no",
            "groups": f"{GROUPS} of {GROUP_SIZE}, centres farthest from each other, row 0 first",
        }
    if modality == "image":
        return {
            "resize": f"shorter side {IMAGE_SIZE}, bilinear",
            "crop": "centre",
            "mean": list(IMAGE_MEAN),
            "std": list(IMAGE_STD),
        }
    return {"tokenizer": "CLIP BPE", "context": CONTEXT, "cut": "keeps the end token"}
