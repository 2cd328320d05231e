"""A small place with a file of every kind that is read back, whole, to be copied and damaged."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cli.main import app
from features.encoders.mini.config import MiniConfig
from features.encoders.mini.encoder import load_file, save_mini
from features.encoders.mini.towers import Tower
from features.extraction.extract import Extraction, extract
from features.extraction.items import Item, Source
from features.extraction.partial import Failure, write_failures
from features.memories.memory import Columns, Memory, MemoryHeader
from features.memories.writing import write_memory
from features.progress import Advance
from tests.features.helpers import FakeEncoder, unit_rows

TINY = {
    "dimension": 16, "width": 16, "layers": 1, "heads": 2, "image_height": 16, "image_width": 32,
    "seconds": 0.25, "mel_bands": 16, "points": 64, "point_groups": 8, "group_points": 8,
    "words": 8, "vocabulary": 64,
}  # fmt: skip
SPACES = {"sees": "image", "hears": "audio"}
ITEMS = 40
SENTENCES = [f"the number {row}" for row in range(ITEMS)]
TRAINED = ("--preset", "published", "--dimension", "8", "--hidden", "16", "--epochs", "3",
           "--device", "cpu")  # fmt: skip


def mcr(*arguments: object) -> Any:
    """Run a command in this process, as the console script does."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def done(*arguments: object) -> Any:
    """Run a command that must succeed."""
    result = mcr(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


def partners(folder: Path) -> list[object]:
    """Options that name the memories that the place's bridge is trained on."""
    told: list[object] = []
    for space, modality in SPACES.items():
        told += ["--hub", folder / f"text-{space}.h5", "--leaf", folder / f"{modality}.h5"]
    return told


@cache
def whole_place() -> Path:
    """The place, made once in a process; nothing may be written to it."""
    folder = Path(tempfile.mkdtemp(prefix="whole-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    torch.set_num_threads(1)
    for number, (space, modality) in enumerate(SPACES.items()):
        _encoder(folder, space, number)
        _memories(folder, space, modality, number)
    (folder / "runs").mkdir()
    bridge = folder / "runs" / "bridge"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("bridge.pseudo_pairs.cache.LEAST_SCORES", 1)
        done("train", *partners(folder), "-o", bridge, *TRAINED)
    done("project", folder / "image.h5", "-b", bridge, "-o", folder / "shared.h5")
    done("index", folder / "shared.h5")
    done("eval", "--bridge", bridge, "--query", folder / "audio.h5", "--gallery",
         folder / "image.h5", "--resamples", "100")  # fmt: skip
    _stopped_training(folder)
    _stopped_extraction(folder)
    _shards(folder)
    _recipe(folder)
    return folder


def extract_items(folder: Path, stop_after: int | None = None) -> Extraction:
    """An extraction to `half.h5` in batches of 8, stopped before the batch that is told."""
    items = [Item(f"item-{row}", text + " bad" * (row == 4)) for row, text in enumerate(SENTENCES)]
    encoder = FakeEncoder(stop_after=stop_after)
    source = Source(items, None)
    return extract(source, encoder, "text", folder / "half.h5", batch_size=8, workers=0)


def _encoder(folder: Path, space: str, seed: int) -> None:
    settings = MiniConfig(space, (SPACES[space], "text"), **TINY)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        towers = {modality: Tower(modality, settings) for modality in settings.modalities}
    save_mini(folder / f"{space}.safetensors", settings, towers)


def _memories(folder: Path, space: str, modality: Any, seed: int) -> None:
    path = folder / f"{space}.safetensors"
    encoder = load_file(str(path), device="cpu")
    table = folder / "texts.txt"
    table.write_text("\n".join(SENTENCES) + "\n", encoding="utf-8")
    done("extract", table, "-e", f"mini:{path}", "-m", "text", "-o", folder / f"text-{space}.h5",
         "--device", "cpu")  # fmt: skip
    known = encoder.description.as_dict()
    header = MemoryHeader(space, modality, 16, "float16", known, local_length=3)
    names = [f"{modality}-{row}" for row in range(ITEMS)]
    mask = np.arange(3) < np.arange(ITEMS)[:, None] % 4
    parts = unit_rows(ITEMS * 3, 16, seed=seed + 9).reshape(ITEMS, 3, 16) * mask[..., None]
    columns = Columns(names, labels=[str(row % 7) for row in range(ITEMS)],
                      metadata={"a": names[::-1]})  # fmt: skip
    write_memory(folder / f"{modality}.h5", header, columns, [unit_rows(ITEMS, 16, seed=seed)],
                 local=[(parts, mask)])  # fmt: skip


class _Stop:
    """Progress that stops a training as Ctrl-C does, after its second epoch."""

    @contextmanager
    def task(
        self, description: str, total: int, *, unit: str = "items", done: int = 0
    ) -> Iterator[Advance]:
        told = 0

        def advance(count: int) -> None:
            nonlocal told
            told += count
            if (description, unit, told) == ("train", "epochs", 2):
                raise KeyboardInterrupt

        assert total >= done
        yield advance


def _stopped_training(folder: Path) -> None:
    import bridge
    from bridge.config import load_settings

    settings = load_settings(None, {"dimension": 8, "hidden": 16, "epochs": 3}, preset="published")
    hub = [Memory(folder / f"text-{space}.h5") for space in SPACES]
    leaf = [Memory(folder / f"{modality}.h5") for modality in SPACES.values()]
    with suppress(KeyboardInterrupt), pytest.MonkeyPatch.context() as patched:
        patched.setattr("bridge.training.run.CHECKPOINT_SECONDS", -1.0)
        bridge.train(hub=hub, leaf=leaf, out=folder / "stopped", settings=settings, device="cpu",
                     progress=_Stop())  # fmt: skip
    assert (folder / "stopped" / "checkpoint.json").exists()


def _stopped_extraction(folder: Path) -> None:
    with suppress(KeyboardInterrupt):
        extract_items(folder, stop_after=3)
    assert (folder / "half.h5.partial" / "journal.jsonl").stat().st_size


def _shards(folder: Path) -> None:
    encoder = f"mini:{folder / 'sees.safetensors'}"
    for number in (1, 2):
        done("extract", folder / "texts.txt", "-e", encoder, "-m", "text", "-o",
             folder / "all.h5", "--device", "cpu", "--batch-size", "8", "--shard",
             f"{number}/2")  # fmt: skip
    lost = [Failure("lost", "lost.png", "it is no picture")]
    write_failures(folder / "all.1-of-2.failures.jsonl", lost)


def _recipe(folder: Path) -> None:
    path = folder / "recipe.toml"
    path.write_text(
        'folder = "made"\ndevice = "cpu"\n\n[memory.one]\nextract = "texts.txt"\n'
        'encoder = "mini:sees.safetensors"\nmodality = "text"\n', encoding="utf-8",
    )  # fmt: skip
    done("run", path)
