"""The commands of docs/pictures.md run, in the order of the page, and make its pictures."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from cli.plot import KINDS
from tests.cli.conftest import done
from tests.test_guide import ROOT, commands

pytest.importorskip("matplotlib")
GUIDE = ROOT / "docs" / "pictures.md"
MEMORIES = {
    "audio-mini-clap-test3": "sounds",
    "audio-mini-clap-train": "sounds",
    "image-mini-clip-test": "images",
    "image-mini-clip-train": "images",
    "text-mini-clap-train": "text-hears",
    "text-mini-clip-train": "text-sees",
    "text-mini-clip-test": "text-sees",
}


@pytest.fixture
def demo(workshop, tmp_path, monkeypatch) -> Path:
    """The workshop's files under the names of the demo's."""
    monkeypatch.chdir(tmp_path)
    for folder in ("memories", "bridges"):
        (tmp_path / "demo" / folder).mkdir(parents=True)
    for name, known in MEMORIES.items():
        (tmp_path / "demo" / "memories" / f"{name}.h5").symlink_to(workshop.memory(known))
    for name in ("audio-image", "audio-image-true-pairs"):
        bridge = tmp_path / "demo" / "bridges" / name
        bridge.mkdir()
        for file in workshop.sound_bridge.iterdir():
            if file.is_file():
                (bridge / file.name).write_bytes(file.read_bytes())
    return tmp_path / "demo"


def test_the_commands_of_the_page_make_its_pictures(demo):
    kinds = []
    for command in commands(GUIDE):
        words = shlex.split(command)
        assert words[0] == "mcr"
        done(*words[1:])
        kinds += words[2:3] if words[1] == "plot" else []
    assert sorted(kinds) == sorted(KINDS)
    shown = re.findall(r"\]\(pictures/([^)]+)\)", GUIDE.read_text(encoding="utf-8"))
    assert len(shown) == len(KINDS)
    for name in shown:
        assert (demo.parent / name).stat().st_size > 1000
        assert (ROOT / "docs" / "pictures" / name).stat().st_size < 150_000
    assert (demo / "bridges" / "audio-image" / "report.html").exists()


def test_the_python_of_the_page_runs(demo):
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    exec(code, {})
    assert (demo.parent / "histogram-dark.pdf").read_bytes().startswith(b"%PDF")
