"""`mcr import` and `mcr export`: what they print, and what other commands make of the memory."""

from __future__ import annotations

import json

import numpy as np
import pytest

from features.memories.memory import Memory
from tests.cli.conftest import answer, done, mcr
from tests.features.helpers import unit_rows

ROWS = unit_rows(6, 4)


@pytest.fixture(autouse=True)
def _array(tmp_path):
    np.save(tmp_path / "a.npy", ROWS)


def test_import_says_what_it_took_for_granted(tmp_path):
    out = tmp_path / "m.h5"
    result = done("import", tmp_path / "a.npy", "-o", out, "--space", "clip", "-m", "image")
    assert result.stdout == f"{out}: 6 image embeddings of clip, 4-d\n"
    assert "has no ids: the rows' numbers, from 0, are the ids" in result.stderr
    assert "queries with new sentences or files will need --encoder clip=SPEC" in result.stderr
    assert "normalised" not in result.stderr
    np.testing.assert_array_equal(Memory(out).embeddings, ROWS)


def test_import_normalises_and_leaves_out_with_exit_code_3(tmp_path):
    rows = 4 * ROWS
    rows[2] = 0
    np.save(tmp_path / "a.npy", rows)
    out = tmp_path / "m.h5"
    result = mcr(
        "import", tmp_path / "a.npy", "-o", out, "-s", "clip", "-m", "image", "--json",
        "--dtype", "float16",
    )  # fmt: skip
    assert result.exit_code == 3
    told = json.loads(result.stdout)
    assert (told["items"], told["normalised"], told["failures"]) == (5, 5, 1)
    assert "5 of 5 rows were normalised, since memories hold unit rows: norms were 4 to 4" in (
        result.stderr
    )
    assert "1 rows were left out and are listed in" in result.stderr
    assert "the first, 2: the embedding has zero norm" in result.stderr
    assert Memory(out).header.dtype == "float16"


def test_export_and_import_with_the_encoder_give_the_same_memory(workshop, tmp_path):
    memory = workshop.memory("images")
    told = answer("export", memory, "-o", tmp_path / "m.npz")
    assert told == {
        "file": str(tmp_path / "m.npz"), "format": "npz", "items": len(Memory(memory)), "lost": [],
    }  # fmt: skip
    out = tmp_path / "back.h5"
    done(
        "import", tmp_path / "m.npz", "-o", out, "-m", "image", "-e", workshop.specs["sees"],
        "--device", "cpu",
    )  # fmt: skip
    assert Memory(out).fingerprint == Memory(memory).fingerprint
    # Precision and versions are those of whoever made the embeddings, which nobody told.
    unknown = {"precision": "", "versions": {}}
    assert Memory(out).header.encoder == {**Memory(memory).header.encoder, **unknown}
    assert Memory(out).header.extra["imported_from"] == "m.npz"


def test_an_imported_memory_is_searched(workshop, tmp_path):
    done("export", workshop.memory("images"), "-o", tmp_path / "m.safetensors")
    out = tmp_path / "back.h5"
    done("import", tmp_path / "m.safetensors", "-o", out, "-m", "image", "-s", "sees")
    done("project", out, "-b", workshop.sound_bridge, "-o", tmp_path / "shared.h5")
    assert (
        Memory(tmp_path / "shared.h5").fingerprint == Memory(workshop.memory("shared")).fingerprint
    )


def test_export_tells_what_is_lost(workshop, tmp_path):
    result = done("export", workshop.memory("images"), "-o", tmp_path / "m.npy")
    count = len(Memory(workshop.memory("images")))
    assert result.stdout == f"{tmp_path / 'm.npy'}: {count} image embeddings of sees as npy\n"
    assert "has no place for the labels: export a .parquet file to keep them" in result.stderr


def test_a_description_is_recorded(tmp_path):
    (tmp_path / "e.json").write_text('{"name": "mine", "weights": "w", "spec": "clip:x"}')
    out = tmp_path / "m.h5"
    result = done(
        "import", tmp_path / "a.npy", "-o", out, "-s", "clip", "-m", "image",
        "--encoder-json", tmp_path / "e.json",
    )  # fmt: skip
    assert "not recorded" not in result.stderr
    assert Memory(out).header.encoder["weights"] == "w"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "image"], "error: the space has no name: give --space"),
        (["-m", "smell", "-s", "x"], "error: 'smell' is not a modality"),
        (["-m", "image", "-s", "x", "-e", "a", "--encoder-json", "b"], "give one of them"),
        (["-m", "image", "-s", "x", "--dtype", "int8"], "float16 or float32, not 'int8'"),
        (["-m", "image", "-s", "x", "--ids", "none.txt"], "ids none.txt does not exist"),
    ],
)
def test_wrong_options_are_said_in_one_sentence(tmp_path, arguments, message):
    result = mcr("import", tmp_path / "a.npy", "-o", tmp_path / "m.h5", *arguments)
    assert result.exit_code == (2 if "'" in message else 1)  # a value that there is not
    assert message in result.stderr
    assert not (tmp_path / "m.h5").exists()
