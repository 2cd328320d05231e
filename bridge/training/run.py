"""The state of one training run and its loop: batches, steps, epochs, checkpoints.

Everything is resident on the device; there is no data loader.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bridge.artefact import make_projector
from bridge.config import TrainSettings
from bridge.projector import Projector
from bridge.runs.layout import METRICS_FILE
from bridge.runs.log import log_line
from bridge.tcl.fusion import Fusion
from bridge.tracking.reporting import Report, untracked
from bridge.training.checkpoint import optimizer_tensors, restore_optimizer, save_checkpoint
from bridge.training.held_out import HELD_OUT_SCORE, held_out_scores
from bridge.training.objective import weighted_sum
from bridge.training.start import start_from_closed_form
from bridge.training.steps import Drawn, steps_for
from bridge.training.training_set import TrainingSet
from features.errors import UserError
from features.files import explained, replacing
from features.products import fast_dtype
from features.progress import SILENT, Progress

CHECKPOINT_SECONDS = 1.0  # at most this and the epoch under way are lost


@dataclass
class Run:
    """The state of one training run.

    out: folder of its log and checkpoints; None keeps neither. report: gets what is logged.
    Of several processes that train together, on their parts of `data`, one has a folder at most.
    """

    out: Path | None
    settings: TrainSettings
    data: TrainingSet
    plan: dict[str, Any]
    device: torch.device
    epoch: int = 0
    best_score: float = -math.inf
    best_epoch: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    best_entry: dict[str, float] = field(default_factory=dict)
    best_beside: dict[str, Tensor] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    progress: Progress = SILENT
    report: Report = untracked

    def __post_init__(self) -> None:
        if len(self.data) < 2:
            raise UserError(
                f"{len(self.data)} items are too few to train on, two are the least: give more "
                "items, or a smaller --holdout"
            )
        if self.settings.patience is not None and not len(
            next(iter(self.data.frozen.held_out.values()))
        ):
            raise UserError(
                f"patience is {self.settings.patience} but no hub items are held out to measure "
                "on: raise holdout, or leave patience out"
            )
        seed = self.settings.seed
        initial = torch.Generator().manual_seed(seed)
        means, frozen = self.settings.means, self.data.frozen
        self.ranks = frozen.ranks
        self.projectors: dict[str, Projector] = {
            space: make_projector(
                roles["hub"].shape[1],
                self.settings,
                initial,
                modalities=frozen.centred_modalities(space, means),
            ).to(self.device)
            for space, roles in self.data.rows.items()
        }
        bf16 = self.settings.precision == "bf16" or (
            self.settings.precision == "auto" and fast_dtype(self.device) == torch.bfloat16
        )
        self.steps_of = steps_for(self.data, self.settings, self.progress, bf16=bf16)
        self._centre()
        if self.settings.start != "random":
            start_from_closed_form(self.projectors, self.data, self.settings)
        for projector in self.projectors.values():
            projector.bf16 = bf16
            projector.train_among(self.ranks)
        self.beside = self.steps_of.begin(self.projectors)
        weights = [one for projector in self.projectors.values() for one in projector.parameters()]
        self.optimizer = torch.optim.AdamW(
            [{"params": weights}, *(self.beside.groups() if self.beside else ())],
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )
        self.order = torch.Generator().manual_seed(seed + 1)
        self.noise = torch.Generator(self.device).manual_seed(seed + 2)
        items = self.steps_of.items
        # At least two rows a batch: one alone cannot be contrasted and has no variance.
        self.steps_per_epoch = max(1, min(math.ceil(items / self.steps_of.batch), items // 2))
        self.steps = self.steps_per_epoch * self.settings.epochs
        self.weights = self.steps_of.terms

    def _centre(self) -> None:
        """Set the offsets, and centre the tables once and for all."""
        for space, roles in self.data.rows.items():
            projector = self.projectors[space]
            self.data.frozen.centre(projector, space, self.settings.means)
            if self.settings.means != "none":  # at full size, a copy of all is too much
                modalities = self.data.frozen.modalities[space]
                for role in roles:
                    roles[role] = projector.centred(roles[role], modalities[role])

    def fit(self, progress: Progress) -> None:
        """Train from the current epoch to the end, or until patience runs out."""
        saved = time.monotonic()
        epochs = self.settings.epochs
        self._start_alike()
        with progress.task("train", epochs, unit="epochs", done=self.epoch) as advance:
            while self.epoch < epochs and not self._out_of_patience():
                started = time.monotonic()
                self._set_train(True)
                losses = self._one_epoch()
                self._set_train(False)
                self.epoch += 1
                if not math.isfinite(losses["loss"]):
                    raise UserError(
                        f"the loss is {losses['loss']} after epoch {self.epoch}: lower "
                        "learning_rate, or raise the temperatures"
                    )
                self._log(losses, time.monotonic() - started)
                advance(1)
                if self.out and time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._save()
                    saved = time.monotonic()
        if self.best:
            for space, projector in self.projectors.items():
                projector.load_state_dict(_part(self.best, space))
            if self.beside is not None:
                self.beside.set_result(self.best_beside)
            self.last = self.best_entry
        self._set_train(False)
        for projector in self.projectors.values():
            projector.bf16 = False  # projection is always in float32, as after loading

    @property
    def matcher(self) -> Fusion | None:
        """The fusion encoder, if one was trained."""
        return None if self.beside is None else self.beside.matcher()

    def restore(self, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        for space, projector in self.projectors.items():
            projector.load_state_dict(_part(tensors, f"now/{space}"))
        if self.beside is not None:
            self.beside.load_state_dict(_part(tensors, "beside"))
        restore_optimizer(self.optimizer, tensors)
        self.order.set_state(tensors["order"])
        self.noise.set_state(tensors["noise"])
        self.best = _part(tensors, "best")
        self.best_beside = _part(tensors, "best beside")
        self.epoch, self.best_epoch = about["epoch"], about["best_epoch"]
        self.best_score = -math.inf if about["best_score"] is None else about["best_score"]
        self.last, self.best_entry = about["last"], about["best_entry"]
        if self.out is None:
            return
        path = self.out / METRICS_FILE
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        with replacing(path) as temporary:
            temporary.write_bytes(b"".join(lines[: self.epoch]))

    def _start_alike(self) -> None:
        """Take the first process's weights: other machines may have rounded otherwise."""
        if self.ranks.size == 1:
            return
        modules: list[nn.Module] = list(self.projectors.values())
        for module in [*modules, *([self.beside] if self.beside else [])]:
            for tensor in [*module.parameters(), *module.buffers()]:
                self.ranks.put_same(tensor.data)

    def _one_epoch(self) -> dict[str, float]:
        sums: dict[str, Tensor] = {}
        drawn = self.steps_of.draw(self.order, self.steps_per_epoch)
        for step, rows in enumerate(drawn):
            self._set_learning_rate(self.epoch * self.steps_per_epoch + step)
            for name, value in self._step(rows).items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value
        self.ranks.add_up(list(sums.values()))
        return {name: float(total) / self.steps_per_epoch for name, total in sums.items()}

    def _step(self, rows: Drawn) -> dict[str, Tensor]:
        """Train on a batch. Returns this process's parts of the terms and of their weighted sum."""
        terms = self.steps_of.losses(rows, self.projectors, self.noise)
        loss = weighted_sum(terms, self.weights)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        trained = (one for group in self.optimizer.param_groups for one in group["params"])
        self.ranks.add_up([one.grad for one in trained if one.grad is not None])
        self.optimizer.step()
        return {name: value.detach() for name, value in {**terms, "loss": loss}.items()}

    def _set_learning_rate(self, step: int) -> None:
        cosine = (1 + math.cos(math.pi * step / self.steps)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * cosine

    def _log(self, losses: dict[str, float], seconds: float) -> None:
        entry = {
            "epoch": float(self.epoch),
            **losses,
            **self.ranks.told(lambda: held_out_scores(self.projectors, self.data.frozen)),
        }
        self.last = entry
        score = entry.get(HELD_OUT_SCORE)
        # Equal scores go to the later epoch: the held-out score saturates early.
        if self.settings.patience is not None and score is not None and score >= self.best_score:
            self.best_score, self.best_epoch, self.best_entry = score, self.epoch, entry
            self.best = self._state("")
            if self.beside is not None:
                kept = self.beside.result()
                self.best_beside = {name: tensor.clone() for name, tensor in kept.items()}
        if self.out is None:
            return
        line = {**entry, "epoch": self.epoch, "seconds": round(seconds, 3)}
        with explained(self.out), (self.out / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.write(log_line(line))
        self.report(self.epoch, {name: entry[name] for name in entry if name != "epoch"})

    def _out_of_patience(self) -> bool:
        patience = self.settings.patience
        return (
            patience is not None and bool(self.best) and (self.epoch - self.best_epoch >= patience)
        )

    def _save(self) -> None:
        beside = {} if self.beside is None else self.beside.state_dict()
        tensors = {
            **self._state("now/"),
            **{f"best/{name}": tensor for name, tensor in self.best.items()},
            **{f"beside/{name}": tensor for name, tensor in beside.items()},
            **{f"best beside/{name}": tensor for name, tensor in self.best_beside.items()},
            **optimizer_tensors(self.optimizer),
            "order": self.order.get_state(),
            "noise": self.noise.get_state(),
        }
        about = {
            "plan": self.plan,
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "best_score": None if math.isinf(self.best_score) else self.best_score,
            "last": self.last,
            "best_entry": self.best_entry,
        }
        assert self.out is not None
        save_checkpoint(self.out, tensors, about)

    def _state(self, prefix: str) -> dict[str, Tensor]:
        return {
            f"{prefix}{space}/{name}": tensor.detach().clone()
            for space, projector in self.projectors.items()
            for name, tensor in projector.state_dict().items()
        }

    def _set_train(self, mode: bool) -> None:
        for projector in self.projectors.values():
            projector.train(mode)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    start = f"{prefix}/"
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
