"""Shards that are not merged, on the command line, and the mistakes that are made with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.memories.memory import Memory
from features.memories.merging import merge
from tests.cli.conftest import TINY, Workshop, answer, done, mcr
from tests.features.shards import write_shards


@pytest.fixture
def shards(workshop: Workshop, tmp_path: Path) -> list[Path]:
    """The sounds in three shards s.I-of-3.h5, of which one is empty."""
    made = write_shards(tmp_path, Memory(workshop.memory("sounds")), [4, 4], name="s")
    return [one.path for one in made]


def _train(workshop: Workshop, out: Path, *leaves: object, more: tuple[object, ...] = ()):
    given = [part for leaf in leaves for part in ("--leaf", leaf)]
    return (
        "train", "--preset", "published", "--hub", workshop.memory("text-hears"),
        "--hub", workshop.memory("text-sees"), *given, "--leaf", workshop.memory("images"),
        "-o", out, *TINY, *more,
    )  # fmt: skip


def test_a_bridge_from_shards_is_that_from_the_memory(workshop, tmp_path, shards):
    done(*_train(workshop, tmp_path / "whole", workshop.memory("sounds")))
    weights = (tmp_path / "whole" / "bridge.safetensors").read_bytes()
    named = {"name": ["s.h5"], "pattern": ["s.*-of-3.h5"], "list": [one.name for one in shards]}
    for kind, names in named.items():
        done(*_train(workshop, tmp_path / kind, *[tmp_path / name for name in names]))
        assert (tmp_path / kind / "bridge.safetensors").read_bytes() == weights


def test_processes_train_and_search(workshop, tmp_path, shards):
    two = ("--shard-processes", 2)
    bridge = tmp_path / "b"
    done(*_train(workshop, bridge, tmp_path / "s.h5", more=two))
    asked = ("query", "one", "--as", "text", "--bridge", bridge, "-k", 5)
    expected = answer(*asked, "--memory", workshop.memory("sounds"))["hits"]
    for more in ((), two):
        assert answer(*asked, "--memory", tmp_path / "s.h5", *more)["hits"] == expected
    assert shards


def test_other_commands_read_shards_as_one_memory(workshop, tmp_path, shards):
    merge([Memory(one) for one in shards], tmp_path / "merged.h5")
    found = [
        done("project", tmp_path / name, "--bridge", workshop.sound_bridge, "-o", tmp_path / out)
        for name, out in (("s.h5", "p1.h5"), ("merged.h5", "p2.h5"))
    ]
    assert len(found) == 2
    first, second = Memory(tmp_path / "p1.h5"), Memory(tmp_path / "p2.h5")
    assert list(first.ids) == list(second.ids)
    assert first.embeddings.tobytes() == second.embeddings.tobytes()
    indexed = answer("index", tmp_path / "s.h5", "-o", tmp_path / "s.faiss")
    assert (indexed["items"], indexed["recall@10"]) == (len(first), 1.0)


@pytest.mark.parametrize(
    ("lost", "leaves", "more", "message"),
    [
        ("s.2-of-3.h5", ["s.h5"], (), "1 of 3 shards are missing (2): run the same `mcr extract`"),
        ("s.3-of-3.h5", ["s.?-of-3.h5"], (), "1 of 3 shards are missing (3)"),
        (None, ["s.1-of-3.h5", "s.3-of-3.h5"], (), "1 of 3 shards are missing (2)"),
        (None, ["s.h5", "s.h5"], (), "hold the same embeddings: give each memory once"),
        (
            None,
            ["s.1-of-3.h5", "s.1-of-3.h5", "s.2-of-3.h5", "s.3-of-3.h5"],
            (),
            "shard 1 of 3 is there twice",
        ),
        (None, ["t.*.h5"], (), "no file is called"),
        (None, ["s.h5"], ("--engine", "rae"), "no engine 'rae' (did you mean ray?)"),
        (
            None,
            ["s.h5"],
            ("--ray-address", "auto"),
            "--ray-address auto is for --engine ray: give both, or neither",
        ),
        (
            None,
            ["s.h5"],
            ("--engine", "ray", "--shard-processes", 2),
            "--shard-processes 2 starts processes here, and --engine ray says",
        ),
        (
            None,
            ["s.h5"],
            ("--shard-processes", 2, "--stream", "never"),
            "from memories on the disk but stream is 'never'",
        ),
    ],
)
def test_mistakes_are_said(workshop, tmp_path, shards, lost, leaves, more, message):
    if lost is not None:
        next(one for one in shards if one.name == lost).unlink()
    result = mcr(*_train(workshop, tmp_path / "b", *[tmp_path / n for n in leaves], more=more))
    assert result.exit_code == (2 if "no engine" in message else 1)
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "b" / "bridge.json").exists()


def test_shards_of_another_extraction_are_said(workshop, tmp_path, shards):
    write_shards(tmp_path, Memory(workshop.memory("sounds")), [3], name="s", plan="other")
    result = mcr(*_train(workshop, tmp_path / "b", tmp_path / "s.h5"))
    assert result.exit_code == 1
    assert "are shards of different extractions" in result.stderr
    done(*_train(workshop, tmp_path / "b", tmp_path / "s.?-of-3.h5"))
    assert shards


def test_an_index_is_not_searched_in_parts(workshop):
    result = mcr("query", "one", "--index", workshop.index, "--shard-processes", 2)
    assert result.exit_code == 1
    assert "search a memory in parts, and --index is given" in result.stderr
