"""What was committed survives any cut or flip of the files, as whole batches from the front."""

from __future__ import annotations

import errno
import json
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import UserError
from features.extraction.partial import Failure, Partial, continues, discard
from features.files import explained

WIDTH = 3
PLAN = {"encoder": "e", "batch_size": 4, "modalities": ("text",)}
ROW_BYTES = WIDTH * 4
Batch = tuple[np.ndarray, list[Failure]]


def _batches(sizes: list[tuple[int, int]]) -> list[Batch]:
    """Batches with (rows, failures) each, all rows different."""
    rng = np.random.default_rng(0)
    return [
        (
            rng.standard_normal((rows, WIDTH)).astype(np.float32),
            [Failure(f"{b}-{i}", f"päth {i}", "no\nimage") for i in range(failures)],
        )
        for b, (rows, failures) in enumerate(sizes)
    ]


@contextmanager
def _opened(folder: Path, plan: Any = PLAN) -> Iterator[Partial]:
    partial = Partial(folder, plan, ROW_BYTES)
    try:
        yield partial
    finally:
        partial.close()


def _commit(folder: Path, batches: list[Batch]) -> None:
    """Open and commit those of `batches` that are not there yet."""
    with _opened(folder) as partial:
        for rows, failures in batches[partial.batches :]:
            partial.commit(rows, failures)


def _check(partial: Partial, batches: list[Batch]) -> None:
    """What `partial` holds is exactly the first of `batches`."""
    kept = batches[: partial.batches]
    expected = np.concatenate([np.zeros((0, WIDTH), np.float32), *(rows for rows, _ in kept)])
    found = [np.array(chunk) for chunk in partial.stored(np.dtype(("<f4", (WIDTH,))))]
    np.testing.assert_array_equal(np.concatenate([expected[:0], *found]), expected)
    assert partial.rows == len(expected)
    assert partial.failures == [failure for _, failures in kept for failure in failures]


sizes = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=6)
quick = settings(max_examples=60, deadline=None)


@quick
@given(sizes, st.data())
def test_a_cut_leaves_whole_batches_and_going_on_gives_the_same(
    sizes: list[tuple[int, int]], data: st.DataObject
) -> None:
    batches = _batches(sizes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "m.h5.partial"
        _commit(folder, batches)
        whole = {path.name: path.read_bytes() for path in folder.iterdir()}
        lengths = {}
        for file in ("journal.jsonl", "rows.bin"):
            lengths[file] = data.draw(st.integers(0, len(whole[file])), label=file)
            (folder / file).write_bytes(whole[file][: lengths[file]])
        with _opened(folder) as partial:
            _check(partial, batches)
            lines = whole["journal.jsonl"][: lengths["journal.jsonl"]].count(b"\n")
            ends = np.cumsum([len(rows) * ROW_BYTES for rows, _ in batches[:lines]])
            assert partial.batches == int((ends <= lengths["rows.bin"]).sum())
        _commit(folder, batches)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


@settings(max_examples=150, deadline=None)
@given(sizes, st.data())
def test_a_flipped_bit_loses_its_batch_and_what_follows_only(
    sizes: list[tuple[int, int]], data: st.DataObject
) -> None:
    batches = _batches(sizes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "m.h5.partial"
        _commit(folder, batches)
        whole = {path.name: path.read_bytes() for path in folder.iterdir()}
        file = data.draw(st.sampled_from(["journal.jsonl", "rows.bin"]))
        content = bytearray(whole[file] or b" ")
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= 1 << data.draw(st.integers(0, 7))
        (folder / file).write_bytes(content)
        with _opened(folder) as partial:
            _check(partial, batches)
            if file == "journal.jsonl":
                assert partial.batches >= whole[file][:place].count(b"\n")
            else:
                ends = np.cumsum([len(rows) * ROW_BYTES for rows, _ in batches])
                assert partial.batches >= int((ends <= place).sum())
        _commit(folder, batches)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


@pytest.mark.parametrize(
    "line",
    [
        b"null\n",
        b"[]\n",
        b"{}\n",
        b'{"batch": 0}\n',
        b'{"batch": 0, "rows": 1e0, "checksum": "", "failures": []}\n',
        b'{"batch": 0, "rows": 0, "checksum": "2d06800538d394c2", "failures": [{"i": 1}]}\n',
        b"\xff\n",
    ],
)
def test_a_strange_line_of_the_journal_does_not_count(tmp_path: Path, line: bytes) -> None:
    _commit(tmp_path, [])
    (tmp_path / "journal.jsonl").write_bytes(line)
    with _opened(tmp_path) as partial:
        assert (partial.batches, partial.rows) == (0, 0)
    assert (tmp_path / "journal.jsonl").read_bytes() == b""


def test_another_plan_is_refused_with_what_differs(tmp_path: Path) -> None:
    batches = _batches([(2, 1)])
    _commit(tmp_path, batches)
    with pytest.raises(UserError, match=r"other settings \(batch_size: 4 then, 5 now\)"):
        Partial(tmp_path, {**PLAN, "batch_size": 5}, ROW_BYTES)
    with pytest.raises(UserError, match=r"other settings \(x: None then, 1 now\).*--overwrite"):
        Partial(tmp_path, {**PLAN, "x": 1}, ROW_BYTES)
    with _opened(tmp_path) as partial:
        _check(partial, batches)
        assert partial.batches == 1


@pytest.mark.parametrize("damage", [lambda plan: plan[:-9], lambda plan: plan.replace(b"4", b"5")])
def test_a_damaged_plan_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    _commit(tmp_path, [])
    plan = tmp_path / "plan.json"
    plan.write_bytes(damage(plan.read_bytes()))
    with pytest.raises(UserError, match=r"plan\.json is damaged: pass --overwrite"):
        Partial(tmp_path, PLAN, ROW_BYTES)


def test_a_refused_plan_leaves_the_folder_unlocked(tmp_path: Path) -> None:
    _commit(tmp_path, [])
    try:
        Partial(tmp_path, {"x": 1}, ROW_BYTES)
    except UserError as error:
        held = error  # as an interactive session holds the last error
    with _opened(tmp_path) as partial:
        assert partial.batches == 0
    assert "other settings" in str(held)


def test_rows_of_an_unknown_plan_are_not_taken_over(tmp_path: Path) -> None:
    """As a kill during `remove` may leave them: the plan is gone, the rows are there."""
    _commit(tmp_path, _batches([(2, 1)]))
    (tmp_path / "plan.json").unlink()
    with _opened(tmp_path, {"another": "plan"}) as partial:
        assert (partial.batches, partial.rows, partial.failures) == (0, 0, [])


def test_continues_compares_plans(tmp_path: Path) -> None:
    assert not continues(tmp_path / "none", PLAN)
    _commit(tmp_path / "p", [])
    assert continues(tmp_path / "p", PLAN)
    assert continues(tmp_path / "p", {**PLAN, "modalities": ["text"]})
    assert not continues(tmp_path / "p", {**PLAN, "batch_size": 1})


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with _opened(tmp_path) as partial:
        with pytest.raises(UserError, match="another process is writing"):
            Partial(tmp_path, PLAN, ROW_BYTES)
        with pytest.raises(UserError, match="another process is writing"):
            discard(tmp_path)
        partial.commit(*_batches([(1, 0)])[0])
    discard(tmp_path)
    assert not tmp_path.exists()


def _hold(folder: Path, ready: Any, release: Any) -> None:
    with _opened(folder):
        ready.set()
        release.wait(60)


def test_a_writer_in_another_process_is_noticed_until_it_is_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready, release))
    holder.start()
    assert ready.wait(60)
    with pytest.raises(UserError, match="another process is writing"):
        Partial(tmp_path, PLAN, ROW_BYTES)
    holder.kill()
    holder.join(60)
    _commit(tmp_path, _batches([(1, 0)]))


def test_removed_folder_is_gone_and_can_be_started_anew(tmp_path: Path) -> None:
    folder = tmp_path / "m.h5.partial"
    partial = Partial(folder, PLAN, ROW_BYTES)
    partial.commit(*_batches([(2, 0)])[0])
    partial.remove()
    assert list(tmp_path.iterdir()) == []
    with _opened(folder) as again:
        assert again.batches == 0


def test_journal_is_one_line_a_batch(tmp_path: Path) -> None:
    _commit(tmp_path, _batches([(2, 1), (0, 0)]))
    lines = [
        json.loads(line.split(" ", 1)[1])
        for line in (tmp_path / "journal.jsonl").read_text().splitlines()
    ]
    assert [(line["batch"], line["rows"], len(line["failures"])) for line in lines] == [
        (0, 2, 1),
        (1, 0, 0),
    ]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full: .* MB free"),
        (OSError("Unable to write (No space left on device)"), "the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied"), "may not be written .Permission"),
        (OSError(errno.EROFS, "Read-only file system"), "may not be written .Read-only"),
    ],
)
def test_why_writing_failed_is_said(tmp_path: Path, error: OSError, message: str) -> None:
    with pytest.raises(UserError, match=message), explained(tmp_path / "none" / "m.h5"):
        raise error


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="a part of its path is a file"):
        _commit(tmp_path / "file" / "m.h5.partial", [])
