from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from bridge import projection
from bridge.projection import in_shared_space, is_projected, project_memory
from bridge.training.train import train
from features.errors import UserError
from features.memories.memory import Columns, Memory
from features.memories.writing import save_memory, write_memory
from tests.bridge.conftest import SETTINGS, write_items


@pytest.mark.parametrize("block", [7, 16_384])
def test_a_projected_memory_holds_the_projected_rows(world, made, tmp_path, monkeypatch, block):
    monkeypatch.setattr(projection, "BLOCK", block)
    source = world.test[0]
    shared = project_memory(made, source, tmp_path / "shared.h5")
    torch.testing.assert_close(shared.tensor(), made.project(source.tensor(), "left"))
    assert (shared.space, shared.modality, shared.dimension) == ("made", "audio", 16)
    assert list(shared.ids) == list(source.ids)
    assert list(shared.labels) == list(source.labels)
    assert shared.header.encoder == source.header.encoder
    assert shared.header.extra == {
        "bridge": made.fingerprint,
        "projected_from": "left",
        "projected_fingerprint": source.fingerprint,
    }
    shared.verify()
    torch.testing.assert_close(in_shared_space(made, source), shared.tensor())


def test_items_root_and_precision_stay(world, made, tmp_path):
    header = replace(world.test[0].header, root="/somewhere", dtype="float16")
    rows = np.asarray(world.test[0].embeddings[:3])
    columns = Columns(["a", "b", "c"], items=["1.wav", "2.wav", "3.wav"])
    source = write_memory(tmp_path / "half.h5", header, columns, [rows])
    shared = project_memory(made, source, tmp_path / "shared.h5")
    assert (list(shared.items), shared.labels) == (["1.wav", "2.wav", "3.wav"], None)
    assert str(shared.item_path(1)) == "/somewhere/2.wav"
    assert shared.embeddings.dtype == np.float16
    expected = made.project(source.tensor(), "left")
    torch.testing.assert_close(shared.tensor(), expected, rtol=0, atol=1e-3)


def test_the_source_and_the_bridge_tell_themselves_from_the_projection(world, made, tmp_path):
    shared = project_memory(made, world.test[0], tmp_path / "shared.h5")
    assert is_projected(shared)
    assert not is_projected(world.test[0])
    assert torch.equal(in_shared_space(made, shared), shared.tensor())


def test_progress_counts_the_rows(world, made, tmp_path, monkeypatch):
    from contextlib import contextmanager

    monkeypatch.setattr(projection, "BLOCK", 15)
    seen: list[object] = []

    class Recording:
        @contextmanager
        def task(self, description, total, *, unit="items", done=0):  # noqa: ARG002
            seen.append((description, total))
            yield seen.append

    project_memory(made, world.test[0], tmp_path / "shared.h5", progress=Recording())
    assert seen == [("project shared.h5", 40), 15, 15, 10]


def test_a_memory_projected_by_this_bridge_is_not_projected_twice(world, made, tmp_path):
    shared = project_memory(made, world.test[0], tmp_path / "shared.h5")
    with pytest.raises(UserError, match=r"shared\.h5 is already projected by made: use it as it"):
        project_memory(made, shared, tmp_path / "twice.h5")
    assert not (tmp_path / "twice.h5").exists()


def test_a_memory_projected_by_another_bridge_is_refused(world, made, tmp_path):
    settings = replace(SETTINGS, epochs=1, seed=3)
    other = train(world.hub, world.leaf, tmp_path / "other", settings, device="cpu")
    shared = project_memory(other, world.test[0], tmp_path / "shared.h5")
    expected = (
        f"{shared.path} was projected by another bridge (other, {other.fingerprint}) than made "
        f"({made.fingerprint}): project it again with `mcr project`"
    )
    for use in (in_shared_space, lambda b, m: project_memory(b, m, tmp_path / "again.h5")):
        with pytest.raises(UserError, match=re.escape(expected)):
            use(made, shared)


def test_an_output_that_exists_is_refused_or_replaced(world, made, tmp_path):
    out = tmp_path / "shared.h5"
    project_memory(made, world.test[0], out)
    before = out.read_bytes()
    with pytest.raises(
        UserError, match=r"shared\.h5 exists: pass --overwrite .* or choose another"
    ):
        project_memory(made, world.test[1], out)
    assert out.read_bytes() == before
    project_memory(made, world.test[1], out, overwrite=True)
    assert Memory(out).modality == "image"


def test_a_space_that_the_bridge_does_not_join_is_refused(made, tmp_path):
    third = save_memory(
        tmp_path / "third.h5", np.eye(3, dtype="f4"), list("abc"), space="third", modality="audio"
    )
    with pytest.raises(UserError, match="made joins left and right, not 'third'"):
        project_memory(made, third, tmp_path / "shared.h5")


def test_another_width_of_a_joined_space_is_refused(made, tmp_path):
    narrow = save_memory(
        tmp_path / "narrow.h5", np.eye(3, dtype="f4"), list("abc"), space="left", modality="audio"
    )
    with pytest.raises(UserError, match=r"narrow\.h5 holds 3-d embeddings of left but .* 12-d"):
        project_memory(made, narrow, tmp_path / "shared.h5")


def test_a_foreign_encoder_is_refused(made, tmp_path):
    foreign = write_items(tmp_path / "f.h5", "left", "audio", range(5), weights="other weights")
    with pytest.raises(UserError) as caught:
        project_memory(made, foreign, tmp_path / "shared.h5")
    assert str(caught.value) == (
        f"{foreign.path} and the space left of the bridge made have encoders with other weights: "
        "extract it again with the encoder that the bridge was trained with, or pass "
        "--trust-encoder (trust_encoder=True)"
    )
    header, *rows = caught.value.details.splitlines()
    assert header.split() == [
        "the",
        "space",
        "left",
        "of",
        "the",
        "bridge",
        "made",
        str(foreign.path),
    ]
    assert [row.split() for row in rows if "differs" in row] == [
        ["weights", "weights", "of", "left", "other", "weights", "<-", "differs"]
    ]
    shared = project_memory(made, foreign, tmp_path / "shared.h5", trust_encoder=True)
    assert len(shared) == 5


def test_a_memory_of_an_unknown_encoder_is_accepted(world, made, tmp_path):
    rows = np.asarray(world.test[0].embeddings)
    ids = list(world.test[0].ids)
    anonymous = save_memory(tmp_path / "a.h5", rows, ids, space="left", modality="audio")
    shared = project_memory(made, anonymous, tmp_path / "shared.h5")
    torch.testing.assert_close(shared.tensor(), in_shared_space(made, world.test[0]))
