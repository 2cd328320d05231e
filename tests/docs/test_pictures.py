"""The concepts' pictures come from the script, on any finished demo, and follow the page's ink."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from docs.tools.links import DOCS
from docs.tools.pictures import FAINT, INK, PICTURES, main


@pytest.fixture(scope="module")
def drawn(small_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pictures")
    with torch.random.fork_rng(devices=[]):
        main(small_demo, out)
    return out


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_svg_that_follows_the_page(name: str, drawn: Path):
    for file in (drawn / f"{name}.svg", DOCS / "concepts" / f"{name}.svg"):
        text = file.read_text("utf-8")
        assert ElementTree.fromstring(text).tag.endswith("svg")
        assert "prefers-color-scheme: dark" in text
        assert "currentColor" in text
        assert INK not in text
        assert FAINT not in text
        assert "<text" in text, "words are words, not outlines"
        addresses = set(re.findall(r"https?://[^\"' ]+", text))
        assert all("w3.org" in one for one in addresses)  # names of XML, which nothing fetches


def test_every_picture_is_on_a_page():
    shown = "".join(page.read_text("utf-8") for page in (DOCS / "concepts").glob("*.md"))
    assert {path.stem for path in (DOCS / "concepts").glob("*.svg")} == {*PICTURES}
    for name in PICTURES:
        assert f"]({name}.svg)" in shown
