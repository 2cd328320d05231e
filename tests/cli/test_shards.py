"""Shards that are not merged, on the command line, and the mistakes that are made with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bridge.serving.state import open_served
from features.errors import UserError
from features.memories.memory import Memory
from features.memories.merging import merge
from features.memories.writing import write_memory
from features.search.index import open_index
from tests.cli.conftest import TINY, Workshop, answer, done, mcr
from tests.cli.recipes import made, run
from tests.cli.refusals import refused
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


def test_a_filter_finds_in_shards_what_it_finds_in_the_memory(workshop, tmp_path):
    """Items that pass are in the first shard alone, in both, or nowhere."""
    path = tmp_path / "w.h5"
    done("extract", workshop.files / "sounds.csv", "-e", workshop.specs["hears"], "-m", "audio",
         "-o", path, "--label-column", "number", "--keep", "digits", "--device", "cpu")  # fmt: skip
    whole = Memory(path)
    write_shards(tmp_path, whole, [10], name="p")
    asked = ("query", "one", "--as", "text", "-b", workshop.sound_bridge, "-k", 5)
    labels = [f"label={one}" for one in whole.labels]
    first, both, narrowed, none = (
        [labels[3]],
        labels[8:12],
        [*labels[:20], "digits=2"],
        ["digits=9.."],
    )
    for words, count in ((first, 1), (both, 4), (narrowed, None), (none, 0)):
        where = [part for one in words for part in ("--where", one)]
        expected = answer(*asked, *where, "--memory", path)["hits"]
        assert count in (None, len(expected))
        for more in ((), ("--shard-processes", 2))[: 2 if words is both else 1]:
            found = answer(*asked, *where, "--memory", tmp_path / "p.h5", *more)["hits"]
            assert found == expected, (words, more)
    assert "no column is called 'colour'" in refused(
        *asked, "--memory", tmp_path / "p.h5", "--where", "colour=red"
    )


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


def test_shards_are_described_and_checked_as_a_whole(workshop, tmp_path, shards):
    told = answer("info", tmp_path / "s.h5")
    assert [one["items"] for one in told["shards"]] == [4, 0, told["items"] - 4]
    assert [one["path"] for one in told["shards"]] == [str(one) for one in shards]
    parts = sum(one["megabytes"] for one in told["shards"])
    assert told["megabytes"] == pytest.approx(parts, abs=2e-3)  # rounded each
    assert told["fingerprint"] not in {one["fingerprint"] for one in told["shards"]}
    assert "s.2-of-3.h5" in done("info", tmp_path / "s.h5").stdout
    checked = done("verify", tmp_path / "s.h5", workshop.memory("sounds"), "--partners").stdout
    assert checked.count("content, norms and ids are right") == 4
    assert "s.h5: memory of 32 audio items of hears in 3 shards: all are there" in checked
    assert "memories of the same 32 items in the same order" in checked
    assert "shards" not in answer("info", workshop.memory("sounds"))


@pytest.mark.parametrize("command", ["verify", "info"])
def test_a_shard_that_is_missing_or_damaged_is_bad(tmp_path, shards, command):
    kept = shards[0].read_bytes()
    shards[0].unlink()
    result = mcr(command, tmp_path / "s.h5")
    assert result.exit_code == 1
    assert "1 of 3 shards are missing (1): run the same" in result.stdout + result.stderr
    shards[0].write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    result = mcr(command, tmp_path / "s.h5")
    assert result.exit_code == 1
    assert "s.1-of-3.h5 is damaged" in result.stdout + result.stderr


def test_an_id_in_two_shards_is_bad(workshop, tmp_path):
    sounds = Memory(workshop.memory("sounds"))
    first, _ = write_shards(tmp_path, sounds, [5], name="d")
    kept = first.path.read_bytes()
    write_shards(tmp_path, sounds, [4], name="d")
    first.path.write_bytes(kept)
    result = mcr("verify", tmp_path / "d.h5")
    assert result.exit_code == 1
    assert f"the id '{sounds.ids[4]}' is that of rows 4 and 5: ids are unique" in result.stdout


def test_shards_are_merged_by_the_name_of_the_whole(workshop, tmp_path, shards):
    done("merge", tmp_path / "s.h5", "-o", tmp_path / "one.h5")
    done("merge", *shards, "-o", tmp_path / "other.h5")
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "other.h5").read_bytes()
    told = answer("merge", tmp_path / "s.h5", shards_of_others(workshop, tmp_path), "-o",
                  tmp_path / "both.h5")  # fmt: skip
    assert told["items"] == 2 * len(Memory(workshop.memory("sounds")))
    done("merge", tmp_path / "s.h5", "-o", tmp_path / "s.h5")
    assert (tmp_path / "s.h5").read_bytes() == (tmp_path / "one.h5").read_bytes()


def shards_of_others(workshop: Workshop, folder: Path) -> Path:
    """The sounds under other ids, in two shards."""
    sounds = Memory(workshop.memory("sounds"))
    columns = replace(sounds.columns, ids=[f"other {one}" for one in sounds.ids])
    renamed = write_memory(folder / "x" / "r.h5", sounds.header, columns, [sounds.embeddings])
    write_shards(folder, renamed, [9], name="r", plan="r")
    return folder / "r.h5"


def test_an_index_over_shards_is_one_over_what_they_are_merged_to(workshop, tmp_path, shards):
    index = tmp_path / "s.faiss"
    indexed = answer("index", tmp_path / "s.h5")
    assert indexed["memory"] == str(tmp_path / "s.h5")
    done("merge", "-o", tmp_path / "s.h5")
    assert Memory(tmp_path / "s.h5").fingerprint == indexed["merged_fingerprint"]
    assert len(open_index(index)) == indexed["items"]
    (tmp_path / "s.h5").unlink()
    shards[0].unlink()  # as if it were elsewhere
    assert len(open_index(index)) == indexed["items"]
    write_shards(tmp_path, Memory(workshop.memory("sounds")), [5, 6], name="s")
    with pytest.raises(UserError, match=r"was built from the memory .* is now .*--overwrite"):
        open_index(index)


def test_a_recipe_names_shards_by_the_whole(workshop, tmp_path, shards):
    recipe = tmp_path / "r.toml"
    recipe.write_text(f"""
device = "cpu"
[memory.sounds]
file = "{tmp_path / "s.h5"}"
[train]
hub = ["{workshop.memory("text-hears")}", "{workshop.memory("text-sees")}"]
leaf = ["sounds", "{workshop.memory("images")}"]
preset = "published"
dimension = 8
hidden = 16
epochs = 1
[project]
memories = ["sounds"]
[index]
""")
    assert "project/sounds" in done("run", recipe, "--dry-run").stdout
    assert made(run(recipe)) == ["train", "project/sounds", "index/sounds"]
    assert made(run(recipe)) == []
    write_shards(tmp_path, Memory(workshop.memory("sounds")), [5, 6], name="s")
    assert made(run(recipe))[0] == "train"  # they may be other embeddings now
    shards[0].unlink()
    assert "shards are missing" in mcr("run", recipe).stderr


def test_shards_are_served(workshop, tmp_path, shards):
    index = tmp_path / "s.faiss"
    done("index", tmp_path / "s.h5")
    served = open_served(
        [workshop.sound_bridge], [], [tmp_path / "s.h5", workshop.memory("sounds")], device="cpu"
    )
    one, other = served.collections.values()
    query = torch.nn.functional.normalize(torch.ones(1, 8), dim=1)
    assert (
        one.rows.search(query, 5, None)[1].tolist() == other.rows.search(query, 5, None)[1].tolist()
    )
    assert one.own is not None
    assert one.own.vector(7).tolist() == pytest.approx(other.own.vector(7).tolist())
    done("merge", "-o", tmp_path / "s.h5")
    both = open_served([], [index], [tmp_path / "s.h5"], device="cpu").collections
    assert [one.same_as for one in both.values()] == [None, "s.faiss"]
    assert len(shards) == 3


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
            ("--engine", "ray", "--ray-address", "127.0.0.1:9"),
            "no Ray cluster answers at 127.0.0.1:9 (Connection refused): start one",
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
