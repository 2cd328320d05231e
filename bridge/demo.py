"""The demo: the whole journey on keypad numbers, through the code that users run.

Two bridges are trained without pairs, as in the C-MCR paper: sounds meet pictures through
text, and point clouds meet text through pictures. Each is measured on numbers that nothing
was trained on, beside the same projectors trained on true pairs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bridge.artefact import Bridge, make_projector
from bridge.config import TrainSettings
from bridge.evaluation.retrieval import evaluate_retrieval
from bridge.metrics.retrieval import Retrieval
from bridge.pictures.canvas import Style, save
from bridge.pictures.sheet import sheet_figure
from bridge.pictures.similarity import Matrices, similarity_figure
from bridge.pictures.tiles import Tile
from bridge.projection import in_shared_space, project_memory
from bridge.search import Embedder, Query, embed_for_bridge, search_index
from bridge.training.train import train
from features.encoders import Encoder, load_encoder
from features.errors import UserError
from features.extraction.extract import extract
from features.extraction.sources import read_source
from features.files import remove_leftovers, replacing
from features.keypad_files import write_keypad_numbers
from features.memories.memory import Memory
from features.parsing import parse_json
from features.progress import SILENT, Progress
from features.search.building import build_index
from features.search.index import Hit
from features.space import Modality

# Fewer epochs than published: the spaces are small and quickly bridged.
SETTINGS = TrainSettings(dimension=128, hidden=256, epochs=24, seed=0)
STYLE, WIDE = Style(), Style(width=8.0)
NEVER_PAIRED = "numbers that nothing was trained on, of modalities that were never paired"
TABLES: dict[Modality, str] = {
    "text": "texts",
    "image": "images",
    "audio": "sounds",
    "points": "points",
}


@dataclass(frozen=True)
class Task:
    """One bridge of the demo: what it joins, and what is asked of it."""

    name: str
    query: tuple[str, Modality]  # space and modality
    gallery: tuple[str, Modality]
    hub: Modality


@dataclass(frozen=True)
class Outcome:
    """What a task's bridges reached on unseen three-digit numbers."""

    task: Task
    unpaired: Retrieval
    paired: Retrieval
    chance: float

    @property
    def share(self) -> float:
        """R@1 without pairs, as a share of R@1 with true pairs."""
        return self.unpaired.recall[1] / self.paired.recall[1]


@dataclass(frozen=True)
class Answer:
    """A query, the number it shows, and the hits."""

    query: Query
    number: str
    bridge: Path
    index: Path
    hits: Sequence[Hit]


@dataclass(frozen=True)
class DemoResult:
    """Everything the demo found, and where it wrote it."""

    outcomes: Sequence[Outcome]
    answers: Sequence[Answer]
    pictures: Sequence[Path]


TASKS = (
    Task("audio-image", ("mini-clap", "audio"), ("mini-clip", "image"), hub="text"),
    Task("points-text", ("mini-ulip", "points"), ("mini-clip", "text"), hub="image"),
)


class Demo:
    """The demo in one folder; what is there already is kept."""

    def __init__(
        self, folder: Path, *, device: str = "auto", seed: int = 0, progress: Progress = SILENT
    ) -> None:
        self.folder = folder
        self.device = device
        self.seed = seed
        self.progress = progress
        self._encoders: dict[str, Encoder] = {}

    def run(self) -> DemoResult:
        """Make the data, train, measure, answer and draw.

        Raises UserError if the folder holds something else than a demo of the same seed.
        """
        self._claim_folder()
        write_keypad_numbers(self.folder / "data", seed=self.seed, progress=self.progress)
        outcomes, answers, pictures = [], [], []
        for task in TASKS:
            unpaired, paired = self._train(task)
            outcomes.append(self._measure(task, unpaired, paired))
            answers += self._answer(task, unpaired)
            pictures.append(self._draw_similarities(task, unpaired))
        pictures.append(self._draw_answers(answers))
        return DemoResult(outcomes, answers, pictures)

    def _claim_folder(self) -> None:
        remove_leftovers(self.folder)
        mark, mine = self.folder / "demo.json", {"seed": self.seed, "torch": torch.__version__}
        if mark.exists():
            found = parse_json(mark.read_text(encoding="utf-8"))
        else:
            found = mine if not self.folder.exists() or not any(self.folder.iterdir()) else None
        if found != mine:
            raise UserError(
                f"{self.folder} holds {'a demo of ' + str(found) if found else 'other files'}, not "
                f"a demo of {mine}: choose another --out, or remove the folder"
            )
        with replacing(mark) as temporary:
            temporary.write_text(json.dumps(mine), encoding="utf-8")

    def memory(self, space: str, modality: Modality, part: str) -> Memory:
        """A memory of the `train` or `test` numbers, or the three-digit ones of `test3`."""
        where = {"split": part[:5].rstrip("3")} | ({"digits": "3"} if part == "test3" else {})
        source = read_source(
            str(self.folder / "data" / f"{TABLES[modality]}.csv"),
            modality,
            id_column="key",
            label_column="number",
            where=where,
        )
        if space not in self._encoders:
            self._encoders[space] = load_encoder(space, device=self.device)
        out = self.folder / "memories" / f"{modality}-{space}-{part}.h5"
        return extract(
            source, self._encoders[space], modality, out, resume=True, progress=self.progress
        ).memory

    def _train(self, task: Task) -> tuple[Bridge, Bridge]:
        query, gallery = (
            self.memory(space, modality, "train") for space, modality in (task.query, task.gallery)
        )
        hub = [self.memory(space, task.hub, "train") for space, _ in (task.query, task.gallery)]
        folder = self.folder / "bridges"
        unpaired = train(
            hub, [query, gallery], folder / task.name, SETTINGS,
            device=self.device, resume=True, progress=self.progress,
        )  # fmt: skip
        paired = train(
            [query, gallery], [], folder / f"{task.name}-true-pairs", SETTINGS,
            paired=True, align=True, device=self.device, resume=True, progress=self.progress,
        )  # fmt: skip
        return unpaired, paired

    def _measure(self, task: Task, unpaired: Bridge, paired: Bridge) -> Outcome:
        query, gallery = self.memory(*task.query, "test3"), self.memory(*task.gallery, "test")
        figures = evaluate_retrieval(unpaired, query, gallery)
        bound = evaluate_retrieval(paired, query, gallery)
        return Outcome(task, figures.forward, bound.forward, figures.chance)

    def _answer(self, task: Task, bridge: Bridge) -> list[Answer]:
        gallery = self.memory(*task.gallery, "test")
        shared = self.folder / "memories" / f"{task.gallery[1]}-{task.name}-test.h5"
        projected = project_memory(bridge, gallery, shared, overwrite=True, progress=self.progress)
        index = build_index(projected, shared.with_suffix(".faiss"), overwrite=True)
        query_memory = self.memory(*task.query, "test3")
        embedder = Embedder(device=self.device)
        rows = range(0, len(query_memory), len(query_memory) // 3)
        answers = []
        for row in list(rows)[:3]:
            path = query_memory.item_path(row)
            assert path is not None
            query = Query(task.query[1], path)
            (hits,) = search_index(
                embed_for_bridge([query], bridge, embedder), index, 7, bridge=bridge
            )
            number = query_memory.labels[row] if query_memory.labels else ""
            answers.append(
                Answer(query, number, self.folder / "bridges" / task.name, index.path, hits)
            )
        return answers

    def _draw_answers(self, answers: Sequence[Answer]) -> Path:
        rows = []
        for answer in answers:
            query = Tile(answer.query.modality, answer.query.value, answer.number)
            gallery = next(t.gallery[1] for t in TASKS if t.query[1] == answer.query.modality)
            hits = [
                Tile(
                    gallery,
                    hit.item if hit.path is None else Path(hit.path),
                    hit.label or hit.id,
                    right=hit.label == answer.number,
                    score=hit.score,
                )
                for hit in answer.hits
            ]
            rows.append((query, hits))
        out = self.folder / "pictures" / "answers.png"
        return save(sheet_figure(rows, WIDE, notes=[NEVER_PAIRED]), out, WIDE)

    def _draw_similarities(self, task: Task, bridge: Bridge) -> Path:
        """Cosines of one query and one gallery item for each of 40 unseen numbers."""
        query, gallery = self.memory(*task.query, "test3"), self.memory(*task.gallery, "test")
        names = sorted(set(query.labels or ()) & set(gallery.labels or ()))[::5]
        query_rows = [list(query.labels or ()).index(name) for name in names]
        gallery_rows = [list(gallery.labels or ()).index(name) for name in names]
        matrices = []
        for title, shown in (
            ("before: untrained projectors", _untrained(bridge)),
            ("after: bridged without pairs", bridge),
        ):
            rows = in_shared_space(shown, query)[query_rows]
            columns = in_shared_space(shown, gallery)[gallery_rows]
            matrices.append((title, (rows @ columns.T).cpu().numpy()))
        out = self.folder / "pictures" / f"similarity-{task.name}.png"
        data = Matrices(matrices, names, (task.query[1], task.gallery[1]))
        return save(similarity_figure(data, STYLE), out, STYLE)


def _untrained(bridge: Bridge) -> Bridge:
    generator = torch.Generator().manual_seed(bridge.settings.seed)
    projectors = {
        space.name: make_projector(space.dimension, bridge.settings, generator)
        for space in bridge.spaces.values()
    }
    spaces = list(bridge.spaces.values())
    return Bridge(bridge.name, spaces, projectors, bridge.settings).to(bridge.device)
