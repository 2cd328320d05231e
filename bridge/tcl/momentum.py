"""What TCL keeps from step to step: momentum copies, queues, and a temperature that is learnt.

Axes: n rows, q of a queue, d dimensions of the shared space.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bridge.losses.contrast import Keys
from bridge.tcl.fusion import Fusion
from bridge.tcl.settings import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE

Place = tuple[str, str]  # space and role
_TEMPERATURE, _FUSION = "temperature", "fusion."


class Queue(nn.Module):
    """The last rows that were added, with the items that they are of."""

    def __init__(self, size: int, width: int, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(size, width, dtype=dtype))
        self.register_buffer("items", torch.full((size,), -1))
        self.rows: Tensor
        self.items: Tensor
        self.added = 0

    def keys(self, rows: Float[Tensor, "n d"], items: Int[Tensor, " n"]) -> Keys:
        """A batch, and what was added before it."""
        filled = min(self.added, len(self.rows))
        # Copies: the queue goes on before a backward pass that computes blocks again.
        return Keys(rows, items, self.rows[:filled].clone(), self.items[:filled].clone())

    @torch.no_grad()
    def add(self, rows: Float[Tensor, "n d"], items: Int[Tensor, " n"]) -> None:
        """Put rows in the places of the oldest ones."""
        size = len(self.rows)
        if size == 0:
            return
        places = torch.arange(self.added, self.added + len(rows), device=rows.device) % size
        kept = slice(max(0, len(rows) - size), None)  # of more than there is room for, the last
        self.rows[places[kept]] = rows[kept].to(self.rows.dtype)
        self.items[places[kept]] = items[kept]
        self.added += len(rows)

    def get_extra_state(self) -> Tensor:
        """For checkpoints: how many rows were ever added."""
        return torch.tensor(self.added)

    def set_extra_state(self, state: Tensor) -> None:
        """As `get_extra_state` gave it."""
        self.added = int(state)


class Momentum(nn.Module):
    """Copies of the projectors that follow them slowly, and what else TCL remembers.

    The copies of BatchNorm see the batches as the projectors' own do; parts go through it with the
    statistics that it kept of wholes, as they do when a finished bridge projects them.
    """

    def __init__(
        self,
        projectors: Mapping[str, nn.Module],
        queues: Mapping[Place, int],
        fusion: Fusion | None,
        *,
        width: int,
        temperature: float,
        share: float,
        learn: bool = True,
        trained_at: float | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """queues: their lengths, by space and role. share: what momentum weights keep of theirs.

        learn: whether the temperature is learnt.
        trained_at: the temperature that tells spaces apart, if it is not the learnt one.
        """
        super().__init__()
        self.share, self.trained_at = share, trained_at
        start = torch.tensor(temperature, dtype=dtype)
        self.temperature = nn.Parameter(start, requires_grad=learn)
        self._place = {space: number for number, space in enumerate(projectors)}
        self.copies = nn.ModuleList(_copy(projector) for projector in projectors.values())
        self._queue_of = {place: number for number, place in enumerate(queues)}
        self.queues = nn.ModuleList(Queue(size, width, dtype=dtype) for size in queues.values())
        self.fusion = fusion
        self.fusion_copy = None if fusion is None else _copy(fusion)
        self.steps = 0

    @torch.no_grad()
    def follow(self, projectors: Mapping[str, nn.Module]) -> None:
        """Move the copies towards what they are copies of, and keep the temperature in range."""
        self.temperature.clamp_(LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE)
        pairs = [(self.copies[self._place[space]], one) for space, one in projectors.items()]
        if self.fusion is not None and self.fusion_copy is not None:
            pairs.append((self.fusion_copy, self.fusion))
        for copy, leader in pairs:
            for mine, wanted in zip(copy.parameters(), leader.parameters(), strict=True):
                mine.lerp_(wanted, 1 - self.share)
        self.steps += 1

    def groups(self) -> list[dict[str, Any]]:
        """What an optimiser trains of it; a temperature is no weight that should decay."""
        groups: list[dict[str, Any]] = []
        if self.temperature.requires_grad:
            groups.append({"params": [self.temperature], "weight_decay": 0.0})
        if self.fusion is not None:
            groups.append({"params": list(self.fusion.parameters())})
        return groups

    def matcher(self) -> Fusion | None:
        """The fusion encoder, with the temperature that the projectors were trained at."""
        if self.fusion is None:
            return None
        learnt = float(self.temperature.detach().clamp(LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE))
        self.fusion.spec = replace(self.fusion.spec, temperature=self.trained_at or learnt)
        return self.fusion

    def ramp(self, steps_per_epoch: int) -> float:
        """From 0 at the first step to 1 after the first epoch."""
        return min(1.0, (self.steps - 1) / steps_per_epoch)

    def result(self) -> dict[str, Tensor]:
        """What of it is in a finished bridge: the temperature and the fusion encoder."""
        fusion = {} if self.fusion is None else self.fusion.state_dict()
        named = {f"{_FUSION}{name}": tensor for name, tensor in fusion.items()}
        return {**named, _TEMPERATURE: self.temperature.detach()}

    @torch.no_grad()
    def set_result(self, kept: Mapping[str, Tensor]) -> None:
        """As `result` gave it; copies and queues stay as they are."""
        self.temperature.copy_(kept[_TEMPERATURE])
        if self.fusion is not None:
            named = {name.removeprefix(_FUSION): tensor for name, tensor in kept.items()}
            del named[_TEMPERATURE]
            self.fusion.load_state_dict(named)

    def copy_of(self, space: str) -> nn.Module:
        """The momentum projector of a space."""
        return self.copies[self._place[space]]

    def queue(self, place: Place) -> Queue:
        """The queue of a space and role."""
        found = self.queues[self._queue_of[place]]
        assert isinstance(found, Queue)
        return found

    @torch.no_grad()
    def settled(self, space: str, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
        """Rows by the momentum projector as a finished bridge would project them."""
        return settled(self.copy_of(space), rows)

    def get_extra_state(self) -> Tensor:
        """For checkpoints: how many steps were taken."""
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        """As `get_extra_state` gave it."""
        self.steps = int(state)


def settled(projector: nn.Module, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
    """Rows as a finished bridge would project them: by the statistics that BatchNorm kept."""
    projector.eval()
    projected: Tensor = projector(rows)
    projector.train()
    return projected


def _copy(module: nn.Module) -> nn.Module:
    return deepcopy(module).requires_grad_(False).train()
