"""Reports: what the page says, that nothing in it runs, and what is left out."""

from __future__ import annotations

import json
import re
import shutil
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from bridge.artefact import load
from bridge.evaluation.results import write_result
from bridge.evaluation.retrieval_result import retrieval_result
from bridge.report.card import update_card
from bridge.report.contents import COMPUTED, gather
from bridge.report.markup import Markup, picture, tag, text
from bridge.report.page import page, write_report
from features.errors import UserError
from features.sealed import read_sealed
from tests.bridge.conftest import projected_memory

VOID = {"meta", "img", "source"}


class Reader(HTMLParser):
    """The page's words, and whether its tags are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, name, attributes):
        self.tags.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def told(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def folder(world, made, tmp_path):
    """A copy of the bridge, for each test its own."""
    assert made.metrics
    return shutil.copytree(world.folder / "made", tmp_path / "made")


def test_the_page_has_all_parts_and_needs_nothing_else(world, made, folder):
    result = retrieval_result(*world.test, bridge=made, resamples=100)
    write_result(result, folder / "results" / "retrieval.json")
    html = page(gather(folder, query=world.test[0], gallery=world.test[1], rows=3, k=2))
    seen = Reader(html)
    assert seen.open == []
    for title in (
        "What was trained on what", "Settings", "Training", "Evaluations", "Pictures",
        "Best queries", "Worst queries", "Provenance",
    ):  # fmt: skip
        assert title in seen.told
    figure = result.figures["audio -> image"]["R@1"]
    low, high = result.intervals["audio -> image"]["R@1"]
    assert f"{figure:.3f} [{low:.3f}, {high:.3f}]" in seen.told
    for memory in made.memories:
        assert memory.fingerprint in seen.told
    assert made.fingerprint in seen.told
    assert "->" not in seen.told
    assert "versions." not in seen.told  # no keys of files
    assert "epochs ● 30 36 Passes over the items." in seen.told
    assert "results/retrieval.json" in seen.told
    assert COMPUTED not in seen.told
    assert sum(attributes.get("class") == "tile query" for _, attributes in seen.tags) == 6
    names = {name for name, _ in seen.tags}
    assert not names & {"script", "link", "iframe", "object"}
    addresses = [
        value
        for _, attributes in seen.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset")
    ]
    assert addresses
    assert all(one.startswith("data:image/") for one in addresses)
    assert all(attributes.get("alt") for name, attributes in seen.tags if name == "img")
    assert "default-src 'none'" in html


def without_curves(folder) -> str:
    """The words of a page that is quickly made."""
    return Reader(page(replace(gather(folder), curves=[]))).told


def test_the_same_data_give_the_same_page(folder):
    assert page(gather(folder)) == page(gather(folder))


def test_without_memories_there_are_figures_and_a_word_of_advice(folder):
    told = without_curves(folder)
    assert "give memories of queries and of a gallery" in told
    assert "None: measure the bridge with mcr eval" in told
    assert "Best queries" not in told


def test_markup_in_files_is_shown_and_not_obeyed(made, folder, tmp_path):
    evil = '<script>alert("1")</script><img src=x onerror=alert(1)>'
    about = read_sealed(folder / "bridge.json")
    about["name"] = evil
    about["memories"][0]["path"] = f"{evil}.h5"
    about["versions"]["torch"] = evil
    (folder / "bridge.json").write_text(json.dumps(about))
    start = {"when": evil, "command": evil, "git": {"branch": evil}, "device": evil}
    record = {"format": "mcr-bridge run", "version": 1, "plan": evil, "starts": [start]}
    (folder / "run.json").write_text(json.dumps({**record, "finished": evil}))
    query = projected_memory(
        tmp_path / "q.h5", made, [(1, 0), (0, 1)], [evil, "b"], modality="text", labels=[evil, "b"]
    )
    gallery = projected_memory(
        tmp_path / "g.h5", made, [(0, 1), (1, 0)], ["b", evil], modality="text", labels=["b", evil]
    )
    html = page(gather(folder, query=query, gallery=gallery))
    assert "<script" not in html
    assert "<img src=x" not in html
    told = Reader(html).told
    assert told.count(evil) >= 5
    for address in re.findall(r'data:image/svg\+xml;base64,([^"]+)', html):
        assert "<script" not in b64decode(address).decode()


def test_results_of_another_bridge_are_left_out_and_named(world, mixed, folder):
    other = retrieval_result(*world.test, bridge=mixed, resamples=0)
    write_result(other, folder / "evaluations" / "old.json")
    (folder / "other.json").write_text('{"some": "file"}')
    contents = gather(folder)
    assert contents.results == []
    assert "left out, of another bridge: evaluations/old.json" in without_curves(folder)
    path = write_result(other, folder.parent / "named.json")
    with pytest.raises(UserError, match=r"named\.json is a result of mixed, not of made"):
        gather(folder, results=[path])


def test_a_named_result_is_told_once(world, made, folder):
    result = retrieval_result(*world.test, bridge=made, resamples=0)
    path = write_result(result, folder / "results" / "a.json")
    assert len(gather(folder, results=[path]).results) == 1


def test_the_record_of_a_run_is_told(folder):
    (folder / "run.json").unlink()
    assert "were not recorded" in without_curves(folder)
    git = {"commit": "abc", "branch": "main", "dirty": True}
    first = {"when": "Monday", "command": "mcr train", "git": git, "device": "cpu"}
    record = {
        "format": "mcr-bridge run", "version": 1, "plan": "0123", "finished": "Wednesday",
        "starts": [first, {**first, "when": "Tuesday", "command": None, "git": None}],
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    told = without_curves(folder)
    assert (
        "started Monday, on cpu command mcr train repository it was started in commit abc of main, "
        "with changes that were not committed continued Tuesday, on cpu repository it was started "
        "in none, or not known finished Wednesday"
    ) in told
    (folder / "run.json").write_text("{")
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        gather(folder)


def test_a_mixture_tells_its_weights_and_has_no_curves(world, mixed):
    assert mixed.metrics
    folder = world.folder / "mixed"
    told = without_curves(folder)
    assert "part of the mixture weight" in told
    assert "No curves" in told
    name, weight = next(
        (name.removeprefix("weight of "), weight)
        for name, weight in mixed.metrics.items()
        if name.startswith("weight of ")
    )
    assert f"{name} {weight:.3f}" in told


def test_a_bridge_from_elsewhere_says_where_it_is_from(folder):
    about = read_sealed(folder / "bridge.json")
    about |= {"origin": "somebody's published weights", "memories": []}
    (folder / "bridge.json").write_text(json.dumps(about))
    told = without_curves(folder)
    assert "Not trained here: somebody's published weights." in told
    assert "Settings" not in told


def test_the_card_gets_the_results_of_the_report(world, made, folder):
    result = retrieval_result(*world.test, bridge=made, resamples=0)
    write_result(result, folder / "results" / "a.json")
    card = update_card(gather(folder), licence="mit").read_text()
    assert "license: mit" in card
    assert "## Results" in card
    assert load(folder, device="cpu").fingerprint == made.fingerprint
    (folder / "results" / "a.json").unlink()
    card = update_card(gather(folder)).read_text()
    assert "## Results" not in card  # there are none now
    assert "license: mit" in card


def test_mistakes_are_named(world, folder, tmp_path):
    with pytest.raises(UserError, match="is not a bridge"):
        gather(tmp_path)
    with pytest.raises(UserError, match="give --query and --gallery"):
        gather(folder, query=world.test[0])
    with pytest.raises(UserError, match=r"called NAME\.html, not a\.pdf"):
        write_report(gather(folder), tmp_path / "a.pdf")


def test_markup_is_escaped_once():
    assert tag("p", "a < b", class_='"x"') == '<p class="&quot;x&quot;">a &lt; b</p>'
    assert tag("p", Markup("<b>x</b>")) == "<p><b>x</b></p>"
    assert text(text("&")) == "&amp;"


def test_a_picture_is_there_for_light_and_dark():
    from bridge.pictures.canvas import new_figure, styled

    seen = []

    def draw(style):
        seen.append(style.theme.name)
        with styled(style):
            return new_figure(style, 1)

    html = picture(draw, 'a "picture"', "<caption>")
    assert seen == ["light", "dark"]
    assert "prefers-color-scheme: dark" in html
    assert 'alt="a &quot;picture&quot;"' in html
    assert "&lt;caption&gt;" in html
