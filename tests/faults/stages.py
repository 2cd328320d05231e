"""The stages that are disturbed: a small command each, and what it makes undisturbed."""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from features.memories.writing import save_memory
from features.space import modality_named
from tests.faults import shim
from tests.faults.forked import Commands, Ended
from tests.faults.shim import Kind

# Say when, how long, or with what command; everything else is the same each time.
CHANGING = ("run.json", "journal.json", "metrics.jsonl", "README.md")
SPACES = {"hears": "audio", "sees": "image"}
SMALL = (
    "--dimension", 8, "--hidden", 16, "--epochs", 3, "--preset", "published", "--device", "cpu",
)  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """A command that writes below a folder.

    arguments: of the shop, and the folder. fills: what the folder has before.
    """

    name: str
    arguments: Callable[[Shop, Path], list[object]]
    fills: Callable[[Shop, Path], object] = field(default=lambda _shop, _folder: None)


class Shop:
    """Small inputs of all stages, and what the stages make of them undisturbed."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="faults-shop-"))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        self.commands = Commands(self.folder, shim.library(self.folder))
        atexit.register(self.commands.close)
        self._counts: dict[tuple[str, str], int] = {}
        (self / "texts.txt").write_text("".join(f"the number {i}\n" for i in range(120)))
        for i in range(12):
            Image.new("L", (16, 16), 20 * i).save(self / f"{i}.png")
        pairs = "".join(f"{i}.png,the number {i}\n" for i in range(12))
        (self / "pairs.csv").write_text(f"path,text\n{pairs}")
        generator = np.random.default_rng(0)
        np.save(self / "rows.npy", _unit(generator, 90, 12))
        for space, modality in SPACES.items():
            for role, kind in (("hub", "text"), ("leaf", modality)):
                ids = [f"{kind}-{i}" for i in range(100)]
                save_memory(
                    self / f"{role}-{space}.h5", _unit(generator, 100, 12), ids, space=space,
                    modality=modality_named(kind), labels=[i % 9 for i in range(100)],
                )  # fmt: skip

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    @cached_property
    def bridge(self) -> Path:
        """Joins both spaces."""
        self.must(*train(self, self / "bridge"))
        return self / "bridge"

    @cached_property
    def parts(self) -> list[Path]:
        """Shards of an extraction."""
        for number in (1, 2, 3):
            self.must(*extract(self, self / "part.h5"), "--shard", f"{number}/3")
        return [self / f"part.{number}-of-3.h5" for number in (1, 2, 3)]

    def run(
        self,
        stage: Stage,
        out: Path,
        kind: Kind | None = None,
        at: int = 0,
        log: Path | None = None,
    ) -> Ended:
        """The stage's command, with the fault at a call, if any."""
        told = shim.variables(kind, out, at, log)
        return self.commands.run(stage.arguments(self, out), told)

    def must(self, *arguments: object) -> None:
        """Run a command that must succeed."""
        ended = self.commands.run(arguments, {})
        assert ended.code == 0, ended.stderr

    def undisturbed(self, stage: Stage) -> dict[str, bytes]:
        """What the stage makes."""
        return content(self._made(stage))

    def calls(self, stage: Stage, kind: Kind) -> int:
        """How many calls of a kind the stage makes undisturbed."""
        key = (stage.name, kind.calls)
        if key not in self._counts:
            log, out = self / "calls", self / "counted" / "out"
            shutil.rmtree(out.parent, ignore_errors=True)
            out.mkdir(parents=True)
            stage.fills(self, out)
            ended = self.run(stage, out, kind, 0, log)
            assert ended.code == 0, ended.stderr
            lines = log.read_text().split() if log.exists() else []
            log.unlink(missing_ok=True)
            self._counts[key] = max(map(int, lines), default=0)
        return self._counts[key]

    def _made(self, stage: Stage) -> Path:
        out = self / f"made-{stage.name}" / "out"
        if not out.parent.exists():
            out.mkdir(parents=True)
            stage.fills(self, out)
            ended = self.run(stage, out)
            assert ended.code == 0, ended.stderr
        return out


def _unit(generator: np.random.Generator, count: int, dimension: int) -> NDArray[np.float32]:
    rows = generator.normal(size=(count, dimension)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@cache
def shop() -> Shop:
    """The shop of this process."""
    return Shop()


def content(folder: Path) -> dict[str, bytes]:
    """What is in the files of a folder, without its own path; of some the names alone."""
    return {
        path.relative_to(folder).as_posix(): b""
        if path.name in CHANGING
        else _without(str(folder).encode(), path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _without(path: bytes, text: bytes) -> bytes:
    """A file as it would be in another folder; a checksum over the path is left out."""
    if path not in text:
        return text
    return re.sub(rb'"checksum": "\w+"', b"", text.replace(path, b"OUT"))


def extract(shop: Shop, out: Path) -> list[object]:
    """The texts as a memory."""
    return [
        "extract", shop / "texts.txt", "-e", "mini-clip", "-m", "text", "-o", out,
        "--batch-size", 16, "--device", "cpu",
    ]  # fmt: skip


def train(shop: Shop, out: Path) -> list[object]:
    """A bridge of two spaces."""
    named = [(f"--{role}", shop / f"{role}-{space}.h5")
             for role in ("hub", "leaf") for space in SPACES]  # fmt: skip
    return ["train", *(one for pair in named for one in pair), "-o", out, *SMALL, "--no-cache"]


def _train_kept(shop: Shop, out: Path) -> list[object]:
    """Leaf memories in the folder, beside which pseudo pairs are kept."""
    hub = [one for space in SPACES for one in ("--hub", shop / f"hub-{space}.h5")]  # fmt: skip
    leaf = [one for space in SPACES for one in ("--leaf", out / f"{space}.h5")]
    return ["train", *hub, *leaf, "-o", out.parent / "bridge", *SMALL, "--overwrite"]


def _leaves(shop: Shop, out: Path) -> None:
    for space in SPACES:
        shutil.copy(shop / f"leaf-{space}.h5", out / f"{space}.h5")


def _recipe(shop: Shop, out: Path) -> None:
    memories = "".join(
        f'[memory.{name}]\nextract = "{shop / "texts.txt"}"\nencoder = "{space}"\n'
        'modality = "text"\n\n'
        for name, space in (("left", "mini-clip"), ("right", "mini-clap"))
    )
    (out / "small.toml").write_text(
        f'folder = "made"\ndevice = "cpu"\n\n{memories}[train]\nhub = ["left", "right"]\n'
        'preset = "published"\ndimension = 8\nhidden = 16\nepochs = 2\n\n'
        '[project]\nmemories = ["left"]\n\n[index]\nmemories = ["left"]\n'
    )


def _export(suffix: str) -> Stage:
    return Stage(
        f"export {suffix}",
        lambda shop, out: ["export", shop / "hub-sees.h5", "-o", out / f"rows{suffix}"],
    )


STAGES = [
    Stage("extract", lambda shop, out: extract(shop, out / "memory.h5")),
    Stage(
        "extract shard",
        lambda shop, out: [*extract(shop, out / "memory.h5"), "--shard", "2/3"],
    ),
    Stage(
        "merge",
        lambda shop, out: [
            "merge", *shop.parts, "-o", out / "all.h5",
        ],
    ),
    Stage(
        "import",
        lambda shop, out: [
            "import", shop / "rows.npy", "-m", "image", "-s", "mine", "-o", out / "rows.h5",
        ],
    ),
    Stage(
        "project",
        lambda shop, out: [
            "project", shop / "hub-sees.h5", "-b", shop.bridge, "-o", out / "shared.h5",
        ],
    ),
    Stage(
        "index", lambda shop, out: ["index", shop / "hub-sees.h5", "-o", out / "all.faiss"]
    ),
    Stage("pseudo-pairs", _train_kept, _leaves),
    Stage("train", lambda shop, out: train(shop, out / "bridge")),
    Stage(
        "fit",
        lambda shop, out: [
            "fit", shop / "pairs.csv", "-m", "image=path", "-m", "text=text",
            "-o", out / "mine.safetensors", "--steps", 1, "--device", "cpu",
        ],
    ),
    Stage(
        "eval",
        lambda shop, out: [
            "eval", "--query", shop / "leaf-hears.h5", "--gallery", shop / "leaf-sees.h5",
            "--bridge", shop.bridge, "-o", out / "result.json",
        ],
    ),
    Stage("recipe", lambda _, out: ["run", out / "small.toml"], _recipe),
    *map(_export, (".npy", ".npz", ".parquet", ".safetensors", ".fbin")),
]  # fmt: skip
