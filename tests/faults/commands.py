"""The stages that faults are injected into: a command each, on small inputs, and what it makes."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.faults.materials import DIMENSION, materials
from tests.faults.process import Process

# What tells of times, and of how often a run was started; and hashes of what has the folder's name.
_BY_CHANCE = {
    "seconds", "when", "finished", "starts", "before", "state", "key", "inputs", "checksum",
}  # fmt: skip
# Files that grow, or are written again, while what they tell of is made.
GROWING = ("metrics.jsonl", "run.json", "journal.json", "settings.toml", "bridge.json")


@dataclass(frozen=True)
class Stage:
    """One command.

    command: after `mcr`; `{given}` is the materials' folder. It works in an empty folder and writes
    into `out` there, unless `prepare` puts something there before.
    """

    name: str
    command: str
    prepare: Callable[[Path, Path], None] = lambda _materials, folder: (folder / "out").mkdir()
    code: int = 0  # of a run that ends: 3 where an item cannot be read

    def begin(self, folder: Path) -> None:
        """Make `folder` ready for the command."""
        folder.mkdir(parents=True, exist_ok=True)
        self.prepare(materials(), folder)

    def start(
        self, folder: Path, *, more: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> Process:
        """The command, running in `folder`. more: options of it."""
        told = self.command.format(given=materials()).split()
        return Process([*told, *more], folder, env=env)

    def whole(self) -> Whole:
        """What the command makes when nothing disturbs it."""
        return _whole(self)


@dataclass(frozen=True)
class Whole:
    """Of an undisturbed run: the content of its folder, how long it took, and its first change."""

    content: dict[str, str]
    seconds: float
    first_change: float


@cache
def _whole(stage: Stage) -> Whole:
    folder = Path(tempfile.mkdtemp(prefix=f"fault-{stage.name}-")).resolve()
    try:
        stage.begin(folder)
        before, started = listing(folder), time.monotonic()
        process = stage.start(folder)
        while listing(folder) == before and process.running():
            time.sleep(0.01)
        first_change = time.monotonic() - started
        ended = process.end()
        assert ended.code == stage.code, ended
        return Whole(content(folder), time.monotonic() - started, first_change)
    finally:
        shutil.rmtree(folder)


def content(folder: Path) -> dict[str, str]:
    """A digest of every file by its name, without the times in it and the name of the folder."""
    return {
        path.relative_to(folder).as_posix(): digest(path, folder)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def digest(path: Path, folder: Path) -> str:
    """Of a file's content, without times and the name of the folder."""
    read = path.read_bytes()
    if path.suffix in (".json", ".jsonl"):
        lines = [read] if path.suffix == ".json" else read.splitlines()
        told = [_without_chance(json.loads(line)) for line in lines]
        read = json.dumps(told, sort_keys=True).encode()
    return hashlib.sha256(read.replace(str(folder).encode(), b"FOLDER")).hexdigest()


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file that is there right now."""
    found = {}
    for path in folder.rglob("*"):
        try:
            state = path.stat()
        except FileNotFoundError:
            continue
        found[str(path)] = (state.st_size, state.st_mtime_ns)
    return found


def _without_chance(told: Any) -> Any:
    if isinstance(told, dict):
        return {name: _without_chance(one) for name, one in told.items() if name not in _BY_CHANCE}
    return [_without_chance(one) for one in told] if isinstance(told, list) else told


def _bring(*names: str) -> Callable[[Path, Path], None]:
    """Puts copies of materials into the folder, beside which something is written."""

    def prepare(given: Path, folder: Path) -> None:
        (folder / "out").mkdir()
        for name in names:
            copy = shutil.copytree if (given / name).is_dir() else shutil.copyfile
            copy(given / name, folder / name)

    return prepare


def _recipe(given: Path, folder: Path) -> None:
    encoder = f"mini:{given / 'encoder.safetensors'}"
    (folder / "small.toml").write_text(f"""
folder = "out"
device = "cpu"

[memory.texts]
extract = "{given / "pairs.csv"}"
column = "text"
encoder = "{encoder}"
modality = "text"
batch_size = 4

[memory.pictures]
extract = "{given / "pictures"}"
encoder = "{encoder}"
modality = "image"
batch_size = 4

[memory.others]
file = "{given / "a.h5"}"

[train]
hub = ["others", "more"]
preset = "published"
method = "procrustes"
dimension = {DIMENSION}

[memory.more]
file = "{given / "b.h5"}"

[project]
memories = ["others"]

[index]
kind = "flat"
""")


_EXTRACT = (
    "extract {given}/pictures -e mini:{given}/encoder.safetensors -m image -o out/pictures.h5 "
    "--batch-size 4 --device cpu --resume"
)
_TRAIN = (
    "train --hub {given}/a.h5 --hub {given}/b.h5 --leaf {given}/leaf-a.h5 --leaf {given}/leaf-b.h5 "
    f"--dimension {DIMENSION} --device cpu -o out/bridge --resume"
)
_PUBLISHED = "--preset published --hidden 8"

STAGES = (
    Stage("extract", f"{_EXTRACT} --workers 2", code=3),
    Stage("shard", f"{_EXTRACT} --workers 0 --shard 2/3", code=3),
    Stage(
        "merge",
        "merge {given}/shards/pictures.3-of-3.h5 {given}/shards/pictures.1-of-3.h5 "
        "{given}/shards/pictures.2-of-3.h5 -o out/pictures.h5",
        code=3,
    ),
    Stage("import", "import {given}/rows.npy -m image -s a -o out/rows.h5", code=3),
    Stage("index", "index {given}/many-a.h5 -o out/many.faiss --kind hnsw"),
    Stage(
        "pseudo-pairs",
        "train --hub {given}/many-a.h5 --hub {given}/many-b.h5 --leaf many-leaf-a.h5 "
        f"--leaf many-leaf-b.h5 --dimension {DIMENSION} --device cpu -o out/bridge --resume "
        f"{_PUBLISHED} --epochs 1 --batch 256 --holdout 0",
        _bring("many-leaf-a.h5", "many-leaf-b.h5"),
    ),
    Stage("train", f"{_TRAIN} {_PUBLISHED} --epochs 60 --batch 64"),
    Stage("closed-form", f"{_TRAIN} --method procrustes"),
    Stage("mixture", f"{_TRAIN} --hidden 8 --epochs 2"),
    Stage(
        "fit",
        "fit {given}/pairs.csv -m image=path -m text=text --steps 10 --dimension 8 --batch 16 "
        "--device cpu -o out/own.safetensors",
    ),
    Stage("export", "export {given}/many-a.h5 -o out/many.npy"),
    Stage("export-folder", "export {given}/many-a.h5 -o out/many"),
    Stage("init", "init demo -o out/demo.toml"),
    Stage("run", "run small.toml", _recipe, code=3),
    Stage(
        "eval",
        "eval --bridge bridge --query {given}/leaf-a.h5 --gallery {given}/leaf-b.h5 --device cpu "
        "--resamples 100",
        _bring("bridge"),
    ),
    Stage("push", "push {given}/bridge ./out/shared"),
    Stage("pull", "pull {given}/bridge -o out/pulled"),
)

BY_NAME = {stage.name: stage for stage in STAGES}
