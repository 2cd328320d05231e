"""Files that do not fit together, are damaged or ask for what nobody knows: one sentence each."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from features.memories.writing import save_memory
from tests.cli.conftest import NUMBERS, Workshop, done
from tests.cli.refusals import Cases, extract, file, query, refused, train


def cut_bridge(w: Workshop, t: Path, name: str) -> Path:
    folder = Path(shutil.copytree(w.sound_bridge, t / "cut"))
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    return folder


def few_texts(w: Workshop, t: Path) -> Path:
    """Hub items of which only some have the ids of the others."""
    out = t / "few.h5"
    where = ("--where", f"number={NUMBERS[0]}")
    done("extract", w.files / "texts.csv", "-e", w.specs["sees"], "-m", "text", "-o", out, *where)
    return out


def plain(t: Path, space: str = "third") -> Path:
    out = t / "plain.h5"
    save_memory(out, np.eye(4, dtype="f4"), list("abcd"), space=space, modality="audio")
    return out


def stale_index(w: Workshop, t: Path) -> Path:
    """An index whose memory was made again from something else."""
    shutil.copy(w.memory("images"), t / "m.h5")
    done("index", t / "m.h5")
    shutil.copy(w.memory("sounds"), t / "m.h5")
    return t / "m.faiss"


def mixed_index(w: Workshop, t: Path) -> Path:
    for name in ("images", "sounds"):
        shutil.copy(w.memory(name), t / f"{name}.h5")
        done("index", t / f"{name}.h5")
    shutil.copy(t / "sounds.json", t / "images.json")
    return t / "images.faiss"


def cut_index(w: Workshop, t: Path) -> Path:
    for suffix in (".faiss", ".ids.h5", ".json"):
        shutil.copy(w.index.with_suffix(suffix), t / f"cut{suffix}")
    content = w.index.read_bytes()
    return file(t / "cut.faiss", content[: len(content) // 2])


def plain_index(w: Workshop, t: Path) -> Path:
    out = t / "images.faiss"
    done("index", w.memory("images"), "-o", out)
    return out


def few_labels(w: Workshop, t: Path) -> Path:
    out = t / "keys.h5"
    arguments = extract(w, w.files / "images.csv", t, "--label-column", "key", "-o", out)
    done(*arguments)
    return out


CASES: Cases = {
    # what does not fit together
    "no hub": (lambda _w, t: ("train", "-o", t), "give either two --hub memories or two --pairs"),
    "hub and pairs": (lambda w, t: train(w, t, "--pairs", w.memory("images")), "give either two"),
    "three hubs": (
        lambda w, t: train(w, t, "--hub", w.memory("text-shapes")), "needs two hub memories"
    ),
    "hub ids differ": (
        lambda w, t: (
            "train", "--hub", w.memory("text-hears"), "--hub", few_texts(w, t), "-o", t / "b"
        ),
        f"2 ids match between the {2 * len(NUMBERS)} items",
    ),
    "leaf of a third space": (
        lambda w, t: train(w, t, "--leaf", w.memory("clouds")), "is of the space shapes but the hub"
    ),
    "leaf of two widths": (
        lambda w, t: train(w, t, "--leaf", w.memory("sounds"), "--leaf", plain(t, "hears")),
        "cannot be used as one memory",
    ),
    "leaf of two modalities": (
        lambda w, t: train(w, t, "--leaf", w.memory("sounds"), "--leaf", w.memory("text-hears")),
        "cannot be used as one memory",
    ),
    "project another space": (
        lambda w, t: ("project", w.memory("clouds"), "-b", w.sound_bridge, "-o", t / "o.h5"),
        "joins hears and sees, not 'shapes'",
    ),
    "project twice": (
        lambda w, t: ("project", w.memory("shared"), "-b", w.sound_bridge, "-o", t / "o.h5"),
        "is already projected by sound-bridge",
    ),
    "another bridge": (
        lambda w, _t: ("query", "1", "-b", w.shape_bridge, "-i", w.index), "with another bridge"
    ),
    "unprojected index": (
        lambda w, t: query(w, "-i", plain_index(w, t)), "project its memory with `mcr project`"
    ),
    "stale index": (lambda w, t: query(w, "-i", stale_index(w, t)), "was built from the memory"),
    "mixed index": (lambda w, t: query(w, "-i", mixed_index(w, t)), "do not belong together"),
    "nothing in common": (
        lambda w, t: (
            "eval", "-b", w.sound_bridge, "-q", w.memory("sounds"), "-g", few_labels(w, t)
        ),
        "so no answer would be right",
    ),
    # queries
    "unknown to the bridge": (
        lambda w, _t: ("query", w.item("points", NUMBERS[0]), "-b", w.sound_bridge, "-i", w.index),
        "does not know points",
    ),
    "missing query": (
        lambda w, t: ("query", t / "a.wav", "-b", w.sound_bridge, "-i", w.index), "does not exist"
    ),
    "broken query": (
        lambda w, t: ("query", file(t / "a.wav", "RIFF"), "-b", w.sound_bridge, "-i", w.index),
        "a.wav: cannot be decoded as a sound",
    ),
    "empty query": (
        lambda w, _t: ("query", "", "-b", w.sound_bridge, "-i", w.index), "the query is empty"
    ),
    "wordless query": (
        lambda w, _t: ("query", "\t_", "-b", w.sound_bridge, "-i", w.index), "no word or digit in"
    ),
    "nothing to search": (lambda _w, _t: ("query", "1"), "give either --index or --memory"),
    "too much to search": (
        lambda w, _t: query(w, "--memory", w.memory("images")),
        "give either --index",
    ),
    "via of no bridge": (
        lambda w, _t: ("query", "1", "--memory", w.memory("images"), "--via", "sees"), "--via names"
    ),
    "via of another space": (lambda w, _t: query(w, "--via", "clip"), "not 'clip'"),
    "no bridge named": (lambda w, _t: ("query", "1", "-i", w.index), "with --bridge"),
    "no encoder named": (
        lambda _w, t: ("query", "1", "--memory", plain(t)),
        "--encoder third=SPEC",
    ),
    "malformed encoder": (lambda w, _t: query(w, "--encoder", "hears"), "--encoder hears should"),
    "wrong encoder": (
        lambda w, _t: query(w, "--encoder", f"hears={w.specs['sees']}"), "the query and the space h"
    ),
    "unknown --as": (lambda w, _t: query(w, "--as", "video"), "'video' is not a modality"),
    # damage
    "missing memory": (lambda _w, t: ("info", t / "none.h5"), "none.h5 does not exist"),
    "not a memory": (lambda _w, t: ("info", file(t / "a.h5", "x")), "a.h5 is not a readable mem"),
    "empty file": (lambda _w, t: ("info", file(t / "a.h5")), "a.h5 is not a readable memory"),
    "a folder": (lambda _w, t: ("index", t), "is a folder, not a file"),
    "not a bridge": (lambda _w, t: ("info", t), "is not a bridge, it has no bridge.json"),
    "cut index": (lambda w, t: ("info", cut_index(w, t)), "cut.faiss is damaged"),
    "missing index": (lambda w, t: query(w, "-i", t / "a.faiss"), "a.faiss does not exist"),
    "cut weights": (
        lambda w, t: ("info", cut_bridge(w, t, "bridge.safetensors")), "cut is damaged"
    ),
    "cut description": (
        lambda w, t: ("info", cut_bridge(w, t, "bridge.json")), "bridge.json is damaged"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_in_one_sentence(workshop, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    make, fragment = CASES[case]
    assert fragment in refused(*make(workshop, tmp_path))
