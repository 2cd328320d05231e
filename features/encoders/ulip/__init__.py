"""ULIP and ULIP-2: point clouds in the space of an image and text model.

`ulip:CHECKPOINT` reads a published PointBERT checkpoint (arXiv 2212.05171, 2305.08275); what it
is follows from its tensors:

- 512 dimensions: images, texts and point clouds. Image and text towers are SLIP's ViT-B/16.
- 1280 dimensions (ULIP-2, coloured clouds): point clouds. Its images and texts are those of
  `clip:ViT-bigG-14,laion2b_s39b_b160k`, which is loaded when one is first asked for. Tensors of
  it that a checkpoint may hold are left out.

Options after commas: `points=N` (10,000) how many points of a cloud are used at most,
`normalise=no` takes clouds as they are, `space=NAME` names the space (ulip, or ulip2 for 1280),
`clip=local-dir:FOLDER` or `clip=hf-hub:NAME` says where the 1280-d model's OpenCLIP is.

This module imports no torch: worker processes that read items import it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from features.encoders.ulip.encoder import UlipEncoder


def load_ulip(argument: str, *, device: str = "auto", precision: str = "fp32") -> UlipEncoder:
    """Load the checkpoint, and set the options, that `argument` names.

    Raises UserError if the file is missing, damaged or holds another model.
    """
    from features.encoders.ulip.loading import load

    return load(argument, device=device, precision=precision)
