"""Extraction gives what a bare loop gives, loses nothing, and says what it leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.encoders.mini.encoder import MiniEncoder
from features.errors import UserError
from features.extraction.extract import extract
from features.extraction.partial import Failure, read_failures
from features.extraction.sources import read_source
from features.memories.memory import Memory
from tests.features.helpers import (
    FakeEncoder,
    fake_extract,
    fake_source,
    files_of,
    write_images,
)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_embeddings_are_those_of_a_bare_loop(
    tmp_path: Path, tiny_encoder: MiniEncoder, dtype: Any
) -> None:
    source = read_source(str(write_images(tmp_path / "images", 21)), "image")
    done = extract(source, tiny_encoder, "image", tmp_path / "m.h5", batch_size=8, dtype=dtype)
    make = tiny_encoder.input("image")
    loop = [
        tiny_encoder.encode([make(source.load_argument(item)) for item in source.items[i : i + 8]],
                            "image").numpy()
        for i in range(0, 21, 8)
    ]  # fmt: skip
    memory = done.memory
    np.testing.assert_array_equal(memory.embeddings, np.concatenate(loop).astype(dtype))
    assert list(memory.ids) == [f"{i:03d}.png" for i in range(21)]
    assert (memory.space, memory.modality, memory.dimension) == ("tiny", "image", 16)
    assert memory.header.encoder == tiny_encoder.description.as_dict()
    assert memory.item_path(3) == tmp_path.resolve() / "images/003.png"
    assert (done.failures, done.resumed_from) == ([], 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "m.h5"]
    memory.verify()


def test_workers_and_none_give_the_same_bytes(tmp_path: Path, tiny_encoder: MiniEncoder) -> None:
    images = write_images(tmp_path / "images", 70, bad=[0, 33, 69])
    source = read_source(str(images), "image")
    for workers in (0, 2):
        (tmp_path / str(workers)).mkdir()
        extract(source, tiny_encoder, "image", tmp_path / f"{workers}/m.h5", workers=workers,
                batch_size=40)  # fmt: skip
    assert files_of(tmp_path / "0") == files_of(tmp_path / "2")
    assert len(Memory(tmp_path / "0/m.h5")) == 67


def test_failures_are_listed_in_order_and_the_rest_is_embedded(tmp_path: Path) -> None:
    done = fake_extract(tmp_path / "m.h5", FakeEncoder(nan="six"), source=fake_source(labels=True))
    expected = [
        Failure("two bad", "two bad", "it is bad"),
        Failure("boom four", "boom four", "ZeroDivisionError: boom in the decoder"),
        Failure("six", "six", "the embedding has NaN or infinite values"),
        Failure("seven bad", "seven bad", "it is bad"),
    ]
    assert done.failures == expected
    assert done.failures_path == tmp_path / "m.failures.jsonl"
    assert read_failures(done.failures_path) == expected
    assert list(done.memory.ids) == ["one", "three", "five", "eight"]
    assert list(done.memory.labels or ()) == ["o", "t", "f", "e"]
    whole = fake_extract(tmp_path / "w.h5", source=fake_source(["one", "three", "five", "eight"]))
    np.testing.assert_array_equal(done.memory.embeddings, whole.memory.embeddings)


def test_a_failures_list_of_before_goes_away(tmp_path: Path) -> None:
    fake_extract(tmp_path / "m.h5")
    fake_extract(tmp_path / "m.h5", source=fake_source(["one"]), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["m.h5"]


def test_max_failures_stops_and_a_higher_limit_goes_on(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="2 items failed, more than --max-failures 1; the last is b"
    ):
        fake_extract(tmp_path / "m.h5", max_failures=1)
    assert not (tmp_path / "m.h5").exists()
    done = fake_extract(tmp_path / "m.h5", max_failures=3)
    assert done.resumed_from == 6
    assert len(done.failures) == 3
    assert (
        fake_extract(tmp_path / "n.h5", max_failures=3).memory.fingerprint
        == done.memory.fingerprint
    )


def test_nothing_embedded_is_an_error_and_leaves_the_list_of_failures(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none of the 2 items could be embedded; the first, bad 1"):
        fake_extract(tmp_path / "m.h5", source=fake_source(["bad 1", "bad 2"]))
    assert [path.name for path in tmp_path.iterdir()] == ["m.failures.jsonl"]
    assert len((tmp_path / "m.failures.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("rows", r"the encoder fake returned an array \(1, 8\) for 2 items of dimension 8: mend"),
        ("columns", r"the encoder fake returned an array \(2, 7\) for 2 items of dimension 8"),
    ],
)
def test_an_answer_of_the_wrong_shape_is_refused(tmp_path: Path, wrong: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fake_extract(tmp_path / "m.h5", FakeEncoder(wrong=wrong))
    assert fake_extract(tmp_path / "m.h5").resumed_from == 0


def test_an_encoder_of_another_modality_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the space fake does not embed image, only text"):
        extract(fake_source(), FakeEncoder(), "image", tmp_path / "m.h5")


def test_a_file_name_that_is_no_unicode_is_no_obstacle(
    tmp_path: Path, tiny_encoder: MiniEncoder
) -> None:
    folder = write_images(tmp_path / "images", 2)
    (folder / "001.png").rename(folder / "caf\udce9.png")  # Latin-1, as os.fsdecode gives it
    source = read_source(str(folder), "image")
    done = extract(source, tiny_encoder, "image", tmp_path / "m.h5")
    assert list(done.memory.ids) == ["000.png", "caf\udce9.png"]
