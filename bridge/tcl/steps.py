"""TCL's steps: C-MCR's, with terms of momentum projectors, parts and a fusion encoder beside them.

Terms are those of `bridge.losses.contrast` and `bridge.losses.matching`. The views are the hub
items of both spaces and, as far as there are leaf memories, their pseudo pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bridge.losses.contrast import (
    Keys,
    cross_modal,
    intra_modal,
    local_information,
    part_information,
)
from bridge.projector import Projector
from bridge.tcl.fusion_terms import FusionTerms
from bridge.tcl.momentum import Momentum, Place, settled
from bridge.training.distributed import Share
from bridge.training.leaf_rows import loaded
from bridge.training.noise import add_noise
from bridge.training.objective import cmcr_terms, project_batch
from bridge.training.steps import Drawn, PairedSteps
from features.progress import Progress

LOGGED = "temperature"  # among the terms, with no weight
_LMI = "items for lmi"  # a role of rows that are there for LMI alone


class TclSteps:
    """C-MCR's batches and terms, and TCL's; each has a weight of its own."""

    def __init__(self, paired: PairedSteps, progress: Progress) -> None:
        self.paired = paired
        self.settings, self.data = paired.settings, paired.data
        need = self.settings.need
        frozen = self.data.frozen
        self.fusion_terms = FusionTerms(frozen, self.settings, progress) if need.fusion else None
        self.with_parts: list[Place] = [
            (space, role)
            for space, roles in frozen.items.items()
            for role, items in roles.items()
            if need.lmi and items.length
        ]
        self.contrasted = self._contrasted()
        self.steps_per_epoch = 1
        self.momentum: Momentum | None = None

    @property
    def items(self) -> int:
        """How many items an epoch passes."""
        return self.paired.items

    @property
    def batch(self) -> int:
        """Items a step."""
        return self.paired.batch

    @property
    def terms(self) -> dict[str, float]:
        """The weights of the terms that the memories allow."""
        return {**self.paired.terms, LOGGED: 0.0}

    def begin(self, projectors: Mapping[str, nn.Module]) -> Momentum:
        """Copy the projectors as they are now; what is returned is trained and kept with them."""
        settings, rows = self.settings, self.data.rows
        some = next(iter(rows.values()))["hub"]
        fusion = None
        if self.fusion_terms is not None:
            fusion = self.fusion_terms.make(torch.Generator().manual_seed(settings.seed + 3))
        self.momentum = Momentum(
            projectors,
            dict.fromkeys(self.contrasted, min(settings.tcl_queue, self.items)),
            fusion,
            width=settings.dimension,
            temperature=settings.tcl_temperature,
            share=settings.tcl_momentum,
            learn=settings.tcl_learn_temperature,
            trained_at=self._trained_at(),
            dtype=some.dtype,
        ).to(some.device)
        return self.momentum

    def _contrasted(self) -> list[Place]:
        """What CMA and IMC contrast with earlier rows; nothing, where neither has a weight."""
        rows, settings = self.data.rows, self.settings
        shared = set.intersection(*(set(roles) for roles in rows.values()))
        return [
            (space, role)
            for space, roles in rows.items()
            for role in roles
            if settings.imc_weight or (settings.cma_weight and role in shared)
        ]

    def _trained_at(self) -> float | None:
        """What was set for it, or InfoNCE's, where it and not CMA aligns the spaces."""
        settings, weights = self.settings, self.terms
        if settings.itm_temperature is not None:
            return settings.itm_temperature
        if weights["cma"]:
            return None
        if weights.get("inter_leaf"):
            return settings.inter_leaf_temperature
        return settings.inter_hub_temperature if weights["inter_hub"] else None

    def draw(self, order: torch.Generator, parts: int) -> Iterator[Drawn]:
        """The rows of every step of an epoch."""
        self.steps_per_epoch = parts
        return self.paired.draw(order, parts)

    def losses(
        self, drawn: Drawn, projectors: Mapping[str, Projector], noise: torch.Generator
    ) -> dict[str, Tensor]:
        """The terms of a step."""
        state, settings = self.momentum, self.settings
        assert state is not None  # `begin` came first
        state.follow(projectors)
        alpha = settings.tcl_alpha * state.ramp(self.steps_per_epoch)
        batch, other_views = (self.paired.augmented(drawn, noise) for _ in range(2))
        local = self._local_rows(drawn, batch, projectors, noise)
        views = project_batch(batch, projectors)
        share = self.paired.share(drawn)
        with torch.no_grad():  # without a term that wants keys, too: for the copies' BatchNorm
            copies: dict[str, Projector] = {
                space: state.copy_of(space)  # type: ignore[misc]  # a copy of a projector
                for space in projectors
            }
            keys = self._keys(project_batch(other_views, copies), drawn)
        terms = cmcr_terms(
            views,
            inter_hub_temperature=settings.inter_hub_temperature,
            inter_leaf_temperature=settings.inter_leaf_temperature,
            bf16=self.paired.bf16,
            share=share,
        )
        terms |= self._contrasts(views, keys, alpha, share)
        if local:
            terms["lmi"] = self._lmi(views, local, projectors, share)
        if self.fusion_terms is not None:
            rows = next(iter(drawn.values()))["hub"][: settings.local_batch]
            terms |= self.fusion_terms.losses(rows, state, projectors, alpha, noise)
        for place, mine in keys.items():
            state.queue(place).add(mine.rows, mine.items)
        # Of each process a part, as of all terms.
        terms[LOGGED] = state.temperature.detach() / share.ranks.size
        return terms

    def _keys(
        self, projected: Mapping[str, Mapping[str, Tensor]], drawn: Drawn
    ) -> dict[Place, Keys]:
        assert self.momentum is not None
        share = self.paired.share(drawn)
        return {
            (space, role): self.momentum.queue((space, role)).keys(
                share.gathered(projected[space][role]), drawn[space][role]
            )
            for space, role in self.contrasted
        }

    def _contrasts(
        self,
        views: Mapping[str, Mapping[str, Tensor]],
        keys: Mapping[Place, Keys],
        alpha: float,
        share: Share,
    ) -> dict[str, Tensor]:
        """CMA and IMC."""
        assert self.momentum is not None
        temperature, terms = self.momentum.temperature, {}
        left, right = views
        if self.settings.cma_weight:
            costs = [
                cross_modal(
                    views[left][role], views[right][role], keys[left, role], keys[right, role],
                    temperature=temperature, alpha=alpha, share=share,
                )
                for role in ("hub", "leaf")
                if (left, role) in keys and (right, role) in keys
            ]  # fmt: skip
            terms["cma"] = torch.stack(costs).mean()
        if self.settings.imc_weight:
            mine = [views[space][role] for space, role in keys]
            terms["imc"] = intra_modal(
                mine, list(keys.values()), temperature=temperature, share=share
            )
        return terms

    def _local_rows(
        self,
        drawn: Drawn,
        batch: dict[str, dict[str, Tensor]],
        projectors: Mapping[str, Projector],
        noise: torch.Generator,
    ) -> dict[Place, Tensor]:
        """Which items LMI takes of every memory with parts; leaf items are added to the batch."""
        rows: dict[Place, Tensor] = {}
        size = self.settings.local_batch
        for space, role in self.with_parts:
            if role == "hub":
                rows[space, role] = drawn[space]["hub"][:size]
                continue
            leaf = loaded(self.data.frozen.leaf)[space]
            # Sorted, and none twice: an item would be its own negative.
            some = torch.randint(len(leaf), (size,), generator=noise, device=leaf.device)
            some = torch.unique(some)
            batch[space][_LMI] = add_noise(
                self._wholes((space, role), some, projectors),
                variance=self.settings.noise_variance,
                generator=noise,
            )[self._part(some).mine]
            rows[space, role] = some
        return rows

    def _part(self, rows: Tensor) -> Share:
        """This process's share of the rows that LMI takes; of a few rows it may be none."""
        return Share(len(rows), self.data.frozen.ranks)

    def _wholes(self, place: Place, rows: Tensor, projectors: Mapping[str, Projector]) -> Tensor:
        """Items that LMI takes, as the projectors take them, without noise."""
        space, role = place
        if role == "hub":
            return self.data.rows[space]["hub"][rows]
        frozen = self.data.frozen
        return projectors[space].centred(
            loaded(frozen.leaf)[space][rows], frozen.modalities[space][role]
        )

    def _lmi(
        self,
        views: Mapping[str, Mapping[str, Tensor]],
        local: Mapping[Place, Tensor],
        projectors: Mapping[str, Projector],
        share: Share,
    ) -> Tensor:
        state, frozen = self.momentum, self.data.frozen
        assert state is not None
        temperature, way = state.temperature, self.settings.lmi_from
        costs = []
        for (space, role), rows in local.items():
            parts, mask = frozen.items[space][role].parts(rows, frozen.hub[space])
            parts, mask = pooled_grid(parts, mask, self.settings.lmi_grid)
            flat = projectors[space].centred(parts.flatten(0, 1), frozen.modalities[space][role])
            part = self._part(rows)
            if way != "parts":
                known = state.settled(space, flat).view(*mask.shape, -1)
                if role == "hub":  # the first of the batch, which one process may have
                    view = share.gathered(views[space]["hub"])[: len(rows)][part.mine]
                else:
                    view = views[space][_LMI]
                costs.append(
                    local_information(view, known, mask, temperature=temperature, share=part)
                )
            if way != "items":
                items = state.settled(space, self._wholes((space, role), rows, projectors))
                mine = flat.view(*mask.shape, -1)[part.mine]
                live = settled(projectors[space], mine.flatten(0, 1))
                live = live.view(*mine.shape[:2], live.shape[1])
                costs.append(
                    part_information(live, mask, items, temperature=temperature, share=part)
                )
        return torch.stack(costs).mean()


def pooled_grid(parts: Tensor, mask: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Square grids of patches, averaged to `side` x `side` and unit again; others as they are."""
    count = parts.shape[1]
    now = round(count**0.5)
    if side == 0 or now <= side or now * now != count or not bool(mask.all()):
        return parts, mask
    grid = parts.transpose(1, 2).reshape(len(parts), -1, now, now)
    pooled = F.adaptive_avg_pool2d(grid, side).flatten(2).transpose(1, 2)
    return F.normalize(pooled, dim=-1), mask[:, : side * side]
