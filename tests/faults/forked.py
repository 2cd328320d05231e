"""`mcr` in processes that are forked from one with everything imported: hundreds in minutes.

Run as `python -m tests.faults.forked`, it reads a line of JSON for each command, and answers with
its exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

ROOT = Path(__file__).parents[2]
IMPORTED = (
    "h5py", "faiss", "torch", "bridge", "bridge.search", "bridge.training.train", "cli.main",
    "features.exchange.exporting", "features.exchange.importing", "features.extraction.extract",
    "features.encoders.mini.encoder", "features.memories.merging", "features.search.building",
    "bridge.pseudo_pairs.cache", "bridge.evaluation.retrieval_result", "bridge.recipe.running",
    "pyarrow.parquet", "features.encoders.mini.fit", "torch._dynamo", "safetensors.torch",
)  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    stdout: str
    stderr: str


class Commands:
    """Runs `mcr`, each time in a process of its own with the shim preloaded."""

    def __init__(self, folder: Path, shim: Path) -> None:
        """folder: for what commands say."""
        self.folder = folder
        environment = {**os.environ, "LD_PRELOAD": str(shim), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.forked"], cwd=ROOT, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(
        self, arguments: Sequence[object], environment: Mapping[str, str], *, file_bytes: int = 0
    ) -> Ended:
        """file_bytes: that a file may have at most (ulimit -f); 0 for any number."""
        told = [self.folder / name for name in ("stdout", "stderr")]
        asked = {
            "arguments": [str(one) for one in arguments],
            "environment": dict(environment),
            "told": [str(path) for path in told],
            "file_bytes": file_bytes,
        }
        stdin, stdout = cast("IO[str]", self._process.stdin), cast("IO[str]", self._process.stdout)
        stdin.write(json.dumps(asked) + "\n")
        stdin.flush()
        code = int(stdout.readline())
        return Ended(code, *(path.read_text("utf-8") for path in told))

    def close(self) -> None:
        """End the process that others are forked from."""
        self._process.communicate()


def _serve() -> None:
    """Fork for every line; the child returns and runs the command."""
    for name in IMPORTED:
        importlib.import_module(name)
    # Small data decides as large data does: every epoch a checkpoint, all pairs kept.
    from bridge.pseudo_pairs import cache
    from bridge.training import run

    run.CHECKPOINT_SECONDS, cache.LEAST_SCORES = -1.0, 1
    while line := sys.stdin.readline():
        child = os.fork()
        if not child:
            _become(json.loads(line))
            return
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
    sys.exit()


def _become(asked: Mapping[str, object]) -> None:
    import resource

    os.environ.update(cast("dict[str, str]", asked["environment"]))
    for number, path in enumerate(cast("list[str]", asked["told"]), start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if asked["file_bytes"]:
        most = cast("int", asked["file_bytes"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    sys.argv = ["mcr", *cast("list[str]", asked["arguments"])]


if __name__ == "__main__":
    _serve()
    from cli.main import run as run_command

    run_command()
