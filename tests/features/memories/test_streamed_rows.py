"""Rows read from files are those of the memory, whoever reads and whatever happens to them."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from features.errors import UserError
from features.memories import streamed_rows
from features.memories.memory import Memory
from features.memories.streamed_rows import StreamedRows
from features.memories.writing import save_memory
from tests.features.helpers import changing, saved, unit_rows

WIDTH = 33  # odd, so that no row begins at a round place


def memories(folder: Path, dtype: str, counts: tuple[int, ...] = (300, 1, 200)) -> list[Memory]:
    return [
        save_memory(
            folder / f"{place}.h5",
            unit_rows(count, WIDTH, seed=place).astype(dtype),
            range(count),
            space="s",
            modality="text",
        )
        for place, count in enumerate(counts)
    ]


@pytest.fixture(params=["float16", "float32"])
def parts(tmp_path, request) -> list[Memory]:
    return memories(tmp_path, request.param)


@pytest.fixture(autouse=True)
def _small_buffers(monkeypatch):
    monkeypatch.setattr(streamed_rows, "_CACHED", 17 * WIDTH)  # 17 rows
    monkeypatch.setattr(streamed_rows, "_BLOCK", 99)


@pytest.mark.parametrize(
    "rows",
    [
        slice(None),
        slice(0, 1),
        slice(5, 40),
        slice(290, 310),
        slice(299, 302),
        slice(300, 301),
        slice(480, 900),
        slice(-7, None),
        slice(7, 7),
        slice(20, 10),
        slice(600, 700),
        slice(3, 480, 7),
        slice(40, 3, 2),
    ],
    ids=str,
)
def test_slices_are_those_of_the_tensors_to_the_bit(parts, rows):
    expected = torch.cat([memory.tensor() for memory in parts])
    found = StreamedRows(parts)
    assert (len(found), found.shape) == (501, torch.Size([501, WIDTH]))
    assert found[rows].dtype == torch.float32
    assert torch.equal(found[rows], expected[rows])


@pytest.mark.parametrize("rows", [[], [500], [0, 0, 0], [300, 299, 301, 2, 499, 300]])
def test_random_rows_come_in_the_order_that_is_asked_for(parts, rows):
    expected = torch.cat([memory.tensor() for memory in parts])
    index = torch.tensor(rows, dtype=torch.long)
    assert torch.equal(StreamedRows(parts).index_select(0, index), expected[index])
    many = torch.from_numpy(np.random.default_rng(0).integers(0, 501, 2000))
    assert torch.equal(StreamedRows(parts).index_select(0, many), expected[many])


@pytest.mark.parametrize("rows", [[501], [-1], [3, 1000]])
def test_rows_that_are_not_there_are_an_error(parts, rows):
    with pytest.raises(IndexError):
        StreamedRows(parts).index_select(0, torch.tensor(rows))
    with pytest.raises(ValueError, match="dimension 0"):
        StreamedRows(parts).index_select(1, torch.tensor([0]))


def test_blocks_and_mean_are_those_of_all_rows(parts):
    expected, found = torch.cat([memory.tensor() for memory in parts]), StreamedRows(parts)
    assert torch.equal(torch.cat(list(found.blocks(64))), expected)
    assert [len(block) for block in found.blocks(200)] == [200, 200, 101]
    torch.testing.assert_close(found.mean.double(), expected.double().mean(0), rtol=0, atol=1e-7)


def test_rows_are_made_unit_as_a_memory_makes_them(tmp_path):
    rows = unit_rows(50, 8) * np.linspace(0.996, 1.004, 50)[:, None]
    memory = save_memory(
        tmp_path / "m.h5", rows.astype("f4"), range(50), space="s", modality="text"
    )
    found = StreamedRows([memory])[:]
    assert torch.equal(found, memory.tensor())
    torch.testing.assert_close(found.norm(dim=1), torch.ones(50))


def test_a_file_that_takes_the_name_is_not_mixed_in(tmp_path):
    memory = saved(tmp_path / "m.h5", n=100)
    expected, found = memory.tensor(), StreamedRows([memory])
    first = found[:50]
    save_memory(memory.path, unit_rows(100, 8, seed=5), range(100), space="s", modality="text",
                overwrite=True)  # fmt: skip
    assert torch.equal(torch.cat([first, found[50:]]), expected)
    with pytest.raises(UserError, match=r"m.h5 was replaced by another memory after it was opened"):
        StreamedRows([memory])
    memory.path.unlink()
    assert torch.equal(found[:], expected)
    with pytest.raises(UserError, match=r"m.h5 cannot be read any more .*: check the file"):
        StreamedRows([memory])


def test_a_file_that_was_cut_is_an_error_and_no_row_is_made_up(tmp_path):
    memory = saved(tmp_path / "m.h5", n=1000, d=64)
    found = StreamedRows([memory])
    assert torch.isfinite(found[:]).all()  # what was checked is not checked again
    os.truncate(memory.path, found._files[0].offset + 900 * 256 + 7)
    assert torch.isfinite(found[:900]).all()
    with pytest.raises(UserError, match=r"m.h5 ends before its last embeddings: .* make it again"):
        found[890:910]
    with pytest.raises(UserError, match="ends before its last embeddings"):
        found.index_select(0, torch.tensor([5, 950]))


def test_a_memory_that_cannot_be_mapped_is_read_all_the_same(tmp_path):
    memory = saved(tmp_path / "m.h5", n=70, d=WIDTH, dtype="float16")
    with changing(memory.path) as file:
        rows = file["embeddings"][...]
        del file["embeddings"]
        file.create_dataset("embeddings", data=rows, chunks=(8, WIDTH), compression="gzip")
    memory = Memory(memory.path)
    assert not isinstance(memory.embeddings, np.memmap)
    found = StreamedRows([memory])
    assert torch.equal(found[3:60], memory.tensor()[3:60])
    assert torch.equal(found.index_select(0, torch.tensor([69, 2])), memory.tensor()[[69, 2]])


def _read(rows: StreamedRows, start: int) -> bytes:
    index = torch.arange(start, 501, 3)
    return (
        rows[start : start + 150].numpy().tobytes() + rows.index_select(0, index).numpy().tobytes()
    )


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_parallel_readers_do_not_disturb_each_other(tmp_path, method):
    found = StreamedRows(memories(tmp_path, "float16"))
    starts = list(range(0, 400, 37))
    expected = [_read(found, start) for start in starts]
    assert len(pickle.dumps(found)) < 2000
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        assert list(pool.map(_read, [found] * len(starts), starts, timeout=120)) == expected
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(_read, [found] * 20 * len(starts), starts * 20)) == expected * 20


def _children(rows: StreamedRows, starts: list[int], pipe: int) -> None:
    """Read by the very descriptors that the parent has, which a pickle would open anew."""
    with os.fdopen(pipe, "wb") as out:
        for start in starts:
            out.write(_read(rows, start))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_readers_share_the_descriptors(tmp_path):
    found = StreamedRows(memories(tmp_path, "float32"))
    starts = list(range(0, 400, 11))
    expected = b"".join(_read(found, start) for start in starts)
    pipes = []
    for _ in range(2):
        there, back = os.pipe()
        pipes.append((there, os.fork()))
        if not pipes[-1][1]:
            torch.set_num_threads(1)
            _children(found, starts, back)
            os._exit(0)
        os.close(back)
    here = b"".join(_read(found, start) for start in starts)
    answers = []
    for there, child in pipes:
        with os.fdopen(there, "rb") as answer:
            answers.append(answer.read())
        os.waitpid(child, 0)
    assert [here, *answers] == [expected] * 3


def test_descriptors_are_closed_when_nobody_reads(tmp_path):
    memory = saved(tmp_path / "m.h5")
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(50):
        StreamedRows([memory, memory])[:3]
    assert len(list(Path("/dev/fd").iterdir())) == before


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux tells what is resident")
def test_what_was_read_does_not_stay_resident(tmp_path, monkeypatch):
    monkeypatch.setattr(streamed_rows, "_CACHED", 1 << 15)
    rows = np.tile(unit_rows(1000, 1024), (60, 1)).astype("f2")
    memory = save_memory(tmp_path / "m.h5", rows, range(60_000), space="s", modality="text")
    size, found = rows.nbytes, StreamedRows([memory])
    del rows
    everywhere = torch.arange(0, 60_000, 4)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    found[:500], found.index_select(0, everywhere[:500])
    before, most = resident(), 0
    for _ in found.blocks(500):
        most = max(most, resident())
    for part in everywhere.split(500):
        found.index_select(0, part)
        most = max(most, resident())
    assert most - before < size / 4
    assert memory.embeddings.sum() != 0  # through the map, for comparison
    assert resident() - before > size / 2


def test_a_file_that_fits_nowhere_is_read_alike(parts, monkeypatch):
    monkeypatch.setattr(streamed_rows, "free_bytes", lambda _: 100)
    found = StreamedRows(parts)
    assert not any(file.keep for file in found._files)
    for _ in range(2):
        assert torch.equal(found[:], torch.cat([memory.tensor() for memory in parts]))


def test_systems_without_preadv_read_alike(parts, monkeypatch):
    for name in ("preadv", "posix_fadvise"):
        monkeypatch.delattr(os, name, raising=False)
    found = StreamedRows(parts)
    assert torch.equal(found[:], torch.cat([memory.tensor() for memory in parts]))
