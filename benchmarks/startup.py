"""How long `mcr --help` and a whole `mcr query` take, against their floors.

python -m benchmarks startup --items 1000000 --dimension 512

The query is a sentence for mini-clip and mini-clap, asked through a bridge of an index of random
clustered vectors. Its floor is a Python that imports torch, which encodes the sentence.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch

from benchmarks.clusters import clustered
from benchmarks.machine import medians
from benchmarks.report import parser, report
from bridge.artefact import Bridge, BridgedSpace, make_projector
from bridge.config import TrainSettings
from features.encoders import load_encoder
from features.memories.memory import Columns, MemoryHeader
from features.memories.writing import write_memory
from features.search.building import build_index


def main() -> None:
    """Print the median times."""
    options = parser(__doc__, repeats=7)
    options.add_argument("--items", type=int, default=1_000_000)
    options.add_argument("--dimension", type=int, default=512)
    options.add_argument("--kind", default="flat", help="of index, as for `mcr index`")
    arguments = options.parse_args()
    mcr = shutil.which("mcr", path=str(Path(sys.executable).parent)) or "mcr"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _make(folder, arguments.items, arguments.dimension, arguments.kind)
        query = [mcr, "query", "three hundred thirty three", "-b", str(folder / "bridge")]
        commands = {
            "mcr --help": [mcr, "--help"],
            "mcr train --help": [mcr, "train", "--help"],
            "mcr query": [*query, "-i", str(folder / "items.faiss")],
            "python -c 'import torch'": [sys.executable, "-c", "import torch"],
            "python -c pass": [sys.executable, "-c", "pass"],
        }
        times = medians(
            {
                name: partial(subprocess.run, command, check=True, capture_output=True)
                for name, command in commands.items()
            },
            repeats=arguments.repeats,
        )
    sizes = {"items": arguments.items, "dimension": arguments.dimension, "index": arguments.kind}
    report("Start-up", times, ours="mcr query", sizes=sizes, json_file=arguments.json)


def _make(folder: Path, items: int, dimension: int, kind: str) -> None:
    settings = TrainSettings(dimension=dimension)
    generator = torch.Generator().manual_seed(0)
    spaces = []
    for name in ("mini-clip", "mini-clap"):
        encoder = load_encoder(name, device="cpu")
        space = encoder.space
        described = encoder.description.as_dict()
        spaces.append(BridgedSpace(space.name, space.dimension, space.modalities, described))
    projectors = {
        space.name: make_projector(space.dimension, settings, generator) for space in spaces
    }
    bridge = Bridge("bridge", spaces, projectors, settings)
    bridge.save(folder / "bridge")
    header = MemoryHeader(
        "bridge", "image", dimension, root="/data", extra={"bridge": bridge.fingerprint}
    )
    columns = Columns(
        [f"{row:09d}" for row in range(items)],
        [f"{row // 10_000:05d}/{row:09d}.jpg" for row in range(items)],
    )
    memory = write_memory(
        folder / "items.h5", header, columns, clustered(items, dimension), checked=True,
        synced=False,
    )  # fmt: skip
    build_index(memory, folder / "items.faiss", kind=kind)


if __name__ == "__main__":
    main()
