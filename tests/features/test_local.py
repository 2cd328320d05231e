"""Embeddings of parts: extracted, stopped and continued, checked, written, projected."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import bridge
from bridge.artefact import Bridge, BridgedSpace, make_projector
from bridge.config import TrainSettings
from features.encoders import LocalEmbeddings, LocalEncoder
from features.errors import UserError
from features.extraction.extract import extract
from features.extraction.partial import Partial
from features.memories.memory import Columns, Memory, MemoryHeader
from features.memories.writing import write_memory
from features.space import Modality
from tests.features.helpers import (
    SENTENCES,
    FakeEncoder,
    StopAfter,
    changing,
    fake_extract,
    fake_source,
    files_of,
    unit_rows,
)

PARTS = 4
GOOD = [one for one in SENTENCES if "bad" not in one and "boom" not in one]


class Words(FakeEncoder):
    """The sentences of a fake encoder, and their words as parts: one each, four at most.

    kill_at: the call of `encode_local` that kills this process. spoil: changes the answer.
    """

    def __init__(self, *, kill_at: int | None = None, spoil: Any = None, **options: Any) -> None:
        super().__init__(**options)
        self.kill_at, self.spoil = kill_at, spoil

    def local_length(self, modality: Modality) -> int:
        return PARTS if modality == "text" else 0

    def encode_local(self, batch: Sequence[NDArray[Any]], modality: Modality) -> LocalEmbeddings:
        if self.calls == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        pooled = self.encode(batch, modality)
        local = torch.zeros(len(batch), PARTS, self.space.dimension)
        mask = torch.zeros(len(batch), PARTS, dtype=torch.bool)
        for i, codes in enumerate(batch):
            words = bytes(codes.astype(np.uint8)).decode().rstrip("\0").split()
            for t, word in enumerate(words[:PARTS]):
                local[i, t] = word_row(word)
                mask[i, t] = True
        found = LocalEmbeddings(pooled, local, mask)
        return found if self.spoil is None else self.spoil(found)


def word_row(word: str) -> torch.Tensor:
    """The embedding of a word, (8,)."""
    codes = torch.tensor(list(word.encode().ljust(32)), dtype=torch.float32)
    return torch.nn.functional.normalize(codes @ FakeEncoder().matrix, dim=0)


def extract_words(out: Path, encoder: Words | None = None, **options: Any) -> Memory:
    return fake_extract(out, encoder or Words(), **{"local": True, **options}).memory


SOURCE = fake_source(["one", "two bad", "a b c d", "boom", "five six", "seven", "eight 8", "n o"])


# --- extraction


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_every_part_is_in_the_memory_and_the_rest_is_zero(tmp_path: Path, dtype: Any) -> None:
    assert isinstance(Words(), LocalEncoder)
    assert not isinstance(FakeEncoder(), LocalEncoder)
    memory = extract_words(tmp_path / "m.h5", source=SOURCE, dtype=dtype)
    assert memory.header.local_length == PARTS
    assert memory.local is not None
    assert memory.local_mask is not None
    assert isinstance(memory.local, np.memmap)
    assert (memory.local.shape, memory.local.dtype) == ((6, PARTS, 8), np.dtype(dtype))
    rounding = 1e-3 if dtype == "float16" else 1e-6
    for row, sentence in enumerate(memory.ids):
        words = sentence.split()
        assert memory.local_mask[row].tolist() == [t < len(words) for t in range(PARTS)]
        for t in range(PARTS):
            expected = word_row(words[t]).numpy() if t < len(words) else np.zeros(8)
            np.testing.assert_allclose(memory.local[row, t], expected, atol=rounding)
    local, mask = memory.local_tensors(np.array([4, 1]))
    assert (local.dtype, mask.dtype) == (torch.float32, torch.bool)
    assert mask.tolist() == [[True, True, False, False], [True] * 4]
    torch.testing.assert_close(local.norm(dim=-1), mask.float(), rtol=0, atol=1e-6)
    memory.verify()


def test_the_wholes_are_the_same_with_and_without_parts(tmp_path: Path) -> None:
    with_parts = extract_words(tmp_path / "m.h5", source=SOURCE)
    without = extract_words(tmp_path / "n.h5", source=SOURCE, local=False)
    assert without.local is None
    assert without.local_mask is None
    assert without.header.local_length == 0
    np.testing.assert_array_equal(without.embeddings, with_parts.embeddings)
    assert list(without.ids) == list(with_parts.ids)
    assert without.fingerprint != with_parts.fingerprint
    with pytest.raises(UserError, match="has no local embeddings: extract it again with --local"):
        without.local_tensors(np.array([0]))


def test_an_item_with_a_broken_part_fails_and_leaves_the_others(tmp_path: Path) -> None:
    def spoil(found: LocalEmbeddings) -> LocalEmbeddings:
        found.local[0, 0, 3] = torch.inf
        return found

    done = fake_extract(tmp_path / "m.h5", Words(spoil=spoil), local=True, batch_size=8)
    assert [(one.id, one.reason) for one in done.failures] == [
        ("one", "a local embedding has NaN or infinite values"),
        ("two bad", "it is bad"),
        ("boom four", "ZeroDivisionError: boom in the decoder"),
        ("seven bad", "it is bad"),
    ]
    clean = extract_words(tmp_path / "n.h5", source=fake_source(GOOD[1:]), batch_size=8)
    assert done.memory.local is not None
    assert clean.local is not None
    np.testing.assert_array_equal(done.memory.local, clean.local)


@pytest.mark.parametrize(
    ("part", "length", "reason"),
    [(0, 1.5, "the local embedding 0 has norm 1.5, not 1"),
     (3, 0.5, "the local embedding 3 has norm 0.5, not 0")],
)  # fmt: skip
def test_a_part_that_is_not_as_the_mask_says_fails_its_item(
    tmp_path: Path, part: int, length: float, reason: str
) -> None:
    def spoil(found: LocalEmbeddings) -> LocalEmbeddings:
        found.local[1, part] = length * word_row("x")
        return found

    source = fake_source(["one", "two", "three"])
    done = fake_extract(tmp_path / "m.h5", Words(spoil=spoil), local=True, source=source)
    assert [(one.id, one.reason) for one in done.failures] == [("two", reason)]
    assert list(done.memory.ids) == ["one", "three"]


SPOILT: list[tuple[Any, str]] = [
    (
        lambda f: LocalEmbeddings(f.pooled, f.local[:, :3], f.mask),
        r"an array \(2, 3, 8\) for 2 items",
    ),
    (lambda f: LocalEmbeddings(f.pooled, f.local, f.mask[:, :3]), r"an array \(2, 3\) for 2 "),
    (lambda f: LocalEmbeddings(f.pooled, f.local[1:], f.mask), r"an array \(1, 4, 8\) for 2 "),
    (lambda f: LocalEmbeddings(f.pooled[1:], f.local, f.mask), r"an array \(1, 8\) for 2 "),
    (lambda f: LocalEmbeddings(f.pooled, f.local, f.mask.numpy()), "a ndarray, not a Tensor"),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_an_encoder_with_parts_of_the_wrong_shape_is_told(
    tmp_path: Path, spoil: Any, message: str
) -> None:
    with pytest.raises(UserError, match=f"the encoder fake returned {message}"):
        extract_words(tmp_path / "m.h5", Words(spoil=spoil))
    assert not (tmp_path / "m.h5").exists()


def test_an_encoder_without_parts_is_refused(tmp_path: Path) -> None:
    class Wordless(Words):
        def local_length(self, modality: Modality) -> int:  # noqa: ARG002
            return 0

    for encoder in (FakeEncoder(), Wordless()):
        with pytest.raises(UserError) as error:
            fake_extract(tmp_path / "m.h5", encoder, local=True)
        assert str(error.value) == (
            "the encoder fake has no local embeddings of text: leave --local out"
        )
    assert list(tmp_path.iterdir()) == []


# --- stopped and continued


@pytest.mark.parametrize("batch", [0, 1, 2])
def test_going_on_after_an_interruption_gives_the_same_bytes(tmp_path: Path, batch: int) -> None:
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    extract_words(tmp_path / "whole" / "m.h5")
    out = tmp_path / "stopped" / "m.h5"
    with pytest.raises(KeyboardInterrupt):
        extract_words(out, progress=StopAfter(batch + 1))
    assert not out.exists()
    resumed = fake_extract(out, Words(), local=True)
    assert resumed.resumed_from == min(len(SENTENCES), 3 * (batch + 1))
    assert files_of(tmp_path / "stopped") == files_of(tmp_path / "whole")


def _until_killed(out: Path) -> None:
    torch.set_num_threads(1)
    extract_words(out, Words(kill_at=2))


def test_going_on_after_a_kill_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    extract_words(tmp_path / "whole" / "m.h5")
    out = tmp_path / "killed" / "m.h5"
    process = multiprocessing.get_context("spawn").Process(target=_until_killed, args=(out,))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert fake_extract(out, Words(), local=True).resumed_from == 6
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")


@pytest.mark.parametrize("field", ["pooled", "local", "mask"])
def test_a_batch_that_was_damaged_since_is_embedded_again(tmp_path: Path, field: str) -> None:
    whole = extract_words(tmp_path / "n.h5").path.read_bytes()
    out = tmp_path / "m.h5"
    with pytest.raises(KeyboardInterrupt):
        extract_words(out, progress=StopAfter(2))
    dtype = MemoryHeader("fake", "text", 8, local_length=PARTS).row_dtype()
    rows = np.memmap(tmp_path / "m.h5.partial" / "rows.bin", dtype=dtype, mode="r+")
    rows[field][-1] += 1
    rows.flush()
    assert fake_extract(out, Words(), local=True).resumed_from == 3
    assert out.read_bytes() == whole


def test_with_parts_and_without_are_two_outputs(tmp_path: Path) -> None:
    out = tmp_path / "m.h5"
    changes = ((True, False, "local: 4 then, 0 now"), (False, True, "local: 0 then, 4 now"))
    for first, second, told in changes:
        with pytest.raises(KeyboardInterrupt):
            extract_words(out, local=first, progress=StopAfter(1), overwrite=True)
        with pytest.raises(UserError, match=told):
            extract_words(out, local=second)
        extract_words(out, local=first)
        with pytest.raises(UserError, match="was made from another source, encoder or setting"):
            extract_words(out, local=second, resume=True)
        out.unlink()


def test_the_layout_of_unfinished_rows(tmp_path: Path) -> None:
    header = MemoryHeader("s", "text", 3, "float32", local_length=2)
    dtype = header.row_dtype()
    assert dtype.itemsize == 4 * 3 + 4 * 2 * 3 + 2
    assert MemoryHeader("s", "text", 3).row_dtype().itemsize == 2 * 3
    partial = Partial(tmp_path / "p", {}, dtype.itemsize)
    rows = np.zeros(5, dtype)
    rows["local"] = np.arange(30).reshape(5, 2, 3)
    rows["mask"][::2] = 1
    partial.commit(rows[:2], [])
    partial.commit(rows[2:], [])
    (stored,) = partial.stored(dtype)
    assert np.array_equal(stored, rows)
    partial.close()


# --- damage


@pytest.mark.parametrize("dataset", ["embeddings", "local", "local_mask"])
def test_a_flipped_bit_is_noticed(tmp_path: Path, dataset: str) -> None:
    memory = extract_words(tmp_path / "m.h5")
    memory.verify()
    with h5py.File(memory.path) as file:
        offset, size = file[dataset].id.get_offset(), file[dataset].nbytes
    content = bytearray(memory.path.read_bytes())
    for place in (0, size // 2, size - 1):
        flipped = bytearray(content)
        flipped[offset + place] ^= 1
        path = tmp_path / "flipped.h5"
        path.write_bytes(flipped)
        with pytest.raises(UserError, match=r"is damaged, bytes .* are not what was written"):
            Memory(path).verify()


def test_a_cut_or_incomplete_memory_is_not_read(tmp_path: Path) -> None:
    memory = extract_words(tmp_path / "m.h5")
    content = memory.path.read_bytes()
    (tmp_path / "cut.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="is not a readable memory"):
        Memory(tmp_path / "cut.h5")
    with changing(memory.path) as file:
        del file["local_mask"]
    with pytest.raises(UserError, match="is not a readable memory"):
        Memory(memory.path)


# --- writing


HEADER = MemoryHeader("s", "image", 4, "float32", local_length=2)
ROWS = unit_rows(3, 4)
LOCAL = unit_rows(6, 4, seed=1).reshape(3, 2, 4)
MASK = np.ones((3, 2), dtype=bool)


def write(path: Path, *batches: tuple[NDArray[Any], NDArray[Any]], header: Any = HEADER) -> Memory:
    return write_memory(path, header, Columns(list("abc")), [ROWS], local=batches)


def test_the_same_parts_give_the_same_bytes_however_they_are_split(tmp_path: Path) -> None:
    whole = write(tmp_path / "m.h5", (LOCAL, MASK))
    split = write(tmp_path / "n.h5", (LOCAL[:1], MASK[:1]), (LOCAL[1:], MASK[1:].astype(np.uint8)))
    assert whole.path.read_bytes() == split.path.read_bytes()
    assert whole.local is not None
    np.testing.assert_array_equal(whole.local, LOCAL)
    other = write(tmp_path / "o.h5", (LOCAL[::-1], MASK))
    assert other.fingerprint != whole.fingerprint


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "0 local embeddings were given for 3 items: give all"),
        ([(LOCAL[:2], MASK[:2])], "2 local embeddings were given for 3 items"),
        ([(LOCAL, MASK), (LOCAL, MASK)], r"\(3, 2, 4\) are expected, rows 3 to 6 have shape"),
        ([(LOCAL[:, :1], MASK[:, :1])], r"rows 0 to 3 have shape \(3, 1, 4\) and mask \(3, 1\)"),
        ([(LOCAL[..., :3], MASK)], r"rows 0 to 3 have shape \(3, 2, 3\) and mask \(3, 2\)"),
        ([(LOCAL, MASK[:, :1])], r"have shape \(3, 2, 4\) and mask \(3, 1\): give one batch for"),
        ([(LOCAL, MASK[:2])], r"have shape \(3, 2, 4\) and mask \(2, 2\)"),
        ([(ROWS, MASK)], r"rows 0 to 3 have shape \(3, 4\)"),
    ],
)
def test_parts_that_do_not_fit_are_refused_and_nothing_is_left(
    tmp_path: Path, batches: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        write(tmp_path / "m.h5", *batches)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("local", "mask", "message"),
    [
        (LOCAL * 2, MASK, "'a': the local embedding 0 has norm 2, not 1"),
        (
            LOCAL * np.array([1, np.nan, 1])[:, None, None],
            MASK,
            "'b': a local embedding has NaN or",
        ),
        (LOCAL * np.array([1, 0])[:, None], MASK, "'a': the local embedding 1 has norm 0, not 1"),
        (LOCAL, MASK & np.array([True, False]), "'a': the local embedding 1 has norm 1, not 0"),
    ],
)
def test_parts_that_are_no_unit_rows_are_refused(
    tmp_path: Path, local: Any, mask: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        write(tmp_path / "m.h5", (local.astype(np.float32), mask))
    assert list(tmp_path.iterdir()) == []


def test_parts_for_a_memory_that_has_none_are_refused(tmp_path: Path) -> None:
    header = MemoryHeader("s", "image", 4, "float32")
    with pytest.raises(UserError, match="whose header has a local_length of 0: say how many"):
        write(tmp_path / "m.h5", (LOCAL, MASK), header=header)


# --- projection


KNOWN = FakeEncoder().description.as_dict()


def random_bridge(inputs: int = 8) -> Bridge:
    settings = TrainSettings(dimension=6, hidden=16)
    generator = torch.Generator().manual_seed(0)
    return Bridge(
        "joined",
        [BridgedSpace(name, inputs, ("text",), KNOWN) for name in ("fake", "other")],
        {name: make_projector(inputs, settings, generator) for name in ("fake", "other")},
        settings,
    )


@pytest.mark.parametrize("block", [None, 5])
def test_parts_are_projected_with_their_items(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int | None
) -> None:
    if block is not None:  # several blocks, and one item to a block of parts
        monkeypatch.setattr("bridge.projection.BLOCK", block)
    memory = extract_words(tmp_path / "m.h5", source=SOURCE, dtype="float32")
    joined = random_bridge()
    made = bridge.project_memory(joined, memory, tmp_path / "p.h5")
    assert (made.dimension, made.header.local_length, len(made)) == (6, PARTS, 6)
    made.verify()
    every = np.arange(len(memory))
    local, mask = made.local_tensors(every)
    assert torch.equal(mask, memory.local_tensors(every)[1])
    assert not mask.all()
    torch.testing.assert_close(local.norm(dim=-1), mask.float(), rtol=0, atol=1e-6)
    for row, sentence in enumerate(made.ids):
        for t, word in enumerate(sentence.split()):
            by_hand = joined.project(word_row(word)[None], "fake")[0]
            torch.testing.assert_close(local[row, t], by_hand, rtol=0, atol=1e-5)
    assert made.local is not None
    assert not np.asarray(made.local)[~mask.numpy()].any()


def test_projecting_a_memory_without_parts_makes_one_without(tmp_path: Path) -> None:
    memory = extract_words(tmp_path / "m.h5", local=False)
    made = bridge.project_memory(random_bridge(), memory, tmp_path / "p.h5")
    assert made.local is None
    assert "local" not in h5py.File(made.path)


def test_extract_refuses_another_modality_before_its_parts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the space fake does not embed image, only text"):
        extract(fake_source(), Words(), "image", tmp_path / "m.h5", local=True)
