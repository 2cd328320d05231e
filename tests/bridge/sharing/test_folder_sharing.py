"""Pushing to and pulling from plain folders, and what is never taken along."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from bridge.artefact import load
from bridge.sharing.files import placed, share_of, shared
from bridge.sharing.place import Place, place_named
from bridge.sharing.transfer import pull, push
from features.errors import UserError
from features.sealed import read_sealed

ARTEFACT = (
    "README.md", "bridge.json", "bridge.safetensors", "metrics.jsonl", "run.json", "settings.toml"
)  # fmt: skip


@pytest.fixture
def bridge(world, made, tmp_path) -> Path:  # noqa: ARG001
    return shutil.copytree(world.folder / "made", tmp_path / "mine")


def test_a_bridge_goes_to_a_folder_and_comes_back_the_same(bridge, made, tmp_path):
    pushed = push(bridge, Place(folder=tmp_path / "shared" / "one"))
    assert (pushed.share.names, pushed.share.left_out) == (ARTEFACT, ())
    assert pushed.bytes == sum((bridge / name).stat().st_size for name in ARTEFACT)
    pull(Place(folder=tmp_path / "shared" / "one"), tmp_path / "back")
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == list(ARTEFACT)
    assert load(tmp_path / "back", device="cpu").fingerprint == made.fingerprint


def test_everything_else_stays_and_is_named(bridge, tmp_path):
    for name in (
        "model.pt", "weights.PKL", "notes.txt", "results/evaluation.h5", "results/model.bin",
        "tracking/wandb/wandb-metadata.json", ".secret.json", "results/deep/more.json",
        ".git/config.json",
    ):  # fmt: skip
        (bridge / name).parent.mkdir(parents=True, exist_ok=True)
        (bridge / name).write_text("{}")
    (bridge / "results" / "other.json").write_text('{"format": "other"}')
    (bridge / "results" / "mine.json").write_text('{"format": "mcr-bridge evaluation"}')
    (tmp_path / "private.json").write_text("{}")
    (bridge / "linked.json").symlink_to(tmp_path / "private.json")
    done = push(bridge, Place(folder=tmp_path / "shared"))
    assert done.share.names == tuple(sorted((*ARTEFACT, "results/mine.json")))
    assert set(done.share.left_out) == {
        "model.pt", "weights.PKL", "notes.txt", "results/evaluation.h5", "results/model.bin",
        "tracking/", ".secret.json", "results/deep/more.json", "results/other.json", "linked.json",
    }  # fmt: skip
    found = {p.relative_to(tmp_path / "shared").as_posix()
             for p in (tmp_path / "shared").rglob("*") if p.is_file()}  # fmt: skip
    assert found == set(done.share.names)
    told = done.share.told
    assert told is not None
    assert "model.pt, results/model.bin, weights.PKL may run code when it is loaded" in told


@pytest.mark.parametrize(
    "name",
    ["../bridge.json", "a/../bridge.json", "..", ".hidden.json", "sub/bridge.safetensors",
     "results/../../x.json", "bridge.safetensors.bin", "[ab].json", "*.json", "x.JSON",
     "readme.md"],
)  # fmt: skip
def test_names_that_are_not_those_of_a_bridge_are_left_out(name):
    assert shared([name]).names == ()
    assert shared([name]).left_out


def test_pickles_are_named_with_their_folders():
    share = shared(["code/a.py", "code/b.py", "old/model.pt", ".cache/x", ".gitattributes"])
    assert share.left_out == ("code/", "old/model.pt")
    assert shared(["bridge.json"]).told is None


def test_a_folder_that_is_no_bridge_is_neither_pushed_nor_pulled(bridge, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty is not a bridge, it has no bridge\.json"):
        push(tmp_path / "empty", Place(folder=tmp_path / "out"))
    with pytest.raises(UserError, match=r"empty is not a bridge, it has no bridge\.json"):
        pull(Place(folder=tmp_path / "empty"), tmp_path / "out")
    with pytest.raises(UserError, match=r"nowhere is no folder: check the path, or name a repos"):
        pull(Place(folder=tmp_path / "nowhere"), tmp_path / "out")
    (bridge / "bridge.safetensors").write_bytes(b"")
    for act in (push, lambda one, to: pull(Place(folder=one), to.folder)):
        with pytest.raises(UserError, match=r"mine is damaged"):
            act(bridge, Place(folder=tmp_path / "out"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "mine"]


def test_a_bridge_is_replaced_when_told_and_anything_else_never(bridge, tmp_path):
    target = Place(folder=tmp_path / "out")
    push(bridge, target)
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(UserError, match=r"out holds a bridge: pass --overwrite to replace it"):
        push(bridge, target)
    push(bridge, target, overwrite=True)
    assert (tmp_path / "out" / "mine.txt").read_text() == "x"
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.png").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"photos exists and is not a bridge's folder: choose"):
            pull(target, tmp_path / "photos", overwrite=overwrite)
    with pytest.raises(UserError, match=r"are the same folder: choose another"):
        push(bridge, Place(folder=bridge), overwrite=True)
    assert load(bridge, device="cpu")


MINE = (
    "report.html", "results/mine.json", "tracking/offline/a", "memory.h5", "checkpoint.safetensors"
)  # fmt: skip


def another(bridge: Path, out: Path) -> Path:
    """A bridge of another name, without records of its training."""
    out.mkdir()
    for name in ("README.md", "bridge.safetensors"):
        shutil.copy(bridge / name, out)
    about = read_sealed(bridge / "bridge.json")
    (out / "bridge.json").write_text(json.dumps({**about, "name": "another"}))
    return out


def test_replacing_a_bridge_leaves_what_else_is_in_its_folder(bridge, tmp_path):
    out = tmp_path / "out"
    push(bridge, Place(folder=out))
    for name in MINE:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(name)
    pull(Place(folder=another(bridge, tmp_path / "another")), out, overwrite=True)
    assert load(out, device="cpu").name == "another"
    assert [(out / name).read_text() for name in MINE] == list(MINE)
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    # Not the records of the training of the bridge that was there.
    assert found == {*MINE, "README.md", "bridge.json", "bridge.safetensors"}


def test_a_folder_in_the_other_is_refused_and_nothing_is_lost(bridge, tmp_path):
    inner = bridge / "inner"
    shutil.copytree(bridge, tmp_path / "copy")
    shutil.move(tmp_path / "copy", inner)
    for source, target in ((bridge, inner), (inner, bridge), (bridge, bridge / "results" / "x")):
        for act in (push, lambda one, to, **told: pull(Place(folder=one), to.folder, **told)):
            with pytest.raises(UserError, match=r" lies in .*, the other of the two: choose"):
                act(source, Place(folder=target), overwrite=True)
    assert load(bridge, device="cpu").fingerprint == load(inner, device="cpu").fingerprint


@pytest.mark.parametrize("moves", range(1, 8))
def test_a_kill_while_files_are_moved_loses_nothing(bridge, tmp_path, monkeypatch, moves):
    source, out = another(bridge, tmp_path / "another"), tmp_path / "out"
    push(bridge, Place(folder=out))
    (out / "report.html").write_text("x")
    with monkeypatch.context() as patched:
        calls = []

        def counted(act):
            def killed(*arguments, **options):
                calls.append(1)
                if len(calls) == moves:
                    raise KeyboardInterrupt
                return act(*arguments, **options)

            return killed

        for name in ("replace", "unlink", "rename"):
            patched.setattr(Path, name, counted(getattr(Path, name)))
        with suppress(KeyboardInterrupt):
            push(source, Place(folder=out), overwrite=True)
    assert (out / "bridge.json").exists()
    assert (out / "report.html").read_text() == "x"
    push(source, Place(folder=out), overwrite=True)
    assert load(out, device="cpu").name == "another"
    assert not list(tmp_path.rglob(".coming*"))


def test_a_bridge_is_pulled_into_the_folder_one_is_in(bridge, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for overwrite in (False, True):
        done = pull(Place(folder=bridge), Path(), overwrite=overwrite)
        assert done.place == "."
        assert {path.name for path in here.iterdir()} == set(ARTEFACT)
        assert Path("bridge.json").exists()  # it is the same folder still


def test_two_pulls_at_once_do_not_share_a_folder(tmp_path):
    out = tmp_path / "out"
    with suppress(KeyboardInterrupt), placed(out, overwrite=False, what="one") as one:
        with suppress(KeyboardInterrupt), placed(out, overwrite=False, what="two") as two:
            (one / "a").write_text("one")
            (two / "b").write_text("two")
            assert [path.name for path in one.iterdir()] == ["a"]
            raise KeyboardInterrupt
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["revision", "private", "message"])
def test_options_of_the_hub_do_not_fit_a_folder(bridge, tmp_path, option):
    with pytest.raises(UserError, match=rf"--{option} is of repositories on the Hub but this is a"):
        push(bridge, Place(folder=tmp_path / "out"), **{option: "x"})


def test_what_is_the_hub_and_what_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    assert place_named("hf:one/two-three") == Place(repo="one/two-three")
    assert place_named("one/two") == Place(repo="one/two")
    assert str(place_named("one/two")) == "hf:one/two"
    for text in ("here/two", "./one/two", "/one/two", "one", "one/two/three", "../x", "one/t o"):
        assert place_named(text) == Place(folder=Path(text)), text


@pytest.mark.parametrize("text", ["hf:one", "hf:", "hf:one/two/three", "hf:one/..", "hf:o/a--b"])
def test_names_that_no_repository_has_are_refused(text):
    with pytest.raises(UserError, match=r"is no repository of the Hub: it should read hf:OWNER"):
        place_named(text)


def test_without_huggingface_hub_the_line_that_installs_it_is_told(bridge, monkeypatch):
    monkeypatch.setattr("features.extras.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r'huggingface_hub: pip install "mcr-bridge\[hub\]"'):
        push(bridge, Place(repo="one/two"))


def test_links_within_the_folder_are_followed(bridge):
    (bridge / "again.json").symlink_to(bridge / "bridge.json")
    assert "again.json" in share_of(bridge).names
    assert json.loads((bridge / "again.json").read_text())["name"]
