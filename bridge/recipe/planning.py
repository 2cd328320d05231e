"""What a recipe would do and take, told without writing anything."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bridge.recipe.deciding import Decision, decide
from bridge.recipe.journal import Journal
from bridge.recipe.states import source_of
from bridge.recipe.step import DATA, Recipe, Step
from features.errors import UserError
from features.extraction.estimates import (
    Estimate,
    Rate,
    estimate_extraction,
    estimate_index,
    items_done,
)
from features.keypad_files import write_keypad_tables
from features.memories.memory import Memory, MemoryHeader
from features.memories.sharded import open_memory
from features.progress import SILENT, Progress
from features.search.backends import is_address
from features.space import modality_named

if TYPE_CHECKING:
    from bridge.training.estimates import Size
    from features.extraction.items import Source

_ROW_BYTES = {"float16": 2, "float32": 4}


@dataclass(frozen=True)
class Planned:
    """A step's decision and what it will take; `unknown` says why that cannot be told."""

    decision: Decision
    estimate: Estimate | None = None
    unknown: str = ""


def plan(
    recipe: Recipe, steps: Sequence[Step], *, force: bool = False, progress: Progress = SILENT
) -> list[Planned]:
    """What would be done about `steps`, and what it would take.

    Raises UserError where the run would do so before it began.
    """
    return _Planner(recipe, force).run(steps, progress)


@dataclass
class _Planner:
    recipe: Recipe
    force: bool
    pending: list[str] = field(default_factory=list)
    sizes: dict[str, Size] = field(default_factory=dict)  # of memories by path
    encoders: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    width: int = 0  # of the shared space, once training is planned

    def __post_init__(self) -> None:
        self.journal = Journal(self.recipe.folder, self.recipe.path)

    def run(self, steps: Sequence[Step], progress: Progress) -> list[Planned]:
        planned = []
        with progress.task("estimate", len(steps), unit="steps") as advance:
            for step in steps:
                planned.append(self._planned(step))
                advance(1)
        return planned

    def _planned(self, step: Step) -> Planned:
        decision = decide(step, self.recipe, self.journal, force=self.force, pending=self.pending)
        if decision.action == "skip":
            return Planned(decision)
        self.pending.append(step.name)
        estimates = {
            "extract": self._extraction,
            "import": self._imported,
            "train": self._training,
            "project": self._projected,
            "index": self._indexed,
        }
        if step.command not in estimates:
            told = "made-up numbers" if step.command == DATA else "evaluations and pictures"
            return Planned(decision, unknown=f"{told} are commonly done within a minute")
        try:
            return Planned(decision, estimates[step.command](step))
        except _NotYetError as error:
            return Planned(decision, unknown=str(error))

    def _extraction(self, step: Step) -> Estimate:
        options, source = step.options, self._source(step)
        kind = modality_named(options["modality"])
        encoder, why = self._encoder(step)
        dimension, space = 0, ""
        rate = self._recorded(step)
        if encoder is not None:
            dimension, space = encoder.space.dimension, encoder.space.name
            try:
                rate = rate or self._measured(step, source, encoder, kind)
            except UserError as error:
                made_first = any(name in self.pending for name in step.needs.get("source", ()))
                why = "its files are made first" if made_first else f"it was not tried: {error}"
        else:
            dimension, space = _listed(options["encoder"]), options["encoder"]
        self._note(step, space, kind, len(source.items), dimension)
        return estimate_extraction(
            source, kind, space=space, dimension=dimension, dtype=options.get("dtype", "float16"),
            done=items_done(step.out, options.get("batch_size", 256), len(source.items)),
            rate=rate, unknown=why,
        )  # fmt: skip

    def _source(self, step: Step) -> Source:
        """The items of an extraction; of made-up numbers also before they are made."""
        makers = [name for name in step.needs.get("source", ()) if name in self.pending]
        if not makers:
            return source_of(step)
        numbers = self.recipe.step(makers[0])
        if numbers.command != DATA:
            raise _NotYetError("its source is made first")
        with TemporaryDirectory() as folder:
            write_keypad_tables(Path(folder), seed=numbers.options["seed"])
            within = Path(step.options["source"]).relative_to(numbers.out)
            return source_of(step, str(Path(folder) / within))

    def _encoder(self, step: Step) -> tuple[Any, str]:
        """The encoder of an extraction, or None and why it cannot be loaded here."""
        from features.encoders import load_encoder

        options = step.options
        key = (options["encoder"], options.get("device"), options.get("precision"))
        if key not in self.encoders:
            try:
                found = load_encoder(
                    options["encoder"],
                    device=options.get("device", "auto"),
                    precision=options.get("precision", "fp32"),
                )
                self.encoders[key] = found, ""
            except UserError as error:
                self.encoders[key] = None, f"the encoder cannot be tried ({error})"
        return self.encoders[key]  # type: ignore[no-any-return]

    def _measured(self, step: Step, source: Any, encoder: Any, kind: Any) -> Rate:
        from features.extraction.estimates import measure_embedding

        key = (step.options["encoder"], kind, "rate", step.options.get("precision"))
        if key not in self.encoders:
            self.encoders[key] = measure_embedding(source, encoder, kind)
        return self.encoders[key]  # type: ignore[no-any-return]

    def _recorded(self, step: Step) -> Rate | None:
        """The rate at which the step ran before, if it was the same encoder."""
        entry = self.journal.get(step.name)
        if entry is None or not entry.done or not entry.seconds:
            return None
        then = entry.parts.get("options", {})
        same = ("encoder", "modality", "precision")
        if any(then.get(name) != step.options.get(name) for name in same):
            return None
        with contextlib.suppress(UserError):
            items = len(Memory(step.out)) + entry.failed
            return Rate(items / entry.seconds, "recorded when it ran before")
        return None

    def _imported(self, step: Step) -> Estimate:
        from features.exchange.opening import open_embeddings

        options = step.options
        kind = modality_named(options["modality"])
        file = open_embeddings(options["source"], kind, key=options.get("key"))
        space = options.get("space") or options.get("encoder", "")
        self._note(step, space, kind, file.rows, file.dimension)
        width = _ROW_BYTES.get(options.get("dtype", ""), file.dtype.itemsize)
        disk = file.rows * file.dimension * width
        return Estimate(
            file.rows, disk, 0, None, "as long as the disk takes", dimension=file.dimension
        )

    def _training(self, step: Step) -> Estimate:
        from bridge.config import load_settings, setting_fields
        from bridge.training.estimates import estimate_training

        options = step.options
        settings = load_settings(
            options.get("config"),
            {one.name: options.get(one.name) for one in setting_fields()},
            preset=options.get("preset"),
        )
        self.width = settings.dimension
        hub = [self._size(path) for path in options.get("hub") or options["pairs"]]
        leaf = [self._size(path) for path in options.get("leaf", ())]
        return estimate_training(hub, leaf, settings, device=options.get("device", "auto"))

    def _projected(self, step: Step) -> Estimate:
        size = self._size(step.options["memory"])
        width = self._shared_dimension(step)
        header = MemoryHeader("shared", size.modality, width)
        disk = size.items * header.row_dtype().itemsize
        self.sizes[str(step.out)] = replace(size, dimension=width)
        memory = 4 * size.dimension * min(size.items, 16_384)
        return Estimate(size.items, disk, memory, None, "seconds for a million", dimension=width)

    def _shared_dimension(self, step: Step) -> int:
        if "train" in self.pending:
            return self.width
        from bridge.artefact import load

        return load(step.options["bridge"], device="cpu").dimension

    def _indexed(self, step: Step) -> Estimate:
        size = self._size(step.options["memory"])
        if is_address(step.options["out"]):
            how = "Milvus keeps the index; `mcr index --dry-run` tells what it takes"
            return Estimate(size.items, 0, 0, None, how)
        return estimate_index(step.options.get("kind", "flat"), size.items, size.dimension)

    def _note(self, step: Step, space: str, modality: Any, items: int, dimension: int) -> None:
        from bridge.training.estimates import Size

        if dimension:
            self.sizes[str(step.out)] = Size(space, modality, items, dimension)

    def _size(self, path: Any) -> Size:
        from bridge.training.estimates import size_of

        if str(path) in self.sizes:
            return self.sizes[str(path)]
        maker = next((s.name for s in self.recipe.steps if s.out == Path(path)), None)
        if maker in self.pending:
            raise _NotYetError(f"it depends on {maker}, whose size is not known yet")
        return size_of(open_memory(path))


class _NotYetError(Exception):
    """A size that is not known before another step has run."""


def _listed(spec: str) -> int:
    from features.encoders.catalogue import KNOWN

    return next((one.dimension or 0 for one in KNOWN if one.spec == spec), 0)
