"""Several processes that train one bridge: what each has of a batch, and what they exchange.

All draw the same batches and the same noise, from one seed. Each keeps its share of the rows, and
gets those of the others where a formula needs them, as contrastive losses and BatchNorm do.

What a process computes of a loss is its part: the parts of all processes add up to the loss of the
whole batch. Gradients are those of the sum, so that they add up, too. A process alone has all rows
and exchanges nothing, which costs nothing.

Axes: n rows of the whole batch, b of them in this process.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch import distributed as dist
from torch.autograd.function import once_differentiable

from features.errors import UserError


class LostProcessError(UserError):
    """Another process of the training has ended, or does not answer."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together: number `rank` of `size`.

    device: that this process computes on, if it was not free to choose.
    patient: a group of them that waits for what one does alone, however long it takes.
    """

    rank: int = 0
    size: int = 1
    device: str | None = None
    patient: Any = None

    def __deepcopy__(self, memo: object) -> Ranks:
        return self

    @property
    def first(self) -> bool:
        """Whether it is the one that writes and speaks."""
        return self.rank == 0

    def share(self, rows: int) -> Share:
        """This process's share of a batch. Raises UserError if some process would have none."""
        if rows < self.size:
            raise UserError(
                f"a batch of {rows} items cannot be shared by {self.size} processes: start fewer "
                "of them, or raise the batch"
            )
        return Share(rows, self)

    def total(self, part: Tensor) -> Tensor:
        """The sum of all processes' parts. Gradients flow back into all of them."""
        if self.size == 1:
            return part
        made: Tensor = _Total.apply(part)
        return made

    @torch.no_grad()
    def highest(self, part: Tensor) -> Tensor:
        """The highest of all processes' values, element by element; without gradient."""
        if self.size == 1:
            return part
        highest = part.clone()
        with _reached(self.size):
            dist.all_reduce(highest, dist.ReduceOp.MAX)
        return highest

    @torch.no_grad()
    def add_up(self, parts: Sequence[Tensor]) -> None:
        """Put the sum over all processes in the place of each of the tensors, of one dtype."""
        if self.size == 1 or not parts:
            return
        flat = torch.cat([part.reshape(-1) for part in parts])  # one message, not many small ones
        with _reached(self.size):
            dist.all_reduce(flat)
        start = 0
        for part in parts:
            part.copy_(flat[start : start + part.numel()].view_as(part))
            start += part.numel()

    def told(self, make: Callable[[], Any]) -> Any:
        """What the first process makes, and the others wait for; of JSON's types."""
        if self.size == 1:
            return make()
        text = json.dumps(make()).encode() if self.first else b""
        length = torch.tensor(len(text))
        with _reached(self.size):
            dist.broadcast(length, 0, group=self.patient)
        content = torch.empty(int(length), dtype=torch.uint8)
        if self.first:
            content = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        with _reached(self.size):
            dist.broadcast(content, 0, group=self.patient)
        return json.loads(content.numpy().tobytes())

    def handed_out(
        self, tensors: Mapping[str, Tensor] | None, device: torch.device
    ) -> dict[str, Tensor]:
        """The first process's tensors, which the others get on `device`; they give None."""
        if self.size == 1:
            return dict(tensors or {})
        given = {name: one.contiguous() for name, one in (tensors or {}).items()}
        kinds = self.told(
            lambda: {name: (str(one.dtype), list(one.shape)) for name, one in given.items()}
        )
        for name, (dtype, shape) in kinds.items():
            if not self.first:
                kind = getattr(torch, dtype.removeprefix("torch."))
                given[name] = torch.empty(shape, dtype=kind, device=device)
            self.put_same(given[name])
        return given

    @torch.no_grad()
    def put_same(self, tensor: Tensor) -> None:
        """Put the first process's values into everybody's tensor."""
        if self.size > 1:
            with _reached(self.size):
                dist.broadcast(tensor, 0, group=self.patient if tensor.is_cpu else None)


ALONE = Ranks()


@dataclass(frozen=True)
class Share:
    """Which of a batch's rows this process has: some in a row, as many as others or one less.

    rows: of the whole batch.
    """

    rows: int
    ranks: Ranks = ALONE

    @property
    def start(self) -> int:
        """The first of them."""
        return self.ranks.rank * self.rows // self.ranks.size

    @property
    def mine(self) -> slice:
        """Where they are in the batch."""
        return slice(self.start, (self.ranks.rank + 1) * self.rows // self.ranks.size)

    def gathered(self, rows: Float[Tensor, "b *d"]) -> Float[Tensor, "n *d"]:
        """The rows of all processes. Gradients flow back to whose they are."""
        if self.ranks.size == 1:
            return rows
        made: Tensor = _Gathered.apply(rows, self)
        return made


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:  # noqa: ARG004
        return _summed(part)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> Tensor:  # noqa: ARG004
        return _summed(outer)


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, share: Share) -> Tensor:
        ctx.share = share
        size = share.ranks.size
        most = -(-share.rows // size)
        sent = rows.contiguous()
        if len(rows) < most:  # all messages are of one length
            sent = torch.cat([sent, sent.new_zeros(most - len(rows), *rows.shape[1:])])
        found = sent.new_empty(size * most, *rows.shape[1:])
        with _reached(size):
            dist.all_gather_into_tensor(found, sent)
        if share.rows == size * most:
            return found
        counts = [(rank + 1) * share.rows // size - rank * share.rows // size
                  for rank in range(size)]  # fmt: skip
        return torch.cat(
            [found[rank * most : rank * most + count] for rank, count in enumerate(counts)]
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None]:
        return _summed(outer)[ctx.share.mine], None


def _summed(part: Tensor) -> Tensor:
    whole = part.clone(memory_format=torch.contiguous_format)
    with _reached(dist.get_world_size()):
        dist.all_reduce(whole)
    return whole


@contextmanager
def _reached(size: int) -> Iterator[None]:
    """Raise LostProcessError where processes cannot exchange what they should."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise lost(size) from error


def lost(size: int) -> LostProcessError:
    """What to say when one of `size` processes is gone."""
    return LostProcessError(
        f"one of the {size} processes that train together has ended or does not answer: start "
        "the same command again, which continues from the last checkpoint"
    )
