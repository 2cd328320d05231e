"""Pushing to and pulling from a hub on this machine, through huggingface_hub as it is."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest

from bridge.artefact import load
from bridge.sharing.place import place_named
from bridge.sharing.transfer import pull, push
from features.errors import UserError
from tests.bridge.sharing.local_hub import READER, WRITER, LocalHub, local_hub

constants = pytest.importorskip("huggingface_hub.constants")

REPO = place_named("hf:one/audio-image")
PUSHED = {
    "README.md", "bridge.json", "bridge.safetensors", "metrics.jsonl", "run.json", "settings.toml"
}  # fmt: skip


@pytest.fixture
def hub(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # its store is a service of its own
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", WRITER)
    with local_hub() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.endpoint)
        files = f"{running.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        yield running


@pytest.fixture
def bridge(world, made, tmp_path) -> Path:  # noqa: ARG001
    return shutil.copytree(world.folder / "made", tmp_path / "mine")


def test_a_bridge_goes_to_the_hub_and_comes_back_the_same(hub: LocalHub, bridge, made, tmp_path):
    pushed = push(bridge, REPO)
    assert pushed.place == f"{hub.endpoint}/one/audio-image"
    assert set(pushed.share.names) == PUSHED
    assert hub.tree("one/audio-image").keys() - {".gitattributes"} == PUSHED
    assert any("/lfs/objects/batch" in one for one in hub.asked)
    assert hub.repos["one/audio-image"].private is False
    pulled = pull(REPO, tmp_path / "back")
    assert (pulled.revision, pulled.share.left_out) == (pushed.revision, ())
    assert {one.name for one in (tmp_path / "back").iterdir()} == PUSHED
    assert all((tmp_path / "back" / one).read_bytes() == (bridge / one).read_bytes()
               for one in PUSHED)  # fmt: skip
    assert not any(one.is_symlink() for one in (tmp_path / "back").iterdir())
    assert load(tmp_path / "back", device="cpu").fingerprint == made.fingerprint


def test_it_is_called_as_the_repository_is(hub, bridge, tmp_path, monkeypatch):  # noqa: ARG001
    push(bridge, REPO)
    monkeypatch.chdir(tmp_path)
    assert pull(REPO).place == "audio-image"
    assert (tmp_path / "audio-image" / "bridge.json").exists()


def test_a_push_is_one_commit_without_what_an_earlier_one_left(hub: LocalHub, bridge):
    (bridge / "results").mkdir()
    result = {"format": "mcr-bridge evaluation"}
    (bridge / "results" / "retrieval-1.json").write_text(json.dumps(result))
    push(bridge, REPO, message="first")
    repo = hub.repos["one/audio-image"]
    repo.commit("main", {**hub.tree("one/audio-image"), "notes.json": b"{}"}, "by hand")
    (bridge / "results" / "retrieval-1.json").unlink()
    push(bridge, REPO)
    fingerprint = load(bridge, device="cpu").fingerprint
    assert repo.titles == ["initial commit", "first", "by hand", f"Bridge {fingerprint[:8]}"]
    assert hub.tree("one/audio-image").keys() == PUSHED | {".gitattributes", "notes.json"}


def test_a_branch_is_made_and_main_stays(hub: LocalHub, bridge, tmp_path):
    push(bridge, REPO)
    before = hub.tree("one/audio-image")
    (bridge / "README.md").write_text("# another")
    done = push(bridge, REPO, revision="next", private=True)
    assert done.place.endswith("/one/audio-image/tree/next")
    assert hub.tree("one/audio-image") == before
    pull(REPO, tmp_path / "next", revision="next")
    pull(REPO, tmp_path / "main")
    pull(REPO, tmp_path / "commit", revision=done.revision)
    cards = [(tmp_path / one / "README.md").read_text() for one in ("next", "commit", "main")]
    assert cards[0] == cards[1] == "# another" != cards[2]


def test_a_private_repository_is_private(hub: LocalHub, bridge, tmp_path, monkeypatch):
    push(bridge, REPO, private=True)
    assert hub.repos["one/audio-image"].private is True
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(
        UserError, match=r"\((it does not exist, or is private|not authorised, 401)"
    ):
        pull(REPO, tmp_path / "back")
    monkeypatch.setenv("HF_TOKEN", READER)
    pull(REPO, tmp_path / "back")


def test_only_what_a_bridge_is_made_of_is_fetched(hub: LocalHub, bridge, tmp_path):
    push(bridge, REPO)
    evil = {
        "pytorch_model.bin": b"pickle", "code/run.py": b"import os", "big.parquet": b"1",
        "code/more.json": b"{}", "results/foreign.json": b"{}", "[a]*.json": b"{}",
    }  # fmt: skip
    hub.repos["one/audio-image"].commit("main", {**hub.tree("one/audio-image"), **evil}, "more")
    hub.asked.clear()
    done = pull(REPO, tmp_path / "back")
    assert done.share.left_out == (
        "[a]*.json", "big.parquet", "code/", "pytorch_model.bin", "results/foreign.json"
    )  # fmt: skip
    assert set(done.share.names) == PUSHED
    told = done.share.told
    assert told is not None
    assert "pytorch_model.bin may run code when it is loaded" in told
    fetched = {
        one.rsplit("/", 1)[-1] for one in hub.asked if one.startswith("GET /one/audio-image")
    }
    assert fetched == PUSHED | {"foreign.json"}
    assert {one.name for one in (tmp_path / "back").iterdir()} == PUSHED


def test_what_came_and_is_no_bridge_is_not_put_in_place(hub: LocalHub, bridge, tmp_path):
    push(bridge, REPO)
    good = hub.tree("one/audio-image")
    out = tmp_path / "back"
    pull(REPO, out)
    for name, content, told in (
        ("bridge.safetensors", b"\x00" * 99, "hf:one/audio-image is damaged"),
        ("bridge.json", b"{", r"hf:one/audio-image/bridge\.json is damaged"),
    ):
        hub.repos["one/audio-image"].commit("main", {**good, name: content}, "damage")
        with pytest.raises(UserError, match=told):
            pull(REPO, out, overwrite=True)
        assert load(out, device="cpu").fingerprint  # as it was
    hub.repos["one/audio-image"].commit("main", {"config.json": b"{}"}, "other")
    with pytest.raises(UserError, match=r"hf:one/audio-image is not a bridge, it has no bridge"):
        pull(REPO, tmp_path / "other")
    hub.repos["one/audio-image"].commit("main", {"model.bin": b"1"}, "other")
    with pytest.raises(UserError, match="hf:one/audio-image has no files of a bridge"):
        pull(REPO, tmp_path / "other")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["back", "cache", "mine"]


def test_an_occupied_folder_is_refused_before_anything_is_fetched(hub, bridge, tmp_path):
    push(bridge, REPO)
    pull(REPO, tmp_path / "back")
    hub.asked.clear()
    with pytest.raises(UserError, match=r"back holds a bridge: pass --overwrite"):
        pull(REPO, tmp_path / "back")
    assert hub.asked == []
    pull(REPO, tmp_path / "back", overwrite=True)


@pytest.mark.parametrize(
    ("token", "told"),
    [
        (
            None,
            r"\(not authorised, 401\): `hf auth login`, or set HF_TOKEN, with write access to one",
        ),
        (
            READER,
            r"\(not authorised, 403\): `hf auth login`, or set HF_TOKEN, with write access to",
        ),
    ],
)
def test_without_the_right_to_write_a_push_is_one_sentence(hub, bridge, monkeypatch, token, told):
    monkeypatch.delenv("HF_TOKEN")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError, match=rf"^hf:one/audio-image cannot be pushed to {hub.endpoint} "
                       + told):  # fmt: skip
        push(bridge, REPO)
    assert hub.repos == {}


def test_a_repository_or_revision_that_is_not_there_is_one_sentence(hub, bridge, tmp_path):
    with pytest.raises(
        UserError, match=r"\(it does not exist, or is private\): check the name, or"
    ):
        pull(REPO, tmp_path / "back")
    push(bridge, REPO)
    with pytest.raises(UserError, match=r"\(it has no such revision\): check --revision"):
        pull(REPO, tmp_path / "back", revision="v9")
    hub.fails_at = "/commit/"
    (bridge / "README.md").write_text("# another")
    with pytest.raises(UserError, match=r"cannot be pushed to .*: run the same command again"):
        push(bridge, REPO)
    assert not (tmp_path / "back").exists()


@pytest.mark.usefixtures("hub")
def test_without_a_hub_what_was_fetched_before_is_taken(bridge, tmp_path, monkeypatch):
    push(bridge, REPO)
    pull(REPO, tmp_path / "back")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", nowhere)
    assert set(pull(REPO, tmp_path / "again").share.names) == PUSHED
    with pytest.raises(UserError, match=rf"^hf:one/audio-image cannot be pushed to \({nowhere} is"):
        push(bridge, REPO)
    with pytest.raises(UserError, match=rf"^hf:one/other is not in the local cache .*{nowhere} is"):
        pull(place_named("hf:one/other"), tmp_path / "other")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"\(HF_HUB_OFFLINE is set\): try again with a network"):
        push(bridge, REPO)
