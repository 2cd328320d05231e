"""How long the search page takes from a sentence to its first hits on the screen.

python -m benchmarks search_page demo --picture docs/search-page.png

The folder is that of a finished `mcr demo`. The page is open in Chromium; a sentence that was not
asked before is sent, embedded, looked up, and its hits are drawn: to the frame that shows them.
`--picture` takes a picture of the page as well.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from pathlib import Path

import httpx
from playwright.sync_api import Page, sync_playwright

from benchmarks.machine import machine
from benchmarks.report import parser
from features import keypad
from tests.bridge.serving.page.conftest import BROWSERS
from tests.bridge.serving.place import serving

BRIDGES = ("audio-image", "points-text")
INDICES = ("image-audio-image-test", "text-points-text-test")
MEMORIES = ("audio-mini-clap-test3", "points-mini-ulip-test3")
SENTENCE = "three hundred thirty three"
PAUSE = 500  # milliseconds to look at the hits, in which their pictures and waveforms come
ASK = """sentence => new Promise(done => {
  const hits = document.querySelector('#hits');
  document.querySelector('#words').value = sentence;
  const began = performance.now();
  const watcher = new MutationObserver(() => {
    if (!hits.querySelector('article') || document.querySelector('[aria-busy]')) return;
    watcher.disconnect();
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)));
  });
  watcher.observe(hits, { childList: true });
  document.querySelector('#ask').requestSubmit();
})"""


def main() -> None:
    """Print the median and the 95th percentile, for all collections and for one."""
    options = parser(__doc__, repeats=100)
    options.add_argument("demo", type=Path, help="folder of `mcr demo`")
    options.add_argument("--picture", type=Path, help="take a picture of the page, as PNG")
    arguments = options.parse_args()
    demo = arguments.demo.resolve()
    given = [part for name in BRIDGES for part in ("--bridge", demo / "bridges" / name)]
    for option, suffix, names in (("--index", "faiss", INDICES), ("--memory", "h5", MEMORIES)):
        for name in names:
            given += [option, demo / "memories" / f"{name}.{suffix}"]
    program = next(filter(None, map(shutil.which, BROWSERS)))
    with serving(*given) as running, sync_playwright() as playwright:
        while httpx.get(f"{running.address}/readyz").status_code != 200:
            time.sleep(0.1)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1280}, color_scheme="light")
        sentences = iter(keypad.spoken(number) for number in keypad.numbers("train"))
        result = {"machine": machine(), "sentences": arguments.repeats}
        for name, address in (("all", ""), ("one", f"?in={INDICES[0]}")):
            page.goto(f"{running.address}/{address}")
            page.locator(".start").wait_for()
            times = sorted(_ask(page, next(sentences)) for _ in range(arguments.repeats))
            result[f"{name}: median ms"] = round(statistics.median(times), 1)
            result[f"{name}: p95 ms"] = round(times[int(0.95 * len(times))], 1)
        if arguments.picture:
            _picture(page, running.address, arguments.picture)
        browser.close()
    print(json.dumps(result, indent=2))
    if arguments.json:
        with arguments.json.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"title": "Search page", **result}) + "\n")


def _ask(page: Page, sentence: str) -> float:
    page.wait_for_timeout(PAUSE)
    return float(page.evaluate(ASK, sentence))


def _picture(page: Page, address: str, out: Path) -> None:
    page.goto(f"{address}/?q={SENTENCE.replace(' ', '+')}")
    page.locator("article").first.wait_for()
    page.wait_for_load_state("networkidle")
    page.screenshot(path=out)


if __name__ == "__main__":
    main()
