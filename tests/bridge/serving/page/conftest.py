"""A browser, and the search page of a server of its own."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.bridge.serving.place import Place, Running, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 20_000  # milliseconds
# A sound of its own instead of a microphone, without asking; see the tests of recording.
FLAGS = (
    "--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip

OpenPage = Callable[..., "Page"]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=program, args=list(FLAGS))
        yield launched
        launched.close()


@pytest.fixture(scope="package")
def site(place: Place) -> Iterator[Running]:
    """A server with ten hits on a page, so that two dozen items have three."""
    with serving(*place.arguments, "--max-k", "10", "--max-upload", "1") as running:
        wait_for(running)
        yield running


def wait_for(running: Running) -> None:
    """Return when all encoders are loaded."""
    deadline = time.monotonic() + 60
    while httpx.get(f"{running.address}/readyz").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def open_page(browser: Browser, site: Running) -> Iterator[OpenPage]:
    """`open_page(address, **context)`: the page of the site.

    Afterwards: nothing was asked of another host and nothing went wrong in the page, but for the
    refusals that `refused=True` announces.
    """
    contexts, problems = [], []

    def open_it(address: str = "", *, refused: bool = False, **options: Any) -> Page:
        context = browser.new_context(base_url=options.pop("base", site.address), **options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        expected = "Failed to load resource" if refused else "\0"
        page.on(
            "console",
            lambda said: (
                problems.append(said.text)
                if said.type in ("error", "warning") and expected not in said.text
                else None
            ),
        )
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda asked: hosts.add(asked.url.split("/")[2]))
        page.goto(f"/{address}")
        return page

    hosts: set[str] = set()
    yield open_it
    for context in contexts:
        context.close()
    assert problems == []
    local = {host for host in hosts if host.startswith("127.0.0.1:")}
    assert hosts - local - {""} == set()
