"""The page, and the client, at servers with limits and columns of other kinds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.artefact import Bridge, load
from bridge.client import Client, ServerError
from features.memories.memory import Memory
from features.memories.writing import save_memory
from tests.bridge.serving.page.conftest import OpenPage, wait_for
from tests.bridge.serving.page.looks import group, names, said, settled, status, until
from tests.bridge.serving.place import NUMBERS, SETTINGS, Place, Running, serving, started

DEEPEST = 15  # hits, ten on a page


@pytest.fixture(scope="module")
def shallow(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of the sentences whose paging ends within a page; with a column `constructor`."""
    known = Memory(place.memory("texts"))
    path = tmp_path_factory.mktemp("shallow") / "texts.h5"
    parity = [("even", "odd")[int(number) % 2] for number in NUMBERS]
    save_memory(
        path, known.embeddings, list(known.ids), space=known.space, modality="text",
        labels=NUMBERS, metadata={"constructor": parity}, encoder=known.header.encoder,
    )  # fmt: skip
    limits = json.dumps({"k": 10, "deepest": DEEPEST})
    with started("-m", "tests.bridge.serving.limited", limits, path, "h11") as running:
        wait_for(running)
        yield running


@pytest.fixture(scope="module")
def forgetful(place: Place) -> Iterator[Running]:
    """A server that keeps no queries."""
    memories = ("--memory", place.memory("sounds"), "--memory", place.memory("texts"))
    with serving("--bridge", place.bridge, *memories, "--keep-queries", "0") as running:
        wait_for(running)
        yield running


def test_the_last_page_ends_where_paging_does(open_page: OpenPage, shallow: Running) -> None:
    page = open_page("?q=seven", base=shallow.address)
    assert "1 to 10 shown" in status(page)
    page.locator("#next").click()
    until(page, f"document.querySelector('#status').textContent.includes('11 to {DEEPEST} shown')")
    assert page.locator("#page").inner_text() == "2 of 2"
    assert page.locator("#next").is_disabled()


@pytest.mark.parametrize("k", [4, 7, 10])
def test_the_client_reaches_the_last_hit(shallow: Running, k: int) -> None:
    with Client(shallow.address) as client:
        assert [hit.rank for hit in client.pages("seven", k=k)] == [*range(1, DEEPEST + 1)]


def test_the_client_is_told_of_a_page_that_is_too_long(shallow: Running) -> None:
    with Client(shallow.address) as client, pytest.raises(ServerError, match="at most 10"):
        next(client.pages("seven", k=DEEPEST + 1))


def test_a_column_may_be_called_as_what_every_object_has(
    open_page: OpenPage, shallow: Running
) -> None:
    page = settled(open_page("?q=seven", base=shallow.address))
    page.get_by_label("odd").check()
    page.wait_for_url("**&where.constructor=odd")
    assert {int(name) % 2 for name in names(settled(page).locator("#hits"))} == {1}
    page.get_by_role("button", name="Clear filters").click()
    page.wait_for_url("**/?q=seven")
    assert not page.get_by_label("odd").is_checked()
    page.get_by_label("even").check()
    page.wait_for_url("**&where.constructor=even")


@pytest.mark.parametrize("column", ["__proto__", "toString"])
def test_a_filter_in_an_address_on_no_column_is_told(
    open_page: OpenPage, shallow: Running, column: str
) -> None:
    page = open_page(f"?q=seven&where.{column}=x", base=shallow.address, refused=True)
    page.locator(".alert").wait_for()
    assert page.locator(".alert p").inner_text().startswith(f"no column is called '{column}'")


def test_a_file_finds_itself_where_no_queries_are_kept(
    open_page: OpenPage, place: Place, forgetful: Running
) -> None:
    page = open_page("?q=seven", base=forgetful.address)
    settled(page)
    page.locator("#file").set_input_files(place.file("sounds", NUMBERS[7]))
    page.locator(".asked .wave path").first.wait_for()
    assert names(group(settled(page), "sounds"))[0] == NUMBERS[7]
    assert page.url == f"{forgetful.address}/"

    page.locator("#share").click()
    told = "This search has no address: the server keeps no files that were asked by."
    assert page.locator("#status").inner_text() == told

    group(page, "sounds").get_by_role("button", name="All 24").click()
    page.wait_for_url("**/?in=sounds")
    assert status(page).startswith("24 items")
    assert said(page.locator("#hits"))[0].endswith("score 1.000")
    page.get_by_role("button", name="Neighbours").click()
    until(page, "document.querySelector('#status').textContent.endsWith(' ms')")
    assert names(group(settled(page), "sounds"))[0] == NUMBERS[7]
    page.go_back()
    page.go_back()
    page.go_back()
    page.wait_for_url("**/?q=seven")
    until(page, "document.querySelector('#words').value === 'seven'")


def test_a_memory_that_two_bridges_join_is_one_among_the_neighbours(
    open_page: OpenPage, place: Place, tmp_path: Path
) -> None:
    """And an item whose file is larger than what is asked by is embedded in part, with a note."""
    made = load(place.bridge, device="cpu")
    spaces = list(made.spaces.values())
    Bridge("again", spaces, made.projectors, SETTINGS).save(tmp_path / "again")
    given = ("--index", place.pictures, "--memory", place.memory("texts"))
    bridges = ("--bridge", place.bridge, "--bridge", tmp_path / "again")
    with serving(*bridges, *given, "--max-pixels", "0.001") as running:
        wait_for(running)
        address = f"?item=pictures-own%2F{NUMBERS[7]}&of=pictures&view=neighbours"
        page = settled(open_page(address, base=running.address))
        chips = [chip.split()[0] for chip in page.locator(".chip").all_inner_texts()]
        assert chips[1:] == ["pictures", "texts@joined", "texts@again"]
        assert page.locator(".group h2").all_inner_texts() == ["texts"]
        note = page.locator(".asked .word").nth(1)
        assert note.inner_text() == "embedded at 44 x 22 pixels, of 64 x 32"
        page.locator(".name").first.click()
        fields = page.locator("dialog[open] dl > div").all_inner_texts()
        assert "memory\ntexts" in fields


def test_the_browser_holds_one_file_at_a_time(open_page: OpenPage, place: Place) -> None:
    page = open_page()
    page.locator(".start").wait_for()
    page.evaluate(
        """() => {
          const [make, revoke] = [URL.createObjectURL, URL.revokeObjectURL];
          window.held = new Set();
          URL.createObjectURL = (file) => { const a = make(file); held.add(a); return a; };
          URL.revokeObjectURL = (a) => { held.delete(a); revoke(a); };
        }"""
    )
    for number in NUMBERS[:3]:
        page.locator("#file").set_input_files(place.file("images", number))
        page.locator(f".asked img[alt$='{number}.png']").wait_for()
        assert settled(page).evaluate("held.size") == 1
        width = "image => image.decode().then(() => image.naturalWidth)"
        assert page.locator(".asked img").evaluate(width) == 64
