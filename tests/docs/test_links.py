"""Links and anchors of all pages lead somewhere, and every page can be reached."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.tools.links import DOCS, ROOT, anchors, links, pages, prose, slug

OTHERS = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]


@pytest.mark.parametrize(
    "page", [*pages(), *OTHERS], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_links_and_anchors_lead_somewhere(page: Path):
    for path, anchor in links(page.read_text("utf-8")):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert target.is_relative_to(ROOT), path
        if anchor:
            assert anchor in anchors(target.read_text("utf-8")), f"{path}#{anchor}"


def test_every_page_can_be_reached_from_the_start():
    seen, waiting = set(), [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        targets = [path for path, _ in links(page.read_text("utf-8")) if path]
        waiting += [(page.parent / path).resolve() for path in targets]
    assert set(DOCS.rglob("*.md")) <= seen


def test_every_page_is_in_the_navigation():
    lines = (ROOT / "mkdocs.yml").read_text("utf-8").splitlines()
    named = {line.rpartition(": ")[2] for line in lines if line.strip().startswith("- ")}
    left_out = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} - named
    assert not left_out, f"{left_out}: name them under nav in mkdocs.yml"


@pytest.mark.parametrize("page", pages(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_formulas_are_drawn_on_github_as_well(page: Path):
    text = prose(page.read_text("utf-8"))
    for formula in re.findall(r"\$\$.+?\$\$|(?<![\w$`])\$[^$\n]+\$(?![\w$])", text, re.DOTALL):
        # It takes backslashes before punctuation for Markdown's, and refuses this macro.
        assert not re.search(r"\\(?:[,;:!|{}]|operatorname)", formula), formula


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("Counterfactual recognition", "counterfactual-recognition"),
        ("Kept pseudo pairs, `NAME.h5.pairs/`", "kept-pseudo-pairs-nameh5pairs"),
        ("C-MCR's [loss](a.md#b)", "c-mcrs-loss"),
        ("`mcr eval zero-shot`", "mcr-eval-zero-shot"),
    ],
)
def test_anchors_are_those_of_github(heading: str, anchor: str):
    assert slug(heading) == anchor
    assert anchors(f"# {heading}\n\n## {heading}\n") == {anchor, f"{anchor}-1"}
