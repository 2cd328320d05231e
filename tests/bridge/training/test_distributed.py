"""Two processes that train together do as one does; a lost one is said, and made good."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bridge.artefact import load
from bridge.evaluation.retrieval import evaluate_retrieval
from bridge.runs.record import settings_toml
from bridge.training.distributed import ALONE, Ranks
from bridge.training.train import train
from features.errors import UserError
from tests.bridge.conftest import World, metrics_of
from tests.bridge.parts import with_parts
from tests.bridge.training.together import CASES, DEEP, formulas, memories

ROOT = Path(__file__).parents[3]
LOST = "has ended or does not answer: start the same command again"


@pytest.fixture(scope="module")
def parted(tmp_path_factory: pytest.TempPathFactory) -> World:
    """As `world`, with parts and sentences."""
    folder = tmp_path_factory.mktemp("parted")
    for space in ("left", "right"):
        with_parts(folder / f"text-{space}.h5", space, "text", range(100), sentences=True)
    with_parts(folder / "audio.h5", "left", "audio", range(200, 264))
    with_parts(folder / "image.h5", "right", "image", range(300, 356))
    hub, leaf = memories(folder)
    return World(
        folder,
        hub=(hub[0], hub[1]),
        leaf=(leaf[0], leaf[1]),
        test=(
            with_parts(folder / "audio-test.h5", "left", "audio", range(400, 440)),
            with_parts(folder / "image-test.h5", "right", "image", range(500, 540)),
        ),
    )


def torchrun(*arguments: object) -> subprocess.Popen[str]:
    """Two processes of a module, each with one thread."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        *map(str, arguments),
    ]  # fmt: skip
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture(scope="module")
def together(parted: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of what two processes made of every case."""
    out = tmp_path_factory.mktemp("together")
    process = torchrun("-m", "tests.bridge.training.together", parted.folder, out)
    _, told = process.communicate(timeout=240)
    assert process.returncode == 0, told
    return out


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one_does(
    parted: World, together: Path, tmp_path: Path, case: str
) -> None:
    alone = train(parted.hub, parted.leaf, tmp_path / case, CASES[case], device="cpu")
    files, of_both = (
        {path.name for path in (folder / case).iterdir()} for folder in (tmp_path, together)
    )
    assert files == of_both
    mine, theirs = (
        metrics_of(folder / case) if "metrics.jsonl" in files else []
        for folder in (tmp_path, together)
    )
    for one, other in zip(mine, theirs, strict=True):
        losses = {name: one[name] for name in one if not name.startswith("held_out")}
        assert losses == pytest.approx({name: other[name] for name in losses}, abs=1e-4)
    shared = load(together / case)
    assert shared.metrics == pytest.approx(alone.metrics, abs=1e-4)
    assert [asdict(one) for one in shared.memories] == [asdict(one) for one in alone.memories]
    here, there = (evaluate_retrieval(one, *parted.test) for one in (alone, shared))
    assert asdict(here) == asdict(there)


def test_losses_and_gradients_are_those_of_the_whole_batch(together: Path) -> None:
    expected, found = formulas(ALONE), load_file(together / "formulas")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-9, atol=1e-11), name
    for name in ("info_nce", "cwcl", "soft", "cma", "lmi", "BatchNorm"):
        assert expected[f"{name}: left"].abs().sum() > 1e-3


def test_a_share_is_every_row_once_and_none_is_left_without() -> None:
    for rows in (5, 6, 17):
        shares = [Ranks(rank, 5).share(rows).mine for rank in range(5)]
        assert [row for one in shares for row in range(rows)[one]] == list(range(rows))
        assert {one.stop - one.start for one in shares} <= {rows // 5, rows // 5 + 1}
    assert Ranks(0, 5).share(5).mine == slice(0, 1)
    with pytest.raises(UserError, match="a batch of 4 items cannot be shared by 5 processes"):
        Ranks(0, 5).share(4)


def command(world: World, out: Path, *more: object) -> list[object]:
    hub, leaf = (
        [part for memory in some for part in (option, memory.path)]
        for option, some in (("--hub", world.hub), ("--leaf", world.leaf))
    )
    return ["-m", "cli", "train", *hub, *leaf, "--out", out, "--device", "cpu", *more]


def process_of(rank: int, parent: int) -> int:
    """The id of the process that torchrun, of id `parent`, started as number `rank`."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            of = (folder / "stat").read_text().rsplit(")", 1)[1].split()[1]
            known = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if int(of) == parent and f"RANK={rank}".encode() in known:
            return int(folder.name)
    raise ProcessLookupError(rank)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
def test_a_lost_process_is_told_once_and_the_training_goes_on(
    parted: World, tmp_path: Path
) -> None:
    config, out = tmp_path / "settings.toml", tmp_path / "out"
    settings = replace(DEEP, batch=80, epochs=400)
    config.write_text(settings_toml(settings))
    arguments = command(parted, out, "--config", config)
    for lost in (0, 1):
        seen = newest(out)
        process = torchrun(*arguments)
        deadline = time.monotonic() + 120
        while newest(out) in (seen, None):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
        os.kill(process_of(lost, process.pid), signal.SIGKILL)
        _, told = process.communicate(timeout=60)
        assert process.returncode
        assert told.count(LOST) == 1
        assert told.count("error:") == 1
        assert not (out / "bridge.json").exists()
    again = subprocess.run(
        [sys.executable, *map(str, arguments)],  # with one process less
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False, timeout=120,
        capture_output=True, text=True,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    train(parted.hub, parted.leaf, tmp_path / "whole", settings, device="cpu")
    for one, other in zip(metrics_of(tmp_path / "whole"), metrics_of(out), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-4)
    assert load(out).metrics == pytest.approx(load(tmp_path / "whole").metrics, abs=1e-4)


def newest(folder: Path) -> str | None:
    """The name of the last checkpoint."""
    path = folder / "checkpoint.json"
    return json.loads(path.read_text("utf-8"))["tensors"] if path.exists() else None


def test_an_error_of_one_process_ends_both_with_one_sentence(parted: World, tmp_path: Path) -> None:
    # Each process looks for memories in a folder of its own, and one finds another memory there.
    for rank in (0, 1):
        folder = tmp_path / str(rank)
        folder.mkdir()
        for memory in (*parted.hub, *parted.leaf):
            source = parted.folder / "audio-test.h5" if "audio" in memory.path.name and rank else (
                memory.path
            )  # fmt: skip
            (folder / memory.path.name).symlink_to(source)
    process = torchrun("--no-python", "sh", "-c", SCRIPT, sys.executable, tmp_path)
    _, told = process.communicate(timeout=60)
    assert process.returncode
    assert told.count("error:") == 1
    assert "error: process 1 of 2 has other memories or settings than the first" in told


SCRIPT = f"""cd "$1/$RANK" && PYTHONPATH={ROOT} exec "$0" -m cli train --preset published \
--hub text-left.h5 --hub text-right.h5 --leaf audio.h5 --leaf image.h5 --out ../out --device cpu"""
