"""Published projectors of C-MCR and Ex-MCR as bridges.

C-MCR (arXiv 2305.14381) publishes one checkpoint for two spaces, with heads called A and B
that change places between its two models: A is CLAP and B is CLIP in CLAP-CLIP, A is CLIP and
B is ULIP in ULIP-CLIP. They are told apart by the shapes of their heads. Ex-MCR (arXiv
2310.08884) publishes one checkpoint for each space that it projects into CLIP's own, which
stays as it is.

As in the authors' code, sounds and point clouds are all that CLAP's and ULIP's projectors take;
sentences and images go through CLIP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bridge.artefact import Bridge, BridgedSpace, make_projector
from bridge.config import TrainSettings
from bridge.projector import Projector, Shape
from features.errors import UserError
from features.tensors import load_exactly, read_state, tensors_hash

if TYPE_CHECKING:
    from features.space import Modality

DIMENSION, HIDDEN = 512, 1024
_MODALITIES: dict[str, tuple[Modality, ...]] = {
    "clip": ("image", "text"),
    "clap": ("audio",),
    "ulip": ("points",),
}
# What the authors embedded with, as far as its weights can be named.
_ENCODERS: dict[str, dict[str, str]] = {
    "clip": {"name": "CLIP ViT-B/32 of OpenAI", "spec": "clip:ViT-B-32,openai"},
    "clap": {"name": "LAION CLAP 630k-fusion-best", "spec": "clap:630k-fusion-best"},
    "ulip": {"name": "ULIP-2 PointBERT, pointbert_ULIP-2.pt"},
}
# The space of each head, by the shape of the heads.
_CMCR_HEADS = {
    "mlp2": {"Head_A": "clap", "Head_B": "clip"},
    "mlp1": {"Head_A": "clip", "Head_B": "ulip"},
}
# Names of the published layers -> places in our projectors.
_MLP2 = {"net1.0": 0, "net1.1": 1, "net2.0": 3, "net2.1": 4}
_LAYERS: dict[str, dict[str, int]] = {
    "mlp2": _MLP2,
    "mlp1": {"net.0": 0, "net.1": 1},
    "exmcr": {
        "Head1": 0,
        **{f"Head2.mlp1.{layer}": 1 + place for layer, place in _MLP2.items()},
        **{f"Head2.mlp2.{layer}": 6 + place for layer, place in _MLP2.items()},
    },
}


def import_published(
    checkpoints: Sequence[str | Path],
    *,
    name: str,
    spaces: Sequence[str] = (),
    encoders: Mapping[str, Mapping[str, Any]] | None = None,
) -> Bridge:
    """The bridge that published checkpoints are: one of C-MCR, or one or more of Ex-MCR.

    spaces: for each Ex-MCR checkpoint the space that it projects, `clap` or `ulip`; if not
    given, what its file name says. encoders: space -> description of the encoder in use.
    Raises UserError for files that are not such checkpoints.
    """
    paths = [Path(one) for one in checkpoints]
    states = [read_state(path, "published projectors") for path in paths]
    for path, state in zip(paths, states, strict=True):
        if not {"Head1.weight", "Head_A.net.0.weight", "Head_A.net1.0.weight"} & state.keys():
            raise UserError(
                f"{path} holds no projectors of C-MCR (Head_A, Head_B) or Ex-MCR (Head1, Head2) "
                f"but {len(state)} tensors such as {next(iter(state))}: give clap_clip.pt, "
                "ulip_clip.pt, ex_clap.pt or ex_ulip.pt"
            )
    if all("Head1.weight" in state for state in states):
        return _extended(paths, states, name, spaces, encoders or {})
    if len(paths) != 1:
        raise UserError(
            f"{len(paths)} checkpoints were given: give one of C-MCR, or several of Ex-MCR (such "
            "as ex_clap.pt and ex_ulip.pt)"
        )
    if spaces:
        raise UserError(f"{paths[0]} is of C-MCR, which says its spaces itself: leave them out")
    return _connected(paths[0], states[0], name, encoders or {})


def _connected(
    path: Path,
    state: Mapping[str, Tensor],
    name: str,
    encoders: Mapping[str, Mapping[str, Any]],
) -> Bridge:
    """C-MCR: two heads into a space of their own."""
    shape: Shape = "mlp2" if "Head_A.net1.0.weight" in state else "mlp1"
    settings = TrainSettings(projector=shape, dimension=DIMENSION, hidden=HIDDEN)
    projectors: dict[str, Projector] = {}
    heads = _CMCR_HEADS[shape]
    known = {key: one for key, one in state.items() if key.partition(".")[0] not in heads}
    for head, space in heads.items():
        mine = {k.removeprefix(f"{head}."): v for k, v in state.items() if k.startswith(f"{head}.")}
        # What is of neither head is nobody's: it is refused with the first.
        projectors[space] = _projector(path, {**mine, **known}, settings, shape)
    origin = f"C-MCR's published {path.name} ({tensors_hash(state)})"
    return _bridge(name, projectors, settings, encoders, origin)


def _extended(
    paths: Sequence[Path],
    states: Sequence[Mapping[str, Tensor]],
    name: str,
    spaces: Sequence[str],
    encoders: Mapping[str, Mapping[str, Any]],
) -> Bridge:
    """Ex-MCR: one head a checkpoint, into the space of CLIP."""
    named = list(spaces) or [_space_of(path) for path in paths]
    if (
        len(named) != len(paths)
        or len(set(named)) != len(named)
        or not {*named} <= {"clap", "ulip"}
    ):
        raise UserError(
            f"{len(paths)} checkpoints of Ex-MCR are given for the spaces {', '.join(named)}: name "
            "one of clap and ulip for each"
        )
    settings = TrainSettings(projector="mlp2", dimension=DIMENSION, hidden=HIDDEN)
    identity = make_projector(DIMENSION, settings, shape="identity")
    projectors = {"clip": identity} | {
        space: _projector(path, state, settings, "exmcr")
        for space, path, state in zip(named, paths, states, strict=True)
    }
    hashes = ", ".join(tensors_hash(state) for state in states)
    origin = f"Ex-MCR's published {' and '.join(path.name for path in paths)} ({hashes})"
    return _bridge(name, projectors, settings, encoders, origin)


def _space_of(path: Path) -> str:
    found = [space for space in ("clap", "ulip") if space in path.stem.lower()]
    if len(found) != 1:
        raise UserError(
            f"{path} is a checkpoint of Ex-MCR, which is the same for clap and ulip: say which it "
            "is with --space clap or --space ulip"
        )
    return found[0]


def _projector(
    path: Path, state: Mapping[str, Tensor], settings: TrainSettings, shape: Shape
) -> Projector:
    projector = make_projector(DIMENSION, settings, shape=shape)
    renamed = {"offset": projector.offset}
    for key, tensor in state.items():
        layer, _, parameter = key.rpartition(".")
        place = _LAYERS[shape].get(layer)
        renamed[key if place is None else f"layers.{place}.{parameter}"] = tensor
    load_exactly(projector, renamed, path)
    return projector


def _bridge(
    name: str,
    projectors: Mapping[str, Projector],
    settings: TrainSettings,
    encoders: Mapping[str, Mapping[str, Any]],
    origin: str,
) -> Bridge:
    unknown = encoders.keys() - projectors.keys()
    if unknown:
        raise UserError(
            f"this bridge joins {' and '.join(projectors)}, not {', '.join(sorted(unknown))}: name "
            "encoders of its spaces"
        )
    joined = [
        BridgedSpace(
            space,
            DIMENSION,
            _MODALITIES[space],
            encoders.get(space, _ENCODERS[space]),
        )
        for space in projectors
    ]
    return Bridge(
        name,
        joined,
        projectors,
        settings,
        versions={"torch": torch.__version__},
        origin=f"converted from {origin}",
    )
