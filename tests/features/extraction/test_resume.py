"""An extraction that was stopped goes on; one that is finished or foreign is left alone."""

from __future__ import annotations

import multiprocessing
import os
import platform
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from features.encoders.mini.encoder import MiniEncoder
from features.errors import UserError
from features.extraction.extract import Extraction, extract
from features.extraction.partial import Partial
from features.extraction.sources import read_source
from features.memories.memory import Memory
from features.sealed import read_sealed
from tests.features.helpers import (
    SENTENCES,
    FakeEncoder,
    StopAfter,
    fake_extract,
    fake_source,
    files_of,
)


@pytest.mark.parametrize("where", ["progress", "encoder"])
@pytest.mark.parametrize("batch", [0, 1, 2])
def test_going_on_after_an_interruption_gives_the_same_bytes(
    tmp_path: Path, where: str, batch: int
) -> None:
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    fake_extract(tmp_path / "whole/m.h5")
    out = tmp_path / "stopped/m.h5"
    encoder = FakeEncoder(stop_after=batch if where == "encoder" else None)
    with pytest.raises(KeyboardInterrupt):
        fake_extract(out, encoder, progress=StopAfter(batch + 1))
    assert not out.exists()
    progress = StopAfter(100)
    done = fake_extract(out, progress=progress)
    committed = min(8, 3 * (batch + (where == "progress")))
    assert done.resumed_from == committed
    assert progress.told[0] == committed
    assert sum(progress.told) == 8
    assert files_of(tmp_path / "stopped") == files_of(tmp_path / "whole")


def test_max_failures_holds_for_a_run_that_goes_on(tmp_path: Path) -> None:
    for _ in range(3):
        with pytest.raises(UserError, match="items failed, more than --max-failures 2"):
            fake_extract(tmp_path / "m.h5", max_failures=2)
    assert not (tmp_path / "m.h5").exists()


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"batch_size": 4}, "batch_size: 3 then, 4 now"),
    ({"dtype": "float32"}, "dtype: float16 then, float32 now"),
    ({"source": fake_source(SENTENCES[::-1])}, "source: "),
    ({"source": fake_source(labels=True)}, "source: "),
    ({"encoder": FakeEncoder(weights="v")}, r"\(encoder\)"),
]


@pytest.mark.parametrize(("changes", "message"), CHANGES)
def test_a_changed_plan_neither_continues_nor_replaces(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    out = tmp_path / "m.h5"
    with pytest.raises(KeyboardInterrupt):
        fake_extract(out, FakeEncoder(stop_after=1))
    with pytest.raises(UserError, match=message):
        fake_extract(out, **changes)
    assert fake_extract(out).resumed_from == 3
    with pytest.raises(UserError, match="was made from another source, encoder or setting"):
        fake_extract(out, resume=True, **changes)
    fake_extract(out, overwrite=True, **changes)
    with pytest.raises(UserError, match="was made from another source, encoder or setting"):
        fake_extract(out, resume=True)


def test_overwrite_discards_the_unfinished_output_of_another_plan(tmp_path: Path) -> None:
    out = tmp_path / "m.h5"
    with pytest.raises(KeyboardInterrupt):
        fake_extract(out, FakeEncoder(stop_after=2))
    done = fake_extract(out, overwrite=True, batch_size=2)
    assert done.resumed_from == 0
    assert not (tmp_path / "m.h5.partial").exists()


def test_a_finished_output_is_refused_kept_or_made_again(tmp_path: Path) -> None:
    out = tmp_path / "m.h5"
    first = fake_extract(out)
    content = out.read_bytes()
    with pytest.raises(UserError, match="exists: pass --overwrite to make it again, --resume"):
        fake_extract(out)
    untouched = FakeEncoder(stop_after=0)
    kept = fake_extract(out, untouched, resume=True)
    assert untouched.calls == 0
    assert kept.resumed_from == len(SENTENCES)
    assert kept.failures == first.failures
    assert kept.memory.fingerprint == first.memory.fingerprint
    again = FakeEncoder()
    fake_extract(out, again, overwrite=True)
    assert again.calls == 3
    assert out.read_bytes() == content


@pytest.mark.parametrize("gone", [[], ["plan.json"], ["plan.json", "rows.bin", "journal.jsonl"]])
@pytest.mark.parametrize("resume", [False, True])
def test_a_run_killed_while_tidying_up_counts_as_finished(
    tmp_path: Path, gone: list[str], resume: bool
) -> None:
    out, leftover = tmp_path / "m.h5", tmp_path / "m.h5.partial"
    with pytest.raises(KeyboardInterrupt):
        fake_extract(out, progress=StopAfter(3))
    shutil.copytree(leftover, tmp_path / "copy")
    content = fake_extract(out).memory.path.read_bytes()
    shutil.move(tmp_path / "copy", leftover)
    for name in gone:
        (leftover / name).unlink()
    if resume or not gone:
        assert len(fake_extract(out, FakeEncoder(stop_after=0), resume=resume).failures) == 3
        assert not leftover.exists()
    assert out.read_bytes() == content


def test_an_output_that_another_process_writes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fake_extract(tmp_path / "m.h5", FakeEncoder(stop_after=1))
    plan = read_sealed(tmp_path / "m.h5.partial/plan.json")
    writer = Partial(tmp_path / "m.h5.partial", plan, 16)
    for overwrite in (False, True):
        with pytest.raises(UserError, match="another process is writing"):
            fake_extract(tmp_path / "m.h5", overwrite=overwrite, batch_size=4 if overwrite else 3)
    writer.close()
    assert fake_extract(tmp_path / "m.h5").resumed_from == 3


def _race(out: Path, barrier: Any, results: Any) -> None:
    barrier.wait(60)
    try:
        results.put(
            fake_extract(out, source=fake_source([f"s{i}" for i in range(300)])).memory.fingerprint
        )
    except Exception as error:
        results.put(f"{type(error).__name__}: {error}")


def test_two_processes_at_once_give_one_right_output(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    out = tmp_path / "m.h5"
    racers = [context.Process(target=_race, args=(out, barrier, results)) for _ in range(2)]
    for racer in racers:
        racer.start()
    answers = [results.get(timeout=60) for _ in racers]
    for racer in racers:
        racer.join(60)
    alone = fake_extract(
        tmp_path / "n.h5", source=fake_source([f"s{i}" for i in range(300)])
    ).memory
    assert alone.fingerprint in answers
    assert Memory(out).fingerprint == alone.fingerprint
    other = [answer for answer in answers if answer != alone.fingerprint]
    assert all("UserError: another process" in one or "exists: pass" in one for one in other)


def test_what_a_killed_run_was_writing_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / f".m.h5.{platform.node()}-99999999.tmp").write_bytes(b"half of a memory")
    (tmp_path / ".m.h5.elsewhere-99999999.tmp").write_bytes(b"another machine's, at work")
    fake_extract(tmp_path / "m.h5", source=fake_source(["one"]))
    assert {path.name for path in tmp_path.iterdir()} == {"m.h5", ".m.h5.elsewhere-99999999.tmp"}


def test_a_file_that_was_mended_is_not_taken_for_what_it_was(
    tiny_encoder: MiniEncoder, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / "in" / f"{name}.png").write_bytes(b"no picture")

    def run(**options: bool) -> Extraction:
        source = read_source(str(tmp_path / "in"), "image")
        return extract(source, tiny_encoder, "image", tmp_path / "m.h5", max_failures=0, **options)

    with pytest.raises(UserError, match="2 items failed"):
        run()
    for name in ("a", "b"):
        Image.new("L", (9, 9), 200).save(tmp_path / "in" / f"{name}.png")
    with pytest.raises(UserError, match=r"was started with other settings .files"):
        run()
    assert len(run(overwrite=True).memory) == 2
    Image.new("L", (9, 9), 50).save(tmp_path / "in" / "a.png")
    with pytest.raises(UserError, match=r"1 files were changed after .*--overwrite"):
        run(resume=True)


def test_a_file_from_the_future_does_not_outdate_what_was_made_of_it(
    tmp_path: Path, tiny_encoder: MiniEncoder
) -> None:
    (tmp_path / "in").mkdir()
    picture, out = tmp_path / "in" / "a.png", tmp_path / "m.h5"
    Image.new("L", (9, 9), 200).save(picture)
    tomorrow = time.time() + 86_400
    os.utime(picture, (tomorrow, tomorrow))

    def run() -> Extraction:
        source = read_source(str(tmp_path / "in"), "image")
        return extract(source, tiny_encoder, "image", out, resume=True)

    made = run().memory.fingerprint
    assert run().memory.fingerprint == made
    Image.new("L", (9, 9), 50).save(picture)
    os.utime(picture, (tomorrow, tomorrow))
    with pytest.raises(UserError, match=r"1 files were changed after .*--overwrite"):
        run()
