from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from bridge.artefact import Bridge, BridgedSpace, make_projector
from bridge.config import TrainSettings
from bridge.projection import project_memory
from bridge.search import Embedder, Query, embed_for_bridge, search_index, search_memory
from features.errors import UserError
from features.memories.writing import save_memory
from features.search.building import build_index
from tests.bridge.conftest import unit_rows


@pytest.mark.parametrize(
    ("text", "modality", "expected"),
    [
        ("a dog barks", None, "text"),
        ("3.5 dogs", None, "text"),
        ("e.g. this one", None, "text"),
        ("A.PNG", None, "image"),
        ("a.jpeg", None, "image"),
        ("a.wav", None, "audio"),
        ("a.flac", None, "audio"),
        ("a.npz", None, "points"),
        ("a.xyz", None, "points"),
        ("a.bin", "image", "image"),
        ("a.wav", "text", "text"),
    ],
)
def test_a_query_is_a_file_by_its_suffix_and_else_a_sentence(
    tmp_path, monkeypatch, text, modality, expected
):
    monkeypatch.chdir(tmp_path)
    Path(text).write_text("")
    value = text if expected == "text" else Path(text)
    assert Query.parse(text, modality) == Query(expected, value)


@pytest.mark.parametrize("name", ["photo.heic", "missing.m4a", "notes.txt"])
def test_what_looks_like_a_file_of_an_unknown_kind_is_not_taken_for_a_sentence(name):
    with pytest.raises(UserError, match=r"looks like a file of a kind.*--as"):
        Query.parse(name)
    assert Query.parse(name, "text") == Query("text", name)


def test_a_text_file_is_a_query_by_its_content(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("a dog barks")
    assert Query.parse(str(path)) == Query("text", path)


@pytest.mark.parametrize(
    ("text", "modality", "sentence"),
    [
        ("", None, "the query is empty"),
        ("  ", "text", "the query is empty"),
        ("none.wav", None, "the audio file none.wav does not exist: .* pass --as text if it is a"),
        ("a sentence", "image", "the image file a sentence does not exist"),
        (".", "image", "the image file . does not exist"),
    ],
)
def test_a_query_that_is_nothing_is_refused(text, modality, sentence):
    with pytest.raises(UserError, match=sentence):
        Query.parse(text, modality)


SEES, HEARS = ("image", "text"), ("audio", "text")


@pytest.fixture(scope="module")
def encoders(make_encoder):
    return {
        "sees": make_encoder(*SEES, name="sees", seed=1, dimension=12),
        "hears": make_encoder(*HEARS, name="hears", seed=2, dimension=10),
    }


@pytest.fixture(scope="module")
def untrained(encoders) -> Bridge:
    """A bridge of real encoders with random projectors."""
    settings = TrainSettings(dimension=16, hidden=32)
    spaces = [
        BridgedSpace(name, one.space.dimension, one.space.modalities, one.description.as_dict())
        for name, one in encoders.items()
    ]
    generator = torch.Generator().manual_seed(0)
    projectors = {s.name: make_projector(s.dimension, settings, generator) for s in spaces}
    return Bridge("untrained", spaces, projectors, settings)


def embedded(encoders, name: str, text: str) -> torch.Tensor:
    return encoders[name].encode([encoders[name].input("text")(text)], "text")


def test_a_modality_of_both_spaces_is_embedded_in_both_and_averaged(encoders, untrained):
    rows = embed_for_bridge([Query("text", "four two")], untrained, Embedder(device="cpu"))
    each = {
        name: untrained.project(embedded(encoders, name, "four two"), name) for name in encoders
    }
    torch.testing.assert_close(rows, normalize(each["sees"] + each["hears"], dim=-1))
    for name in encoders:
        via = embed_for_bridge(
            [Query("text", "four two")], untrained, Embedder(device="cpu"), via=name
        )
        torch.testing.assert_close(via, each[name])


def test_several_queries_are_embedded_together(untrained):
    embedder = Embedder(device="cpu")
    queries = [Query("text", text) for text in ("one", "two", "three")]
    together = embed_for_bridge(queries, untrained, embedder)
    alone = [embed_for_bridge([query], untrained, embedder) for query in queries]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize(
    ("modality", "via", "sentence"),
    [
        ("points", None, "the bridge untrained does not know points "),
        ("image", "hears", "the space hears does not embed image: leave --via out"),
        ("text", "clip", "joins sees and hears, not 'clip'"),
    ],
)
def test_a_space_that_cannot_embed_the_query_is_refused(untrained, modality, via, sentence):
    with pytest.raises(UserError, match=sentence):
        embed_for_bridge([Query(modality, "x")], untrained, Embedder(device="cpu"), via=via)


def test_an_encoder_that_nothing_names_is_asked_for(encoders):
    with pytest.raises(UserError, match=r"do not say which encoder .*--encoder sees=SPEC"):
        Embedder(device="cpu").embed([Query("text", "one")], "sees", {})
    spec = encoders["sees"].description.spec
    rows = Embedder(device="cpu", overrides={"sees": spec}).embed(
        [Query("text", "one")], "sees", {}
    )
    torch.testing.assert_close(rows, embedded(encoders, "sees", "one"))


def test_an_encoder_with_other_weights_is_refused(encoders):
    mine, other = (encoders[name].description for name in ("sees", "hears"))
    embedder = Embedder(device="cpu", overrides={"sees": other.spec})
    with pytest.raises(
        UserError,
        match=r"the query and the space sees have encoders with other "
        "weights and preprocessing: name the .* --encoder sees=",
    ) as e:
        embedder.embed([Query("text", "one")], "sees", mine.as_dict())
    for told in (mine.weights, other.weights, mine.spec, "differs"):
        assert told[-40:] in e.value.details
    trusting = Embedder(device="cpu", overrides={"sees": other.spec}, trust_encoder=True)
    rows = trusting.embed([Query("text", "one")], "sees", mine.as_dict())
    torch.testing.assert_close(rows, embedded(encoders, "hears", "one"))


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [("clapp", "'clapp' is not an encoder"), ("mini:/none.st", "weights /none.st does not exist")],
)
def test_an_encoder_that_does_not_load_is_named(encoders, spec, sentence):
    description = {**encoders["sees"].description.as_dict(), "spec": spec}
    with pytest.raises(UserError, match=sentence):
        Embedder(device="cpu").embed([Query("text", "one")], "sees", description)


def test_a_query_that_cannot_be_read_is_named_with_the_reason(encoders, tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG\r\n")
    with pytest.raises(
        UserError, match=r"the query .*broken\.png: cannot be decoded .*; give anot"
    ):
        Embedder(device="cpu").embed(
            [Query("image", path)], "sees", encoders["sees"].description.as_dict()
        )


@pytest.mark.parametrize("k", [1, 5, 1000])
def test_searching_a_memory_or_its_index_equals_brute_force(world, made, tmp_path, k):
    gallery = world.test[1]
    queries = made.project(world.test[0].tensor()[:6], "left")
    expected = (queries @ made.project(gallery.tensor(), "right").T).topk(min(k, 40), dim=1)
    names = [[gallery.ids[row] for row in rows] for rows in expected.indices.tolist()]
    shared = project_memory(made, gallery, tmp_path / "shared.h5")
    index = build_index(shared, tmp_path / "shared.faiss")
    for found in (
        search_memory(queries, gallery, k, bridge=made),
        search_memory(queries, shared, k, bridge=made),
        search_index(queries, index, k, bridge=made),
    ):
        assert [[hit.id for hit in hits] for hits in found] == names
        scores = torch.tensor([[hit.score for hit in hits] for hits in found])
        torch.testing.assert_close(scores, expected.values, rtol=0, atol=1e-5)
        assert found[0][0].label == gallery.labels[gallery.row_of[names[0][0]]]


def test_a_memory_can_be_searched_in_its_own_space(world):
    gallery = world.test[1]
    found = search_memory(gallery.tensor()[3:5], gallery, 1)
    assert [hits[0].id for hits in found] == [gallery.ids[3], gallery.ids[4]]


def test_an_index_must_hold_the_space_of_the_queries(world, made, tmp_path):
    plain = build_index(world.test[1], tmp_path / "plain.faiss")
    shared = build_index(
        project_memory(made, world.test[1], tmp_path / "shared.h5"), tmp_path / "shared.faiss"
    )
    queries = made.project(world.test[0].tensor()[:1], "left")
    other = Bridge(
        "other", list(made.spaces.values()),
        {s.name: make_projector(s.dimension, replace(made.settings, seed=9))
         for s in made.spaces.values()},
        made.settings,
    )  # fmt: skip
    cases = [
        (shared, None, r"shared\.faiss holds the space of the bridge made: name the bridge with"),
        (plain, made, r"plain\.faiss holds the space right, not that of the bridge made: project"),
        (shared, other, rf"another bridge \(made, {made.fingerprint}\) than other"),
    ]
    for index, bridge, sentence in cases:
        with pytest.raises(UserError, match=sentence):
            search_index(queries, index, 1, bridge=bridge)


def test_queries_of_another_width_are_refused(world, tmp_path):
    index = build_index(world.test[1], tmp_path / "plain.faiss")
    with pytest.raises(
        UserError, match=r"plain\.faiss holds 10-d vectors but the queries have sha"
    ):
        search_index(unit_rows(1, 3, dtype=torch.float32), index, 1)


def test_a_query_of_another_width_is_refused(tmp_path):
    memory = save_memory(
        tmp_path / "m.h5", torch.eye(3), list("abc"), space="third", modality="text"
    )
    with pytest.raises(UserError, match="holds 3-d embeddings but the queries have 5 dimensions"):
        search_memory(torch.eye(5), memory, 1)


def test_an_override_of_a_space_that_is_not_searched_is_refused(encoders, untrained):
    embedder = Embedder(device="cpu", overrides={"see": encoders["sees"].description.spec})
    with pytest.raises(UserError, match=r"names the space see but the search is in .*: name one"):
        embed_for_bridge([Query("text", "one")], untrained, embedder)


def test_a_folder_is_not_taken_for_a_sentence(tmp_path):
    with pytest.raises(UserError, match="is a folder: give a file, or pass --as text"):
        Query.parse(str(tmp_path))
    assert Query.parse(str(tmp_path), "text").value == str(tmp_path)
