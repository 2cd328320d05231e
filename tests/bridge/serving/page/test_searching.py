"""The page in Chromium: sentences, files, recordings, filters, pages, addresses."""

from __future__ import annotations

import base64
import re
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.bridge.serving.page.conftest import OpenPage
from tests.bridge.serving.page.looks import group, names, said, settled, status, until
from tests.bridge.serving.place import NUMBERS, Place, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

NUMBER = NUMBERS[7]


def test_a_sentence_is_looked_up_in_every_collection_that_it_leads_to(
    open_page: OpenPage, site: Running
) -> None:
    page = open_page()
    page.locator("#words").fill(f"the number {NUMBER}")
    page.locator("#words").press("Enter")

    assert re.fullmatch(r"The best 40 of 4 collections · \d+ ms", status(page))
    assert page.url.endswith(f"?q=the+number+{NUMBER}")
    for collection in ("pictures", "sounds", "texts", "clouds"):
        asked = {
            "queries": [{"text": f"the number {NUMBER}"}],
            "collections": [collection],
            "k": 10,
        }
        (answer,) = httpx.post(f"{site.address}/v1/search", json=asked).json()["results"]
        assert said(group(page, collection)) == [
            f"{hit['rank']}: {hit['modality']} {hit['text'] or hit['label']}, "
            f"score {hit['score']:.3f}"
            for hit in answer["hits"]
        ]

    shown = group(page, "pictures").locator("img")
    assert shown.count() == 10
    assert shown.first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
    assert group(page, "sounds").locator(".wave path").first.get_attribute("d", timeout=9000)


def test_addresses_are_shared_and_gone_back_to(open_page: OpenPage) -> None:
    page = open_page(f"?q=the+number+{NUMBER}&in=texts")
    assert status(page).startswith("24 items, 1 to 10 shown")
    before = said(page.locator("#hits"))

    first = names(page.locator("#hits"))[0]
    page.locator(".more").first.click()
    page.wait_for_url(f"**/?item=texts%2F{first}&of=texts&in=texts")
    page.locator(".asked").wait_for()
    about = page.locator(".asked > p").inner_text()
    assert about.split("\n") == ["more like this sentence", f"the number {first}"]
    assert said(settled(page).locator("#hits"))[0].endswith("score 1.000")

    page.go_back()
    page.wait_for_url(f"**/?q=the+number+{NUMBER}&in=texts")
    until(page, f"document.querySelector('#words').value === 'the number {NUMBER}'")
    assert said(settled(page).locator("#hits")) == before
    page.go_forward()
    page.locator(".asked").wait_for()


@pytest.mark.parametrize(
    ("folder", "modality", "collection"),
    [
        ("images", "image", "pictures"),
        ("sounds", "sound", "sounds"),
        ("clouds", "point cloud", "clouds"),
    ],
)
def test_a_file_finds_itself_and_has_an_address(
    open_page: OpenPage, place: Place, folder: str, modality: str, collection: str
) -> None:
    page = open_page()
    file = place.file(folder, NUMBER)
    page.locator("#file").set_input_files(file)
    page.locator(".asked").wait_for()
    assert page.locator(".asked > p").inner_text().split("\n") == [modality, file.name]
    settled(page)
    # Point clouds lead to clouds alone here; what leads to several collections shows strips.
    hits = page.locator("#hits") if folder == "clouds" else group(page, collection)
    found = said(hits)
    assert names(hits)[0] == NUMBER
    assert float(found[0].split("score ")[1]) > 0.999
    assert re.search(r"\?saved=[0-9a-f]{32}&as=(image|audio|points)$", page.url)

    again = settled(open_page(page.url.split("/")[-1]))
    assert said(again.locator("#hits")) == said(page.locator("#hits"))
    assert again.locator(".asked strong").inner_text() == file.name


def test_who_asks_before_the_page_knows_its_collections_is_answered(
    open_page: OpenPage, place: Place
) -> None:
    page = open_page()
    waiting: list[Route] = []
    page.route("**/v1/info", lambda route: waiting.append(route))
    page.reload()
    page.locator("#file").set_input_files(place.file("images", NUMBER))
    while not waiting:
        page.wait_for_timeout(10)
    for route in waiting:
        route.continue_()
    page.locator(".asked").wait_for()
    settled(page)
    assert names(group(page, "pictures"))[0] == NUMBER


def test_a_file_is_dropped_anywhere(open_page: OpenPage, place: Place) -> None:
    page = open_page()
    page.locator(".start").wait_for()
    content = base64.b64encode(place.file("images", NUMBER).read_bytes()).decode()
    page.evaluate(
        """([content, name]) => {
          const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([bytes], name, { type: "image/png" }));
          for (const type of ["dragover", "drop"])
            document.body.dispatchEvent(
              new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
        }""",
        [content, "dropped.png"],
    )
    page.locator(".asked").wait_for()
    assert page.locator("#drop").is_hidden()
    assert names(group(settled(page), "pictures"))[0] == NUMBER


def test_a_sound_is_recorded_and_sent_as_wav(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#record").click()
    until(page, "parseFloat(document.querySelector('#recorded').textContent) >= 0.5")
    with page.expect_request("**/v1/search") as sent:
        page.locator("#stop").click()
    query = sent.value.post_data_json["queries"][0]
    assert query["filename"] == "recording.wav"
    wav = base64.b64decode(query["content"])
    assert (wav[:4], wav[8:12]) == (b"RIFF", b"WAVE")
    assert int.from_bytes(wav[40:44], "little") == len(wav) - 44 > 48000 * 2 * 0.3
    assert status(page).startswith("The best 30 of 3 collections")
    assert page.locator(".note").inner_text() == "No bridge leads from this query to clouds."
    assert page.locator(".asked .wave path").count() == 2


def test_filters_leave_what_passes(open_page: OpenPage) -> None:
    page = settled(open_page("?q=seven&in=texts"))
    page.get_by_label("odd").check()
    page.wait_for_url("**&where.parity=odd")
    assert {int(name) % 2 for name in names(settled(page).locator("#hits"))} == {1}
    odd = sum(int(number) % 2 for number in NUMBERS)
    until(page, f"document.querySelector('#status').textContent.startsWith('{odd} ')")
    assert page.get_by_label("odd").is_checked()

    page.get_by_label("from").fill("3")
    page.get_by_label("from").press("Enter")
    page.wait_for_url("**where.digits=3..**")
    until(page, "!document.querySelector('[aria-busy]')")
    assert {len(name) for name in names(page.locator("#hits"))} <= {3}

    page.get_by_label("from").fill("9")
    page.get_by_label("from").press("Enter")
    page.locator(".empty").wait_for()
    assert page.locator(".empty p").inner_text() == "Nothing passes these filters."
    assert status(page) == "No hits"
    page.locator(".empty button").click()
    page.wait_for_url("**/?q=seven&in=texts")
    assert status(page).startswith("24 items")


def test_pages(open_page: OpenPage) -> None:
    page = open_page("?q=seven&in=sounds")
    seen = []
    for number in (1, 2, 3):
        shown = f"{10 * number - 9} to {min(24, 10 * number)} shown"
        until(page, f"document.querySelector('#status').textContent.includes('{shown}')")
        seen += names(page.locator("#hits"))
        assert page.locator("#page").inner_text() == f"{number} of 3"
        assert page.locator("#next").is_disabled() == (number == 3)
        if number < 3:
            page.locator("#next").click()
    assert sorted(seen) == sorted(NUMBERS)
    assert page.url.endswith("&page=3")
    page.locator("#previous").click()
    page.wait_for_url("**&page=2")

    beyond = open_page("?q=seven&in=sounds&page=9")
    assert status(beyond) == "No hits"
    assert beyond.locator(".empty p").inner_text() == "There is no page 9 of this."


def test_neighbours_are_those_of_the_querys_own_space(open_page: OpenPage) -> None:
    page = settled(open_page(f"?item=clouds%2F{NUMBER}&of=clouds"))
    page.get_by_role("button", name="Neighbours").click()
    page.wait_for_url("**&view=neighbours")
    assert names(group(settled(page), "clouds"))[0] == NUMBER
    assert said(group(page, "clouds"))[0].endswith("score 1.000")
    assert page.locator("#side").is_hidden()


def test_sounds_play_one_at_a_time(open_page: OpenPage) -> None:
    page = settled(open_page("?q=seven&in=sounds"))
    for place in (0, 1):
        with page.expect_response(re.compile(r"/v1/media/sounds/\d+/file$")) as file:
            page.locator(".play").nth(place).click()
        assert file.value.ok
    until(page, "document.querySelectorAll('.time')[1].textContent.includes('/')")


def test_clouds_turn_until_they_are_stopped_or_the_reader_wants_calm(open_page: OpenPage) -> None:
    picture = "document.querySelector('#hits .cloud').toDataURL()"

    def moves(page: Page) -> bool:
        until(page, "document.querySelector('#hits .cloud').width !== 300")  # as it begins
        before = page.evaluate(picture)
        time.sleep(0.4)
        return bool(before != page.evaluate(picture))

    address = f"?item=clouds%2F{NUMBER}&of=clouds"
    page = settled(open_page(address))
    assert moves(page)
    page.get_by_role("button", name="Pause 3D").click()
    assert not moves(page)

    calm = settled(open_page(address, reduced_motion="reduce"))
    assert not moves(calm)
    before = calm.evaluate(picture)
    box = calm.locator("#hits .cloud").first.bounding_box()
    assert box is not None
    calm.mouse.move(box["x"] + 20, box["y"] + 20)
    calm.mouse.down()
    calm.mouse.move(box["x"] + 90, box["y"] + 30, steps=4)
    calm.mouse.up()
    assert calm.evaluate(picture) != before
    assert calm.locator("dialog[open]").count() == 0
