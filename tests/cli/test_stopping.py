"""Ctrl-C and a full disk: what was done stays, and the same command ends with the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import progress
from tests.bridge.conftest import InterruptAfter
from tests.cli.conftest import SMALL, Workshop, done, mcr

ROOT = Path(__file__).parents[2]
STOPPED = "stopped: run the same command again to continue"


def sentences(folder: Path, count: int) -> Path:
    path = folder / "sentences.txt"
    path.write_text("".join(f"the number {i}\n" for i in range(count)))
    return path


def extract(workshop: Workshop, source: Path, out: Path, *more: object) -> tuple[object, ...]:
    return (
        "extract", source, "-e", workshop.specs["sees"], "-m", "text", "-o", out,
        "--device", "cpu", "--dtype", "float32", *more,
    )  # fmt: skip


def wait_for(path: Path) -> None:
    for _ in range(12_000):
        if path.exists() and path.stat().st_size:
            return
        time.sleep(0.005)
    raise TimeoutError(path)


def start(*arguments: object) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "cli", *map(str, arguments)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A job in the background of a shell has Ctrl-C ignored, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def test_an_extraction_that_gets_ctrl_c_leaves_with_130_and_continues(workshop, tmp_path):
    source, out = sentences(tmp_path, 2000), tmp_path / "out.h5"
    arguments = extract(workshop, source, out, "--batch-size", 2)
    process = start(*arguments)
    wait_for(tmp_path / "out.h5.partial" / "journal.jsonl")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, "")
    assert stderr.splitlines()[-1] == STOPPED
    assert "Traceback" not in stderr
    assert not out.exists()
    again = done(*arguments)
    assert " of 2000 items were done before" in again.stderr
    assert not (tmp_path / "out.h5.partial").exists()
    elsewhere = tmp_path / "whole.h5"
    done(*extract(workshop, source, elsewhere, "--batch-size", 2))
    assert out.read_bytes() == elsewhere.read_bytes()


def test_a_training_that_gets_ctrl_c_leaves_with_130_and_continues(workshop, tmp_path, monkeypatch):
    hub = ("--hub", workshop.memory("text-hears"), "--hub", workshop.memory("text-sees"))
    arguments = ("train", *hub, *SMALL, "--epochs", 5)
    with monkeypatch.context() as patched:
        patched.setattr("bridge.training.run.CHECKPOINT_SECONDS", -1.0)
        patched.setattr(progress, "BarProgress", lambda: InterruptAfter(3))
        result = mcr(*arguments, "-o", tmp_path / "bridge")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", STOPPED + "\n")
    unfinished = mcr("info", tmp_path / "bridge")
    assert unfinished.exit_code == 1
    assert "is not finished: run the same `mcr train` command again" in unfinished.stderr
    done(*arguments, "-o", tmp_path / "bridge")
    done(*arguments, "-o", tmp_path / "whole")
    weights = [tmp_path / name / "bridge.safetensors" for name in ("bridge", "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs root, to mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def resize(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def refused_for_space(disk: Path, *arguments: object) -> None:
    """The command says that the disk is full. In a process, because HDF5 could crash it."""
    process = start(*arguments)
    stdout, stderr = process.communicate(timeout=100)
    assert (process.returncode, stdout) == (1, ""), stderr
    last = stderr.splitlines()[-1]
    assert "Traceback" not in stderr
    assert last.startswith(f"error: the disk is full: {disk}")
    assert last.endswith("make room and run the same command again")
    assert list(disk.rglob("*.tmp")) == []


# 2,000 rows of 12 x 4 bytes: 96 kB of rows, and a memory of about 180 kB beside them.
@pytest.mark.parametrize("size", ["64k", "160k"])
def test_a_full_disk_is_told_and_the_extraction_continues(workshop, tmp_path, small_disk, size):
    resize(small_disk, size)
    source = sentences(tmp_path, 2000)
    arguments = extract(workshop, source, small_disk / "out.h5", "--batch-size", 64)
    refused_for_space(small_disk, *arguments)
    assert not (small_disk / "out.h5").exists()
    resize(small_disk, "4m")
    again = done(*arguments)
    assert " of 2000 items were done before" in again.stderr
    assert sorted(path.name for path in small_disk.iterdir()) == ["out.h5"]
    done(*extract(workshop, source, tmp_path / "whole.h5", "--batch-size", 64))
    assert (small_disk / "out.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


@pytest.mark.parametrize("command", ["train", "project", "index", "fit"])
def test_a_full_disk_is_told_by_every_command(workshop, small_disk, command):
    (small_disk / "filling").write_bytes(b"\0" * 60_000)
    hub = ("--hub", workshop.memory("text-hears"), "--hub", workshop.memory("text-sees"))
    fit = ("fit", workshop.files / "images.csv", "-m", "image=path", "-m", "text=key")
    arguments = {
        "train": ("train", *hub, "-o", small_disk / "bridge", *SMALL, "--hidden", 1000),
        "project": ("project", workshop.memory("images"), "-b", workshop.sound_bridge,
                    "-o", small_disk / "out.h5"),
        "index": ("index", workshop.memory("shared"), "-o", small_disk / "out.faiss",
                  "--kind", "hnsw"),
        "fit": (*fit, "--steps", 1, "-o", small_disk / "out.safetensors"),
    }  # fmt: skip
    refused_for_space(small_disk, *arguments[command])
