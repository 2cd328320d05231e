"""Folders in which the pages' commands run: a small demo, and stand-ins for published models."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import bridge.demo
from cli.main import app
from features import keypad, keypad_files
from tests.test_guide import journey as journey

TRAINED, ASKED = 17, 9  # every so many of the demo's numbers
NAMED, SEEN = "333", "371"  # the numbers that the pages ask for, untrained and trained
SHORT = ("--epochs", "2", "--dimension", "16", "--hidden", "32")


@pytest.fixture(scope="session")
def small_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `mcr demo`, of few numbers and short trainings."""
    folder = tmp_path_factory.mktemp("pages") / "demo"
    some = {"train": keypad.numbers("train")[::TRAINED], "test": keypad.numbers("test")[::ASKED]}
    some = {"train": [*some["train"], SEEN], "test": [*some["test"], NAMED]}
    some = {split: sorted({*numbers}) for split, numbers in some.items()}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("bridge.demo.SETTINGS", replace(bridge.demo.SETTINGS, epochs=2))
        patched.setattr(keypad_files.keypad, "numbers", lambda split: some[split])
        patched.setattr(keypad_files, "TRAIN_SAMPLES", 2)
        patched.setattr("features.extraction.decode_batches.cpu_count", lambda: 1)
        torch.set_num_threads(1)
        result = CliRunner().invoke(app, ["demo", "--out", str(folder)])
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def demo(
    small_demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """A folder with the small demo in it, as `make demo` leaves it in a checkout."""
    shutil.copytree(small_demo, tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("features.extraction.decode_batches.cpu_count", lambda: 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield {}
    torch.set_num_threads(threads)
