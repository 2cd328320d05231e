from __future__ import annotations

from typing import Any

import pytest

from bridge.evaluation.extraction import extraction_of, modality_of
from features.errors import UserError
from tests.features.helpers import FakeEncoder, write_images


def load_fake(argument: str, **_: Any) -> FakeEncoder:
    """An encoder of whole items alone, as `MODULE:FUNCTION` of a user's own."""
    assert not argument
    return FakeEncoder()


@pytest.mark.parametrize(
    ("names", "modality"),
    [(["a.png"], "image"), (["notes.txt", "deep/a.wav"], "audio"), (["a.off"], "points")],
)
def test_what_files_are_is_told_by_their_suffixes(names, modality, tmp_path):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert modality_of(str(tmp_path)) == modality


@pytest.mark.parametrize("name", ["nowhere", "table.csv", "empty"])
def test_what_is_no_folder_of_items_is_refused(name, tmp_path):
    (tmp_path / "table.csv").write_text("path\na.png\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"is neither a memory \(NAME.h5\) nor a folder of image"):
        modality_of(str(tmp_path / name))


def test_an_encoder_without_local_embeddings_is_told_from_one_with(made, tmp_path):
    pictures = str(write_images(tmp_path / "pictures", 2))
    named = {"right": f"{__name__}:load_fake"}
    with pytest.raises(UserError, match="has no local embeddings of image, which say where things"):
        extraction_of(pictures, "image", tmp_path, bridge=made, local=True, overrides=named)


def test_a_bridge_that_does_not_know_its_encoders_is_told(made, tmp_path):
    pictures = str(write_images(tmp_path / "pictures", 2))
    with pytest.raises(UserError, match="does not say which encoder made the embeddings of right"):
        extraction_of(pictures, "image", tmp_path, bridge=made)
