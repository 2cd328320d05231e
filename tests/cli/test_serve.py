"""`mcr serve`: the mistakes people make, and how it begins and ends."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from bridge.artefact import load
from bridge.serving.limits import Limits
from bridge.serving.requests import EmbeddingQuery, SearchRequest
from bridge.serving.service import Service
from bridge.serving.state import open_served
from features.errors import UserError
from features.memories.memory import Memory
from tests.cli.conftest import Workshop, done, mcr
from tests.cli.refusals import refused
from tests.features.helpers import changing

ROOT = Path(__file__).parents[2]
SERVE = ("serve", "--port", "0")


def test_there_is_something_to_search(workshop: Workshop) -> None:
    assert "give an --index or a --memory" in refused(*SERVE, "-b", workshop.sound_bridge)


def test_the_bridge_of_an_index_is_needed(workshop: Workshop) -> None:
    message = refused(*SERVE, "--index", workshop.index)
    assert "holds the space of the bridge sound-bridge" in message
    assert "give it with --bridge" in message
    message = refused(*SERVE, "--index", workshop.index, "-b", workshop.shape_bridge)
    assert f"shape-bridge ({load(workshop.shape_bridge).fingerprint})" in message


def test_what_is_missing_is_named(workshop: Workshop, tmp_path: Path) -> None:
    given = ("--memory", workshop.memory("images"))
    assert "nowhere is not a bridge" in refused(*SERVE, *given, "-b", tmp_path / "nowhere")
    assert "does not exist" in refused(*SERVE, "--memory", tmp_path / "nothing.h5")
    assert "not an index" in refused(*SERVE, "--index", workshop.memory("images"))


def test_an_encoder_of_another_space_is_refused(workshop: Workshop) -> None:
    message = refused(*SERVE, "--memory", workshop.memory("images"), "--encoder", "clip=clip")
    assert "--encoder clip=clip names the space clip" in message


def test_two_collections_of_one_name_are_refused(workshop: Workshop) -> None:
    twice = ("--memory", workshop.memory("images"), "--memory", workshop.memory("images"))
    assert "2 collections are called images.h5" in refused(*SERVE, *twice)


@pytest.fixture
def far_memory(workshop: Workshop, tmp_path: Path) -> Path:
    """The memory of pictures, as if it were extracted from all of this machine."""
    path = tmp_path / "far.h5"
    shutil.copy(workshop.memory("images"), path)
    with changing(path) as file:
        file.attrs["root"] = "/"
    return path


@pytest.mark.parametrize("home", ["someone", "."])
def test_a_memory_does_not_have_the_home_folder_sent(
    far_memory: Path, tmp_path: Path, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / home))
    given = (*SERVE, "--memory", far_memory)
    message = refused(*given)
    assert f"far would have files sent from all of /, which holds {tmp_path / home}" in message
    assert "give --files /, else" in message
    with changing(far_memory) as file:
        file.attrs["root"] = str(tmp_path / "x" / "..")
    if home == ".":
        assert f"the home folder {tmp_path}: if" in refused(*given)
    assert "--files" in refused(*given, "--files", tmp_path / home / "a")
    served = open_served([], [], [far_memory], device="cpu", files=[tmp_path])
    assert served.roots == {tmp_path: ["far"]}


def test_a_port_that_is_taken_is_named(workshop: Workshop) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        # Before anything is opened or loaded, which takes seconds.
        message = refused("serve", "--memory", workshop.folder / "nothing.h5", "--port", port)
    assert message.startswith(f"127.0.0.1:{port} cannot be served on (Address already in use)")
    assert "choose another --port" in message


def test_a_host_that_is_not_here_is_refused(workshop: Workshop) -> None:
    given = ("serve", "--memory", workshop.memory("images"), "--host")
    assert "cannot be served on" in refused(*given, "192.0.2.1")
    assert "choose another --port or --host" in refused(*given, "no such host")


@pytest.mark.parametrize("option", ["--port=70000", "--max-k=0", "--max-upload=-1", "--timeout=0"])
def test_a_limit_out_of_range_is_wrong_usage(option: str) -> None:
    assert mcr("serve", option).exit_code == 2


def test_a_memory_that_two_bridges_join_is_searched_in_both(workshop: Workshop) -> None:
    bridges = [workshop.sound_bridge, workshop.shape_bridge]
    served = open_served(bridges, [], [workshop.memory("images")], device="cpu")
    assert list(served.collections) == ["images@sound-bridge", "images@shape-bridge"]
    service = Service(served, Limits(), keep_queries=0, state=None)
    try:
        told = [(one.name, one.memory) for one in service.info().collections]
        query = EmbeddingQuery(embedding=[1.0] * 12, space="sees")
        asked = SearchRequest(queries=[query], neighbours=True)
        (answer,) = asyncio.run(service.search(asked)).results
    finally:
        service.close()
    assert told == [(name, "images") for name in served.collections]
    assert [near.memory for near in answer.neighbours or []] == ["images"]


def test_spaces_of_one_name_and_other_encoders_are_refused(
    workshop: Workshop, tmp_path: Path, make_encoder
) -> None:
    other = make_encoder("image", "text", name="sees", seed=9, dimension=12).description.spec
    out = tmp_path / "other.h5"
    done(
        "extract", workshop.files / "images.csv", "-e", other, "-m", "image", "-o", out,
        "--device", "cpu",
    )  # fmt: skip
    memories = [workshop.memory("images"), out]
    with pytest.raises(UserError, match="encoders with other weights"):
        open_served([], [], memories, device="cpu")
    assert len(open_served([], [], memories, device="cpu", trust_encoder=True).collections) == 2


def test_it_warns_begins_and_ends(workshop: Workshop, tmp_path: Path) -> None:
    """On all addresses of this machine, and until Ctrl-C."""
    command = ["-c", "from cli.main import run; run()", "serve", "--host", "0.0.0.0", "--port", "0"]
    given = ["--memory", workshop.memory("images"), "--state", tmp_path / "kept"]
    process = subprocess.Popen(
        [sys.executable, *command, *map(str, given)], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    found = re.match(r"http://0\.0\.0\.0:(\d+) ", process.stdout.readline())
    assert found
    address = f"http://127.0.0.1:{found.group(1)}"
    assert httpx.get(f"{address}/healthz", headers={"host": "any.example"}).status_code == 200
    asked = {"queries": [{"embedding": [1.0] * 12, "space": "sees"}]}
    saved = httpx.post(f"{address}/v1/search", json=asked, timeout=60).json()["results"][0]
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "there is no authentication" in told
    root = Memory(workshop.memory("images")).header.root
    assert f"files of images are sent from {root}\n" in told
    assert told.endswith("stopped\n")
    assert "Traceback" not in told
    kept = [path.stem for path in (tmp_path / "kept").iterdir()]
    assert kept == [saved["query"]["saved"]]
