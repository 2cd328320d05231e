"""What a training step sees: rows drawn, noise added, and the terms of the chosen objective."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bridge.config import TrainSettings
from bridge.methods.routing import KEPT, Posteriors, agreement, posteriors, smoothed
from bridge.projector import Projector
from bridge.training.augment import noisy_tables
from bridge.training.distributed import Ranks, Share
from bridge.training.leaf_rows import loaded
from bridge.training.objective import (
    Contrast,
    cmcr_terms,
    cwcl_contrast,
    distil_terms,
    project_batch,
)
from bridge.training.requirements import term_weights
from bridge.training.training_set import FrozenRows, TrainingSet
from features.progress import Progress

if TYPE_CHECKING:
    from bridge.tcl.steps import TclSteps

Drawn = Mapping[str, Mapping[str, Tensor]]  # space -> role -> which rows


class _Stateless:
    """Steps that remember nothing of the steps before them."""

    def begin(self, projectors: Mapping[str, nn.Module]) -> None:
        """Called with the initial projectors; nothing else is trained or kept."""


@dataclass(frozen=True)
class PairedSteps(_Stateless):
    """C-MCR and CWCL: batches of items that are there in both spaces, with their pseudo pairs.

    bf16: compute InfoNCE's products in bfloat16.
    """

    data: TrainingSet
    settings: TrainSettings
    bf16: bool = False

    @property
    def items(self) -> int:
        """How many items an epoch passes."""
        return len(self.data)

    @property
    def batch(self) -> int:
        """Items a step."""
        return self.settings.batch_for(self.items)

    @property
    def terms(self) -> dict[str, float]:
        """The weights of the terms that the memories allow."""
        return term_weights(self.settings, self.data.frozen.leaf)

    def draw(self, order: torch.Generator, parts: int) -> Iterator[Drawn]:
        """The rows of every step of an epoch."""
        device = next(iter(self.data.rows.values()))["hub"].device
        # Even parts: a rest of a few rows would be an easy batch, and one row is none at all.
        for rows in torch.randperm(self.items, generator=order).to(device).tensor_split(parts):
            yield {space: dict.fromkeys(roles, rows) for space, roles in self.data.rows.items()}

    def augmented(self, drawn: Drawn, noise: torch.Generator) -> dict[str, dict[str, Tensor]]:
        """The rows that were drawn, with noise; of them this process's share."""
        return _noisy(self.data.rows, drawn, self.settings, noise, self.data.frozen.ranks)

    def share(self, drawn: Drawn) -> Share:
        """This process's share of the rows that were drawn."""
        return self.data.frozen.ranks.share(len(next(iter(drawn.values()))["hub"]))

    def losses(
        self, drawn: Drawn, projectors: Mapping[str, Projector], noise: torch.Generator
    ) -> dict[str, Tensor]:
        """The terms of a step."""
        return cmcr_terms(
            project_batch(self.augmented(drawn, noise), projectors),
            inter_hub_temperature=self.settings.inter_hub_temperature,
            inter_leaf_temperature=self.settings.inter_leaf_temperature,
            contrasts=self._contrasts(drawn) if self.settings.objective == "cwcl" else None,
            bf16=self.bf16,
            share=self.share(drawn),
        )

    def _contrasts(self, drawn: Drawn) -> dict[str, Contrast]:
        """CWCL, weighed by the rows without noise of the space that the settings name."""
        settings = self.settings
        left = next(iter(self.data.rows))
        space = settings.cwcl_space or left
        roles = ("hub", "leaf") if settings.cwcl_terms == "both" else (settings.cwcl_terms,)
        return {
            role: cwcl_contrast(
                self.data.rows[space][role][drawn[space][role]],
                on_left=space == left,
                sharpness=settings.cwcl_sharpness,
                symmetric=settings.cwcl_symmetric,
                share=self.share(drawn),
            )
            for role in roles
            if role in self.data.rows[space]
        }


@dataclass(frozen=True)
class DistilSteps(_Stateless):
    """Routed distillation: batches of both leaf memories, and of hub items beside them.

    beliefs: by space, the posteriors of its leaf items over the hub items.
    bf16: compute InfoNCE's products in bfloat16.
    """

    data: TrainingSet
    settings: TrainSettings
    beliefs: dict[str, Posteriors]
    bf16: bool = False

    @property
    def items(self) -> int:
        """How many items an epoch passes: those of the larger leaf memory."""
        return max(len(one) for one in self.beliefs.values())

    @property
    def batch(self) -> int:
        """Leaf items a step."""
        return min(self.settings.distil_batch, self.items)

    @property
    def terms(self) -> dict[str, float]:
        """The weights of the terms."""
        return term_weights(self.settings, self.data.frozen.leaf)

    def draw(self, order: torch.Generator, parts: int) -> Iterator[Drawn]:
        """The rows of every step of an epoch; smaller tables come around again."""
        some = next(iter(self.data.rows.values()))
        device, hub_items = some["hub"].device, len(some["hub"])
        leaf = {
            space: _cycled(len(one), self.settings.distil_batch, order)
            for space, one in self.beliefs.items()
        }
        hub = _cycled(hub_items, self.settings.batch_for(hub_items), order)
        for _ in range(parts):
            rows = next(hub).to(device)
            yield {
                space: {"hub": rows, "leaf": next(leaf[space]).to(device)} for space in self.beliefs
            }

    def losses(
        self, drawn: Drawn, projectors: Mapping[str, Projector], noise: torch.Generator
    ) -> dict[str, Tensor]:
        """The terms of a step."""
        ranks = self.data.frozen.ranks
        left, right = (self.beliefs[space][rows["leaf"]] for space, rows in drawn.items())
        of_left, of_right = ranks.share(len(left)), ranks.share(len(right))
        return distil_terms(
            _noisy(self.data.rows, drawn, self.settings, noise, ranks),
            projectors,
            agreement(left[of_left.mine], right) ** self.settings.distil_sharpness,
            inter_hub_temperature=self.settings.inter_hub_temperature,
            distil_temperature=self.settings.distil_temperature,
            bf16=self.bf16,
            hub_share=ranks.share(len(next(iter(drawn.values()))["hub"])),
            leaf_shares=(of_left, of_right),
        )


def steps_for(
    data: TrainingSet, settings: TrainSettings, progress: Progress, *, bf16: bool = False
) -> PairedSteps | DistilSteps | TclSteps:
    """What the settings' objective trains on.

    bf16: compute InfoNCE's products in bfloat16.
    """
    if settings.objective == "distil":
        return DistilSteps(data, settings, _beliefs(data.frozen, settings, progress), bf16)
    paired = PairedSteps(data, settings, bf16)
    if settings.objective == "tcl":
        from bridge.tcl.steps import TclSteps  # which builds on these

        return TclSteps(paired, progress)
    return paired


def _beliefs(
    frozen: FrozenRows, settings: TrainSettings, progress: Progress
) -> dict[str, Posteriors]:
    beliefs = {}
    for space, leaf in loaded(frozen.leaf).items():
        hub, passes = frozen.hub[space], 3 if settings.smoothing else 1
        with progress.task(f"route {space} over the hub", passes * len(leaf)) as advance:
            own = posteriors(leaf, hub, temperature=settings.routing_temperature, advance=advance)
            beliefs[space] = own
            if not settings.smoothing:
                continue
            beliefs[space] = smoothed(
                own, leaf, hub_items=len(hub), share=settings.smoothing, kept=KEPT,
                temperature=settings.smoothing_temperature, advance=advance,
            )  # fmt: skip
    return {space: beliefs[space] for space in frozen.hub}


def _noisy(
    tables: Mapping[str, Mapping[str, Tensor]],
    drawn: Drawn,
    settings: TrainSettings,
    noise: torch.Generator,
    ranks: Ranks,
) -> dict[str, dict[str, Tensor]]:
    places = [(space, role) for space in tables for role in drawn[space]]
    wanted = [(tables[space][role], drawn[space][role]) for space, role in places]
    made = noisy_tables(wanted, variance=settings.noise_variance, generator=noise, ranks=ranks)
    batch: dict[str, dict[str, Tensor]] = {space: {} for space in tables}
    for (space, role), rows in zip(places, made, strict=True):
        batch[space][role] = rows
    return batch


def _cycled(items: int, batch: int, order: torch.Generator) -> Iterator[Tensor]:
    """Rows of batches of min(batch, items), none twice in a batch, for as long as they are wanted.

    Rows that do not fill a batch at the end of a round are left out of that round.
    """
    size = min(batch, items)
    while True:
        rows = torch.randperm(items, generator=order)
        for start in range(0, items - size + 1, size):
            yield rows[start : start + size].clone()  # a view would keep all of them
