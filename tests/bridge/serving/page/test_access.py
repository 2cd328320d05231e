"""The page by keyboard, on a phone, in light and dark, for screen readers, and when things fail."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bridge.serving
from bridge.pictures.palette import DARK, LIGHT
from tests.bridge.serving.page.conftest import OpenPage
from tests.bridge.serving.page.looks import group, names, settled, status, until
from tests.bridge.serving.place import NUMBERS, Place, serving

NUMBER = NUMBERS[7]
PAGE = Path(bridge.serving.__file__).parent / "page"
FOCUSED = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.id"


def test_by_keyboard_alone(open_page: OpenPage) -> None:
    page = open_page()
    page.locator(".start").wait_for()
    page.locator("body").press("/")
    page.keyboard.type(f"the number {NUMBER}")
    page.keyboard.press("Enter")
    assert status(page).startswith("The best 40")

    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(FOCUSED).startswith("2: image ")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    page.keyboard.press("ArrowDown")  # the next strip
    assert re.match(r"[123]: audio ", page.evaluate(FOCUSED))
    with page.expect_response(re.compile(r"/v1/media/sounds/\d+/file$")) as played:
        page.keyboard.press(" ")
    assert played.value.ok
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('article') !== null")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowUp")

    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    dialog = page.locator("dialog[open]")
    assert dialog.locator("h2").inner_text() == names(group(page, "pictures"))[0]
    page.keyboard.press("ArrowRight")
    assert dialog.locator("h2").inner_text() == names(group(page, "pictures"))[1]
    page.keyboard.press("Escape")
    assert dialog.count() == 0
    assert page.evaluate(FOCUSED).startswith("1: image ")

    page.keyboard.press("m")
    page.wait_for_url("**/?item=*&of=pictures")
    settled(page)
    until(page, f"({FOCUSED}).startsWith('1: image ')")
    page.keyboard.press("Escape")
    assert page.evaluate(FOCUSED) in ("words", "Search with a sentence")


@pytest.mark.parametrize(
    "address", ["", "?q=seven", "?q=seven&in=sounds", f"?item=sounds%2F{NUMBER}&of=sounds"]
)
def test_on_a_phone_nothing_is_wider_than_the_screen(open_page: OpenPage, address: str) -> None:
    page = open_page(address, viewport={"width": 360, "height": 740}, has_touch=True)
    page.locator("article").first.wait_for()
    wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wider) <= 0
    page.locator(".name").first.click()
    box = page.locator("dialog[open]").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    assert page.locator("#filters").get_attribute("open") is None


def test_where_something_scrolls_its_end_is_marked(open_page: OpenPage) -> None:
    page = open_page("?q=seven", viewport={"width": 390, "height": 740})
    strip = group(settled(page), "sounds").locator(".strip")
    marks = "['left', 'right'].filter((end) => list.classList.contains(`more-${end}`)).join()"

    def wait_until(ends: str) -> None:
        page.wait_for_function(
            f"(list) => {marks} === '{ends}'", arg=strip.element_handle(), timeout=5000
        )

    wait_until("right")
    assert "gradient" in strip.evaluate("(list) => getComputedStyle(list).maskImage")
    strip.evaluate("(list) => list.scrollTo(100, 0)")
    wait_until("left,right")
    strip.evaluate("(list) => list.scrollTo(9999, 0)")
    wait_until("left")


def test_dark_as_the_system_or_the_button_says(open_page: OpenPage) -> None:
    page = open_page(color_scheme="dark")
    page.locator(".start").wait_for()
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_role("button", name="Light colours").click()
    light = page.evaluate(ground)
    assert (dark, light) == ("rgb(18, 20, 23)", "rgb(246, 246, 244)")
    page.reload()
    assert page.evaluate(ground) == light


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page: OpenPage, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page(color_scheme=scheme, refused=True)

    def check(state: str) -> None:
        violations = axe.run(page).response["violations"]
        found = [
            (one["id"], one["nodes"][0]["html"])
            for one in violations
            if one["impact"] in ("serious", "critical")
        ]
        assert found == [], state

    page.locator(".start").wait_for()
    check("start")
    page.goto("/?q=seven")
    settled(page)
    check("strips")
    page.goto(f"/?item=sounds%2F{NUMBER}&of=sounds&in=sounds&where.parity=odd")
    settled(page)
    page.locator(".asked .wave path").first.wait_for(state="attached")
    check("one collection")
    page.locator(".name").first.click()
    check("detail")
    page.goto(f"/?saved={'0' * 32}&as=audio")
    page.locator(".alert").wait_for()
    check("error")


def test_a_dead_server_is_said_and_tried_again(open_page: OpenPage, place: Place) -> None:
    with serving(*place.arguments) as running:
        page = open_page(base=running.address, refused=True)
        page.locator(".start").wait_for()
    page.locator("#words").fill("eight")
    page.locator("#words").press("Enter")
    page.locator(".alert").wait_for()
    sentence = "The server does not answer. Is mcr serve still running?"
    assert page.locator(".alert p").inner_text() == sentence
    assert page.locator(".card").count() == 0

    away = settled(open_page("?q=seven&in=texts", refused=True))
    away.context.set_offline(True)
    away.locator("#words").fill("eight")
    away.locator("#words").press("Enter")
    away.locator(".alert", has_text=sentence).wait_for()
    away.context.set_offline(False)
    away.get_by_role("button", name="Try again").click()
    assert status(away).startswith("24 items")
    assert away.url.endswith("?q=eight&in=texts")
    assert away.locator(".alert").count() == 0


def test_what_the_server_refuses_is_said_in_its_words(open_page: OpenPage, tmp_path: Path) -> None:
    forgotten = open_page(f"?saved={'0' * 32}&as=audio", refused=True)
    alert = forgotten.locator(".alert p")
    assert alert.inner_text() == ("this query is no longer kept: ask it again, with the same file")

    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"no picture")
    forgotten.locator("#file").set_input_files(damaged)
    forgotten.locator(".alert p", has_text="damaged.png: ").wait_for()

    large = tmp_path / "large.wav"
    large.write_bytes(bytes(1_200_000))
    forgotten.locator("#file").set_input_files(large)
    said = forgotten.locator(".alert p", has_text="large.wav has 1.2 MB")
    assert said.inner_text() == "large.wav has 1.2 MB, the server takes up to 1.0 MB."


def test_colours_are_those_of_the_pictures() -> None:
    style = (PAGE / "page.css").read_text(encoding="utf-8")
    for modality, colour in LIGHT.fill.items():
        assert f"--{modality}: light-dark({colour}, {DARK.fill[modality]});" in style
