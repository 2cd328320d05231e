"""docs/serving.md: its command starts a server, and its request and its Python are answered.

Two dozen numbers stand aside for the demo, under the demo's names.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from bridge.artefact import load
from bridge.projection import project_memory
from bridge.serving.limits import Limits
from features.memories.memory import Memory
from features.search.building import build_index
from tests.bridge.serving.place import NUMBERS, Place, serving

GUIDE = (Path(__file__).parents[3] / "docs" / "serving.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def demo(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the guide serves."""
    folder = tmp_path_factory.mktemp("guide") / "demo"
    for name, gallery, index in (
        ("audio-image", "pictures-own", "image-audio-image-test"),
        ("points-text", "texts", "text-points-text-test"),
    ):
        bridge = load(place.bridge, device="cpu")
        bridge.name = name
        bridge.save(folder / "bridges" / name)
        out = folder / "memories" / f"{index}.h5"
        memory = project_memory(bridge, Memory(place.memory(gallery)), out)
        build_index(memory, out.with_suffix(".faiss"))
    shutil.copy(place.memory("sounds"), folder / "memories" / "audio-mini-clap-test3.h5")
    (folder / "data" / "sounds").mkdir(parents=True)
    shutil.copy(place.file("sounds", NUMBERS[0]), folder / "data" / "sounds" / "435-0.wav")
    return folder


def _code(language: str) -> list[str]:
    """The guide's indented commands, or its fenced blocks of a language."""
    if language:
        return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    return [
        block.replace("\n    ", "\n") for block in re.findall(r"\n\n    (.*?)\n\n", GUIDE, re.S)
    ]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_everything_in_the_guide_works(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = "\n".join(_code("")).replace("\\\n", " ").splitlines()
    (served,) = [line for line in commands if line.startswith("mcr serve")]
    arguments = shlex.split(served.replace("demo/", f"{demo}/"))[2:]
    monkeypatch.chdir(demo.parent)
    with serving(*arguments) as running:
        (request,) = re.findall(r"-d '(\{.*?\})'\n", GUIDE, re.DOTALL)
        answer = httpx.post(f"{running.address}/v1/search", json=json.loads(request), timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.json()["results"][0]["neighbours"]
        (upload,) = re.findall(r"\n    (printf .*?-d @-)\n", GUIDE, re.DOTALL)
        told = subprocess.run(
            ["bash", "-c", upload.replace("http://127.0.0.1:8000", running.address)],
            check=True, capture_output=True,
        ).stdout  # fmt: skip
        assert len(json.loads(told)["results"][0]["hits"]) == 3
        (python,) = _code("python")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(python.replace("http://127.0.0.1:8000", running.address), {})
        assert len(printed.getvalue().splitlines()) == 5
        described = httpx.get(f"{running.address}/openapi.json").json()["paths"]
    for address in re.findall(r"`(?:GET |POST )?(/[a-z0-9/.]+)", GUIDE):
        known = [path for path in (*described, "/openapi.json") if path.startswith(address)]
        assert known, address


def test_the_limits_are_those_of_the_code() -> None:
    limits = Limits()
    for told in (
        f"{limits.upload_bytes / 1e6:g} MB",
        f"{limits.audio_seconds:g} s",
        f"{limits.image_pixels / 1e6:g} megapixels",
        f"{limits.points:,}",
        f"{limits.text_characters:,}",
        f"{limits.k}, {limits.deepest:,}",
        f"{limits.queue}, {limits.connections}",
        f"{limits.seconds:g} s",
    ):
        assert f"| {told} |" in GUIDE, told
