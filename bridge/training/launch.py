"""Joining the processes that `torchrun` started, and ending together, with one voice.

torchrun says in the environment which process this is and where the others are. When one of them
fails or is killed it ends the others; a process that was not ended by then finds nobody to exchange
with. Whichever comes first tells why, and the rest end without a word.
"""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
from torch import distributed as dist
from torch.distributed.rendezvous import rendezvous

from bridge.training.distributed import ALONE, Ranks, lost
from features.device import resolve_device
from features.errors import ToldElsewhereError, UserError

STEP = timedelta(minutes=10)  # that an exchange of a step may take; no step is as long
ALONE_AT_WORK = timedelta(days=7)  # that others wait, such as for pseudo pairs


def together() -> bool:
    """Whether this process was started with others, to train with them."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1 and "RANK" in os.environ


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """The processes that train together in the block; a process alone is as without it.

    device: `auto`, `cpu` or `cuda`; of the cards of a machine each process takes one.
    Raises UserError if they cannot be joined, or have no card each; ToldElsewhereError in place of
    an error when another process has told one before.
    """
    if not together():
        yield ALONE
        return
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    try:
        store, *_ = next(rendezvous("env://", timeout=STEP))
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"process {rank} of {size} cannot reach the others ({_first_line(error)}): start it "
            "with torchrun, which says where they are"
        ) from error
    try:
        with _stoppable(size), warnings.catch_warnings():
            if rank > 0:  # the first process sees the same
                warnings.simplefilter("ignore")
            yield _joined(store, rank, size, device)
    except BaseException as error:  # Ctrl-C, too, reaches all of them
        told = 1
        with suppress(RuntimeError):  # torchrun itself may have ended
            told = store.add("told", 1)
        if told > 1:
            raise ToldElsewhereError("another process has told why") from error
        raise
    dist.destroy_process_group()


def _joined(store: Any, rank: int, size: int, device: str) -> Ranks:
    where = _own_device(device, int(os.environ.get("LOCAL_RANK", rank)), size)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    dist.init_process_group(
        "nccl" if where.type == "cuda" else "gloo",
        store=store,
        rank=rank,
        world_size=size,
        timeout=STEP,
        device_id=where if where.type == "cuda" else None,
    )
    patient = dist.new_group(backend="gloo", timeout=ALONE_AT_WORK)
    return Ranks(rank, size, str(where), patient)


def _own_device(name: str, local: int, size: int) -> torch.device:
    """The card of this process, number `local` on its machine, or the CPU."""
    device = resolve_device(name)
    if device.type == "mps" or ":" in name:
        raise UserError(
            f"--device {name} is one device but {size} processes train together: leave it out, or "
            "give cpu or cuda, of which each process takes a card"
        )
    if device.type == "cpu":
        return device
    cards = torch.cuda.device_count()
    if local >= cards:
        raise UserError(
            f"process {local + 1} of this machine has no card, torch sees {cards}: start as many "
            "processes as there are cards, or pass --device cpu"
        )
    return torch.device("cuda", local)


@contextmanager
def _stoppable(size: int) -> Iterator[None]:
    """Say what happened when torchrun ends this process, because another has ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise lost(size)

    def speak_first(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        signal.signal(signal.SIGTERM, before)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except BaseException:  # torchrun ends this process while it says why it ends by itself
        signal.signal(signal.SIGTERM, speak_first)
        raise
    signal.signal(signal.SIGTERM, before)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
