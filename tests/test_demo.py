"""The demo on a small part of its data: it runs, keeps what is there, and draws."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import bridge.demo
from cli.main import app
from features import keypad_files


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keypad_files, "TRAIN_SAMPLES", 1)
    monkeypatch.setattr(keypad_files, "TEST_SAMPLES", 1)
    monkeypatch.setattr(keypad_files, "SENTENCES", 2)
    monkeypatch.setattr(bridge.demo, "SETTINGS", replace(bridge.demo.SETTINGS, epochs=12))


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_demo_answers_far_above_chance_and_keeps_what_is_there(tmp_path: Path) -> None:
    first = CliRunner().invoke(app, ["demo", "--out", str(tmp_path), "--json"])
    assert first.exit_code == 0, first.output
    answer = json.loads(first.stdout)
    for task in answer["tasks"].values():
        assert task["r1_unpaired"] > 20 * task["r1_chance"]
        assert task["share"] == pytest.approx(task["r1_unpaired"] / task["r1_true_pairs"])
    for picture in answer["pictures"]:
        with Image.open(picture) as image:
            assert min(image.size) > 300
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "bridges").rglob("*.safetensors")}
    assert len(kept) == 4

    again = CliRunner().invoke(app, ["demo", "--out", str(tmp_path)])
    assert again.exit_code == 0, again.output
    assert "audio -> image" in again.stdout
    assert "points -> text" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
