"""The commands with an index in Milvus: the same answers, and the mistakes people make."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import NUMBERS, Workshop, answer, done, mcr
from tests.cli.recipes import edit, made, run, write_recipe
from tests.cli.refusals import refused

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")


@pytest.fixture(scope="module")
def place(workshop: Workshop) -> str:
    """An index of `shared`, and of nothing else."""
    address = f"milvus:{workshop.folder}/index.db"
    result = done("index", workshop.memory("shared"), "--out", address)
    told = f"{address}#shared: {len(NUMBERS)} vectors, FLAT, recall@10 1.0000"
    assert told in result.stdout
    return address


def test_a_query_finds_what_it_finds_with_faiss(workshop: Workshop, place: str) -> None:
    sound = workshop.item("audio", NUMBERS[3])
    asked = ("query", sound, "-b", workshop.sound_bridge, "-k", 5)
    with_faiss = answer(*asked, "-i", workshop.index)
    in_milvus = answer(*asked, "-i", place)
    for one in (*with_faiss["hits"], *in_milvus["hits"]):
        one["score"] = pytest.approx(one["score"], abs=1e-6)
    assert in_milvus == with_faiss


def test_a_filter_leaves_the_same_hits_everywhere(workshop: Workshop, place: str) -> None:
    sound, labels = workshop.item("audio", NUMBERS[3]), sorted(NUMBERS[:4])
    asked = ["query", sound, "-b", workshop.sound_bridge]
    asked += [part for label in labels for part in ("--where", f"label={label}")]
    galleries = [("-i", workshop.index), ("-i", place), ("--memory", workshop.memory("shared"))]
    found = [[hit["label"] for hit in answer(*asked, *one)["hits"]] for one in galleries]
    assert found[0] == found[1] == found[2]
    assert sorted(found[0]) == labels
    for one in galleries:
        assert "no column is called 'colour'" in refused(*asked[:4], *one, "--where", "colour=red")
    told = refused(*asked[:4], *galleries[0], "--where", "label")
    assert "--where label should read COLUMN=VALUE" in told


def test_an_index_is_described_and_checked(workshop: Workshop, place: str) -> None:
    told = answer("info", place)
    assert (told["kind"], told["path"], told["items"]) == ("index", f"{place}#shared", len(NUMBERS))
    assert told["header"]["space"] == answer("info", workshop.index)["header"]["space"]
    assert "all is as it was written" in done("verify", place).stdout
    result = mcr("verify", f"{place}#nothing", workshop.index)
    assert result.exit_code == 1
    assert "BAD" in result.stdout
    assert "ok   " in result.stdout


def test_a_dry_run_tells_what_an_index_would_take(workshop: Workshop, tmp_path: Path) -> None:
    memory, address = workshop.memory("shared"), f"milvus:{tmp_path}/new/i.db"
    told = answer("index", memory, "-o", address, "--kind", "hnsw", "--dry-run")
    assert told["how"] == "32 rows were indexed as HNSW"
    assert told["disk"] > 4 * 8 * 32
    shown = done("index", memory, "-o", address, "--dry-run").stdout
    assert "would index 32 embeddings of 8 dimensions into milvus:" in shown
    assert shown.endswith("nothing was written\n")
    assert list(tmp_path.iterdir()) == []
    server = (
        "index",
        memory,
        "-o",
        "milvus+http://localhost:1#a",
        "--dry-run",
    )  # which is not asked
    assert "MB of vectors would be sent, to be indexed as FLAT; what a" in done(*server).stdout
    assert "is no index of Milvus" in refused(*server, "--kind", "IVF8,PQ4")
    assert "milvus-lite has no index DISKANN" in refused(
        "index", memory, "-o", address, "--kind", "diskann", "--dry-run"
    )


def test_a_recipe_keeps_its_indices_in_milvus(workshop: Workshop, tmp_path: Path) -> None:
    address = f"milvus:{tmp_path}/all.db"
    recipe = write_recipe(workshop, tmp_path)
    edit(recipe, 'kind = "flat"', f'kind = "flat"\nplace = "{address}"')
    plan = done("run", recipe, "--dry-run").stdout
    assert "index/images: Milvus keeps the index" in plan
    first = run(recipe)
    assert made(first)[-2] == "index/images"
    told = next(step for step in first["steps"] if step["step"] == "index/images")
    assert told["out"] == f"{address}#images"
    assert answer("info", f"{address}#images")["items"] == len(NUMBERS)
    assert made(run(recipe)) == []
    done("index", tmp_path / "out" / "shared" / "images.h5", "-o", f"{address}#images", "--kind",
         "hnsw", "--overwrite")  # fmt: skip
    assert made(run(recipe)) == []  # the same rows, however they are searched
    edit(recipe, 'kind = "flat"', 'kind = "hnsw"')
    assert made(run(recipe)) == ["index/images"]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("all.faiss", "place of [index] is 'all.faiss': it is no address of Milvus: write milvus:"),
        ("milvus:all", "place of [index] is 'milvus:all': a local file of Milvus ends in .db"),
        ("milvus:a.db#b-c", "'b-c' cannot be the name of a collection of Milvus"),
        ("milvus:a.db#both", "one collection for 2 memories: leave out what is behind the #"),
    ],
)
def test_places_that_a_recipe_cannot_have(
    workshop: Workshop, tmp_path: Path, place: str, message: str
) -> None:
    recipe = write_recipe(workshop, tmp_path)
    edit(recipe, 'memories = ["images"]', 'memories = ["images", "sounds"]')
    edit(recipe, 'kind = "flat"', f'place = "{place}"')
    assert message in " ".join(refused("run", recipe, "--dry-run").split())


def test_mistakes_are_told_in_a_sentence(workshop: Workshop, place: str, tmp_path: Path) -> None:
    memory = workshop.memory("shared")
    assert "#shared exists: pass --overwrite" in refused("index", memory, "--out", place)
    assert "strings of FAISS are for .faiss files" in refused(
        "index", memory, "--out", place, "--kind", "IVF8,PQ4", "--overwrite"
    )
    assert "milvus-lite has no index DISKANN" in refused(
        "index", memory, "--out", place, "--kind", "diskann", "--overwrite"
    )
    asked = ("query", "a dog", "-b", workshop.shape_bridge)
    assert "was made with another bridge" in refused(*asked, "-i", place)
    assert "does not exist" in refused(*asked, "-i", f"milvus:{tmp_path}/none.db")
    assert "write milvus+http://localhost:19530" in refused(*asked, "-i", "http://localhost:19530")
    served = refused("serve", "--port", 0, "-i", place)
    assert "holds the space of the bridge sound-bridge" in served
