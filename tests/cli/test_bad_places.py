"""Outputs that exist, devices that do not, and files that may not be read."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Workshop, done
from tests.cli.refusals import Arguments, Cases, extract, file, query, refused

CASES: Cases = {
    "index elsewhere": (
        lambda w, t: ("index", w.memory("shared"), "-o", t / "a.idx"), "must end in .faiss"
    ),
    "unknown index": (
        lambda w, t: ("index", w.memory("shared"), "-o", t / "a.faiss", "--kind", "tree"),
        "FAISS cannot make the index 'tree'",
    ),
    "a file in the way": (
        lambda w, t: extract(w, w.files / "images", file(t / "f") / "deep"), "is a file"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_in_one_sentence(workshop, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    make, fragment = CASES[case]
    assert fragment in refused(*make(workshop, tmp_path))


def making(w: Workshop, out: Path) -> dict[str, Arguments]:
    """Every command that makes something, so that it would succeed, into `out`."""
    hub = ("--hub", w.memory("text-hears"), "--hub", w.memory("text-sees"))
    fit = ("fit", w.files / "images.csv", "-m", "image=path", "-m", "text=key", "--steps", 2)
    return {
        "extract": ("extract", w.files / "images", "-e", w.specs["sees"], "-m", "image", "-o", out),
        "train": ("train", *hub, "-o", out),
        "project": ("project", w.memory("images"), "-b", w.sound_bridge, "-o", out),
        "index": ("index", w.memory("shared"), "-o", out),
        "fit": (*fit, "-o", out),
    }


@pytest.mark.parametrize("command", ["extract", "train", "project", "index", "fit"])
def test_an_output_that_exists_is_kept(workshop, tmp_path, command):
    out = tmp_path / ("out.faiss" if command == "index" else "out.h5")
    target = out / "bridge.json" if command == "train" else out
    target.parent.mkdir(exist_ok=True)
    file(target, "precious")
    sentence = refused(*making(workshop, out)[command])
    assert str(out) in sentence
    assert "--overwrite" in sentence
    assert target.read_text() == "precious"


@pytest.mark.parametrize("command", ["extract", "project", "index", "fit"])
def test_a_folder_is_never_replaced_by_a_file(workshop, tmp_path, command):
    out = tmp_path / ("out.faiss" if command == "index" else "out.h5")
    out.mkdir()
    assert str(out) in refused(*making(workshop, out)[command], "--overwrite")
    assert out.is_dir()


@pytest.mark.parametrize("command", ["extract", "project"])
def test_a_memory_is_called_by_its_kind(workshop, tmp_path, command):
    for name in ("out.npy", "out"):
        sentence = refused(*making(workshop, tmp_path / name)[command])
        assert sentence == f"a memory is called NAME.h5, not {name}: write {name}.h5"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize("command", ["extract", "train", "project", "query", "eval", "fit"])
def test_a_device_that_is_not_there_is_refused(workshop, tmp_path, command):
    memories = ("-q", workshop.memory("sounds"), "-g", workshop.memory("images"))
    out = tmp_path / ("out.h5" if command in ("extract", "project") else "out")
    arguments = {
        **making(workshop, out),
        "query": query(workshop),
        "eval": ("eval", "-b", workshop.sound_bridge, *memories),
    }
    sentence = refused(*arguments[command], "--device", "cuda")
    assert sentence.startswith("device cuda was asked for but torch ")
    assert "pass --device cpu" in sentence


@contextmanager
def nobody() -> Iterator[None]:
    """Be somebody who owns nothing for a while."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("kind", ["source", "table", "memory", "settings"])
def test_a_file_that_may_not_be_read_is_named(workshop, tmp_path, kind):
    done(*extract(workshop, workshop.files / "images.csv", tmp_path))  # imports everything
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o777)
        suffix = {"source": "txt", "table": "csv", "memory": "h5", "settings": "toml"}[kind]
        path = file(Path(folder) / f"secret.{suffix}", "path\nb.png\n")
        path.chmod(0)
        hubs = [Path(shutil.copy(workshop.memory(f"text-{n}"), folder)) for n in ("hears", "sees")]
        arguments = {
            "source": extract(workshop, path, Path(folder)),
            "table": extract(workshop, path, Path(folder)),
            "memory": ("info", path),
            "settings": ("train", "--hub", hubs[0], "--hub", hubs[1], "-o", folder, "-c", path),
        }
        with nobody():
            sentence = refused(*arguments[kind])
    assert str(path) in sentence
    assert "may not be written" not in sentence
