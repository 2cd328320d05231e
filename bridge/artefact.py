"""The bridge: one projector per space, and everything about how they came to be.

A folder with `bridge.safetensors` (tensors `SPACE/NAME`), `bridge.json`, `metrics.jsonl`
and a model card, and `matcher.safetensors` where a fusion encoder was trained. Nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bridge.card import model_card
from bridge.config import TrainSettings
from bridge.description import require_kinds
from bridge.projector import AnyProjector, Projector, ProjectorSpec, Shape
from bridge.runs.layout import ABOUT_FILE, CARD_FILE, WEIGHTS_FILE
from bridge.tcl.fusion import Fusion
from bridge.tcl.matcher import load_matcher, matcher_about, save_matcher
from bridge.training.checkpoint import MIXTURE_FILE, PROGRESS_FILE
from features.device import resolve_device
from features.errors import UserError
from features.files import replacing
from features.sealed import read_sealed, sealed
from features.space import Modality, modality_named
from features.tensors import tensors_hash

FORMAT = "mcr-bridge bridge"
VERSION = 2
_REQUIRED = {"format", "version", "name", "fingerprint", "spaces", "settings", "memories"}


@dataclass(frozen=True)
class BridgedSpace:
    """One of the spaces that a bridge joins.

    modalities: those that can be projected: what its encoder embeds, or, if that is not
    known, what its memories held.
    """

    name: str
    dimension: int
    modalities: tuple[Modality, ...]
    encoder: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MemoryRecord:
    """A memory that a bridge was trained on."""

    path: str
    role: str
    space: str
    modality: Modality
    items: int
    fingerprint: str


class Bridge:
    """A trained bridge, ready to project embeddings of its spaces into the shared one."""

    def __init__(
        self,
        name: str,
        spaces: Sequence[BridgedSpace],
        projectors: Mapping[str, AnyProjector],
        settings: TrainSettings,
        *,
        memories: Sequence[MemoryRecord] = (),
        metrics: Mapping[str, float] | None = None,
        versions: Mapping[str, str] | None = None,
        origin: str | None = None,
        matcher: Fusion | None = None,
    ) -> None:
        """origin: where projectors not trained here came from. matcher: for re-ranking."""
        self.name = name
        self.spaces = {space.name: space for space in spaces}
        self.projectors = {name: projector.eval() for name, projector in projectors.items()}
        self.settings = settings
        self.memories = tuple(memories)
        self.metrics = dict(metrics or {})
        self.versions = dict(versions or {"torch": torch.__version__})
        self.origin = origin
        self.matcher = None if matcher is None else matcher.eval()

    @property
    def dimension(self) -> int:
        """Width of the shared space."""
        return next(iter(self.projectors.values())).spec.outputs

    @property
    def device(self) -> torch.device:
        """Where the projectors are."""
        return next(next(iter(self.projectors.values())).buffers()).device

    @property
    def fingerprint(self) -> str:
        """Hash of the projectors' weights; it identifies the shared space."""
        return tensors_hash(self._tensors())

    def __repr__(self) -> str:
        return f"Bridge({self.name!r}: {' + '.join(self.spaces)}, {self.dimension}-d)"

    def space_named(self, name: str) -> BridgedSpace:
        """The joined space called `name`. Raises UserError with those there are."""
        if name not in self.spaces:
            raise UserError(
                f"the bridge {self.name} joins {' and '.join(self.spaces)}, not '{name}': use an "
                "embedding of one of its spaces"
            )
        return self.spaces[name]

    def spaces_of(self, modality: Modality) -> list[BridgedSpace]:
        """The joined spaces that embed `modality`. Raises UserError if there is none."""
        found = [space for space in self.spaces.values() if modality in space.modalities]
        if not found:
            known = "; ".join(f"{s.name}: {', '.join(s.modalities)}" for s in self.spaces.values())
            raise UserError(
                f"the bridge {self.name} does not know {modality} ({known}): use one of these "
                "modalities or another bridge"
            )
        return found

    @torch.inference_mode()
    def project(
        self, embeddings: Float[Tensor, "n d"], space: str, modality: Modality | None = None
    ) -> Float[Tensor, "n e"]:
        """Unit embeddings of `space` in the shared space, unit rows, on the bridge's device.

        modality: what was embedded; needed if the bridge subtracts a mean of each modality.
        Raises UserError for a space that the bridge does not join, another width, or a modality
        that is needed.
        """
        wanted = self.space_named(space).dimension
        if embeddings.ndim != 2 or embeddings.shape[1] != wanted:
            raise UserError(
                f"embeddings of {space} are {wanted}-d but these have shape "
                f"{tuple(embeddings.shape)}: use the encoder that the bridge was trained with"
            )
        unit = torch.nn.functional.normalize(embeddings.float(), dim=-1)
        return self.projectors[space].project(unit.to(self.device), modality)

    def to(self, device: str | torch.device) -> Bridge:
        """Move the projectors to `device`, in place; returns the bridge."""
        for projector in self.projectors.values():
            projector.to(device)
        if self.matcher is not None:
            self.matcher.to(device)
        return self

    def save(self, folder: Path) -> None:
        """Write the artefact into `folder`, `bridge.json` last: with it, the bridge exists."""
        tensors = self._tensors()
        with replacing(folder / WEIGHTS_FILE) as temporary:
            save_file(tensors, temporary)
        save_matcher(self.matcher, folder)
        with replacing(folder / CARD_FILE) as temporary:
            temporary.write_text(model_card(self), encoding="utf-8")
        with replacing(folder / ABOUT_FILE) as temporary:
            temporary.write_text(json.dumps(sealed(self.about()), indent=2) + "\n", "utf-8")

    def about(self) -> dict[str, Any]:
        """What `bridge.json` says."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "spaces": [
                {**asdict(space), "projector": self.projectors[name].spec.as_dict()}
                for name, space in self.spaces.items()
            ],
            "settings": asdict(self.settings),
            "memories": [asdict(memory) for memory in self.memories],
            "metrics": self.metrics,
            "versions": self.versions,
            "origin": self.origin,
            "matcher": matcher_about(self.matcher),
        }

    def _tensors(self) -> dict[str, Tensor]:
        return {
            f"{space}/{name}": tensor.detach().cpu().contiguous()
            for space, projector in self.projectors.items()
            for name, tensor in projector.state_dict().items()
        }


def load(folder: str | Path, *, device: str = "auto") -> Bridge:
    """Load the bridge in `folder`. Raises UserError if it is missing, unfinished or damaged."""
    folder = Path(folder)
    about = _read_about(folder)
    try:
        require_kinds(about)
        settings = TrainSettings(**about["settings"])
        spaces = [_space(described) for described in about["spaces"]]
        generator = torch.Generator()
        projectors = {
            described["name"]: ProjectorSpec.from_dict(described["projector"]).build(generator)
            for described in about["spaces"]
        }
        memories = [MemoryRecord(**record) for record in about["memories"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{folder / ABOUT_FILE} is damaged ({error}): copy the bridge again"
        ) from error
    try:
        tensors = load_file(folder / WEIGHTS_FILE)
        if tensors_hash(tensors) != about["fingerprint"]:
            raise UserError(
                f"{folder / WEIGHTS_FILE} has fingerprint {tensors_hash(tensors)} but "
                f"{ABOUT_FILE} says {about['fingerprint']}: copy both files from one training run"
            )
        for name, projector in projectors.items():
            mine = {k: v for k, v in tensors.items() if k.startswith(f"{name}/")}
            projector.load_state_dict({k.removeprefix(f"{name}/"): v for k, v in mine.items()})
    except (SafetensorError, OSError, RuntimeError) as error:
        raise UserError(
            f"the bridge {folder} is damaged ({' '.join(str(error).split())}): copy it again or "
            "train it with `mcr train`"
        ) from error
    return Bridge(
        about["name"],
        spaces,
        projectors,
        settings,
        memories=memories,
        metrics=about.get("metrics"),
        versions=about.get("versions"),
        origin=about.get("origin"),
        matcher=load_matcher(folder, about.get("matcher")),
    ).to(resolve_device(device))


def make_projector(
    inputs: int,
    settings: TrainSettings,
    generator: torch.Generator | None = None,
    *,
    shape: Shape | None = None,
    outputs: int | None = None,
    modalities: Sequence[Modality] = (),
) -> Projector:
    """A projector of the settings' shape, or `shape`, for a space of dimension `inputs`.

    outputs: its width, unless it is the settings'. modalities: with means of their own.
    """
    return Projector(
        shape or settings.projector,  # type: ignore[arg-type]  # checked by TrainSettings
        inputs=inputs,
        outputs=outputs or settings.dimension,
        hidden=settings.hidden,
        modalities=modalities,
        generator=generator or torch.Generator().manual_seed(settings.seed),
    )


def _space(described: Mapping[str, Any]) -> BridgedSpace:
    return BridgedSpace(
        described["name"],
        described["dimension"],
        tuple(modality_named(name) for name in described["modalities"]),
        described["encoder"],
    )


def _read_about(folder: Path) -> dict[str, Any]:
    path = folder / ABOUT_FILE
    if not path.exists():
        unfinished = any((folder / name).exists() for name in (PROGRESS_FILE, MIXTURE_FILE))
        raise UserError(
            f"the training of {folder} is not finished: run the same `mcr train` command again"
            if unfinished
            else f"{folder} is not a bridge, it has no {ABOUT_FILE}: make one with `mcr train`"
        )
    try:
        about = read_sealed(path)
        missing = _REQUIRED - about.keys()
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}): copy the bridge again") from error
    if isinstance(about.get("version"), int) and about["version"] < VERSION:
        raise UserError(
            f"{path} has bridge format {about['version']}, this program reads {VERSION}: train it "
            "again with `mcr train`, or convert it again with `mcr import-cmcr`"
        )
    if missing or about["format"] != FORMAT or not isinstance(about["version"], int):
        lacking = ", ".join(sorted(missing)) or f"the format '{FORMAT}'"
        raise UserError(f"{path} is damaged (it lacks {lacking}): copy the bridge again")
    if about["version"] > VERSION:
        raise UserError(
            f"{path} has bridge format {about['version']}, this program reads {VERSION}: "
            "upgrade mcr-bridge"
        )
    return about
