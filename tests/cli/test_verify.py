"""`mcr verify` finds what was damaged, wherever it is, and says what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from bridge.training.checkpoint import load_checkpoint, save_checkpoint
from features.errors import UserError
from features.memories.memory import Memory
from features.memories.writing import save_memory
from features.sealed import read_sealed
from tests.cli.conftest import Workshop, done, mcr, without_results
from tests.features.helpers import changing


@pytest.fixture
def shop(workshop: Workshop, tmp_path: Path) -> Path:
    """Memories, an index and a bridge that a test may damage."""
    for path in (workshop.memory("images"), workshop.memory("shared"), workshop.index):
        for file in (path, path.with_suffix(".ids.h5"), path.with_suffix(".json")):
            if file.exists():
                shutil.copy(file, tmp_path / file.name)
    without_results(workshop.sound_bridge, tmp_path / "bridge")
    return tmp_path


def _flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 16
    path.write_bytes(content)


def _bad(*arguments: object) -> str:
    result = mcr("verify", *arguments)
    assert result.exit_code == 1, result.stdout
    assert isinstance(result.exception, SystemExit), result.exception
    return "".join(line for line in result.stdout.splitlines(True) if line.startswith("BAD"))


def test_all_below_a_folder_is_looked_at(shop):
    result = done("verify", shop)
    told = result.stdout
    assert "BAD" not in told
    assert "images.h5: memory of " in told
    assert "shared.faiss: index of " in told
    assert "bridge: bridge between " in told
    states = {one["state"] for one in json.loads(done("verify", shop, "--json").stdout)}
    assert states <= {"good", "note"}


def test_a_flipped_bit_of_the_embeddings_is_found(shop):
    with h5py.File(shop / "images.h5", "r") as file:
        place = file["embeddings"].id.get_offset()
    _flip(shop / "images.h5", place + 101)
    assert "embeddings are not what was written" in _bad(shop / "images.h5")


def test_a_memory_of_an_earlier_version_is_told(shop):
    with changing(shop / "images.h5"):
        pass
    told = done("verify", shop / "images.h5").stdout
    assert "memories had no checksums of their parts" in told
    assert "content, norms and ids are right" in told
    with h5py.File(shop / "images.h5", "r") as file:
        place = file["embeddings"].id.get_offset()
    _flip(shop / "images.h5", place + 101)
    assert "its content has fingerprint" in _bad(shop / "images.h5")


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_flipped_bit_anywhere_in_an_index_is_found(shop, share):
    index = shop / "shared.faiss"
    _flip(index, int(index.stat().st_size * share))
    assert "shared.faiss" in _bad(index)


def test_a_flip_that_opening_an_index_does_not_see_is_found(shop, monkeypatch):
    monkeypatch.setattr("features.search.index_files.SAMPLE_BYTES", 16)
    done("index", shop / "shared.h5", "-o", shop / "again.faiss")
    path = shop / "again.faiss"
    _flip(path, path.stat().st_size // 3)
    assert "rebuild them with `mcr index --overwrite`" in _bad(path)


@pytest.mark.parametrize("name", ["images.h5", "shared.faiss", "shared.ids.h5", "shared.json"])
def test_files_that_were_cut_off_are_found(shop, name):
    path = shop / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert _bad(shop)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.4, 0.8, 0.999])
def test_a_flipped_bit_of_a_bridge_is_found(shop, share):
    path = shop / "bridge" / "bridge.safetensors"
    _flip(path, int(path.stat().st_size * share))
    assert "bridge" in _bad(shop / "bridge")


def test_weights_that_are_no_numbers_are_found(shop):
    from features.tensors import tensors_hash

    path = shop / "bridge" / "bridge.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[0]
    tensors[name].view(-1)[0] = float("nan")
    save_file(tensors, path)
    about = read_sealed(shop / "bridge" / "bridge.json")
    about["fingerprint"] = tensors_hash(tensors)
    (shop / "bridge" / "bridge.json").write_text(json.dumps(about))
    assert f"weights that are NaN or infinite ({name}): train it again" in _bad(shop / "bridge")


def test_rows_that_cannot_be_are_found_whatever_the_fingerprint_says(shop, monkeypatch):
    monkeypatch.setattr("features.memories.memory.Memory.verify", lambda _: None)
    with changing(shop / "images.h5") as file:
        file["embeddings"][1] = np.nan
        file["embeddings"][2] *= 2
    told = _bad(shop / "images.h5")
    assert "2 rows are wrong" in told
    assert "NaN or infinite" in told
    assert "norm 2" in told


def test_a_memory_that_changed_since_is_told(shop):
    done("verify", shop / "bridge")
    about = read_sealed(shop / "bridge" / "bridge.json")
    about["memories"][0]["fingerprint"] = "0" * 32
    about["memories"][1]["path"] = str(shop / "gone.h5")
    (shop / "bridge" / "bridge.json").write_text(json.dumps(about))
    told = done("verify", shop / "bridge").stdout
    assert "was 00000000000000000000000000000000 when it was trained" in told
    assert "gone.h5 is not there; it is needed to train alone" in told


def test_a_checkpoint_with_a_flipped_bit_is_not_continued(tmp_path):
    import torch

    save_checkpoint(tmp_path, {"a": torch.arange(8.0)}, {"epoch": 3})
    assert load_checkpoint(tmp_path) is not None
    assert "its checkpoint is whole" in done("verify", tmp_path).stdout
    _flip(tmp_path / "checkpoint-3.safetensors", -5)
    with pytest.raises(UserError, match=r"is damaged .*not what was written"):
        load_checkpoint(tmp_path)
    assert "pass --overwrite to train from the start" in _bad(tmp_path)


def test_files_of_trackers_are_not_taken_for_results(shop):
    (shop / "bridge" / "tracking").mkdir()
    (shop / "bridge" / "tracking" / "wandb.json").write_text("{}")
    assert "BAD" not in done("verify", shop / "bridge").stdout
    (shop / "bridge" / "results").mkdir()
    (shop / "bridge" / "results" / "cut.json").write_text("{")
    assert "cut.json" in _bad(shop / "bridge")


def test_what_lies_beside_a_memory_is_told(shop):
    (shop / "images.h5.partial").mkdir()
    told = done("verify", shop / "images.h5").stdout
    assert "an extraction that was not finished: run its command again" in told


def test_partners_hold_the_same_items_in_the_same_order(workshop):
    texts = [workshop.memory(f"text-{name}") for name in ("sees", "hears")]
    assert "2 memories of the same" in done("verify", *texts, "--partners").stdout
    told = _bad(texts[0], workshop.memory("images"), "--partners")
    assert f"of {len(Memory(texts[0]))} and 32 items, 0 have an id that the other has too" in told


def test_partners_in_another_order_are_told(workshop, tmp_path):
    memory = Memory(workshop.memory("text-sees"))
    turned = tmp_path / "turned.h5"
    save_memory(turned, memory.tensor().flip(0), memory.ids[::-1], space="x", modality="text")
    told = _bad(memory.path, turned, "--partners")
    assert f"they have the same {len(memory)} ids in another order, from row 0 on ('" in told
    short = tmp_path / "short.h5"
    save_memory(short, memory.tensor()[:5], memory.ids[:5], space="x", modality="text")
    told = _bad(memory.path, short, "--partners")
    assert f"of {len(memory)} and 5 items, 5 have an id that the other has too" in told


def test_a_file_that_is_no_memory_is_named_once(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("nothing")
    told = _bad(path, path)
    assert told.count(str(path)) == 1
    assert told.startswith(f"BAD  {path} is neither a memory (NAME.h5) nor an index (NAME.faiss)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.h5"], "none.h5 does not exist: give a memory"),
        (["."], "holds no memory, index or bridge: give the folder"),
        (["a.h5", "--partners"], "--partners compares memories and 1 is given"),
    ],
)
def test_wrong_usage_is_said(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = mcr("verify", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
