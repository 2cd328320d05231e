"""The site is built from the pages: strictly, whole, and without a word to other hosts."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from docs.tools.links import DOCS, ROOT

# What a browser fetches by itself; links that a reader may follow are not among them.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)\b[^>]*?\bsrc=["']?(https?:)?//"""
    r"""|<link\b(?![^>]*rel=["']?canonical)[^>]*?\bhref=["']?(https?:)?//"""
    r"""|@import\s|url\(\s*["']?(https?:)?//"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    missing = [one for one in ("mkdocs", "material", "latex2mathml") if find_spec(one) is None]
    if missing:
        pytest.skip(f"the site needs {', '.join(missing)}: pip install '.[docs]'")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.mark.slow
def test_every_page_is_on_the_site_and_its_links_lead_somewhere(site: Path):
    for page in DOCS.rglob("*.md"):
        assert (site / page.relative_to(DOCS).with_suffix(".html")).is_file(), page
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        for target in re.findall(r'href="(?!https?:|mailto:|data:)([^"#]+)', text):
            assert (page.parent / target).exists() or page.name == "404.html", (page, target)


@pytest.mark.slow
def test_nothing_is_fetched_from_elsewhere(site: Path):
    for page in [*site.rglob("*.html"), *site.rglob("*.css")]:
        found = FETCHED.search(page.read_text("utf-8"))
        assert found is None, (page, found)


@pytest.mark.slow
def test_formulas_are_drawn(site: Path):
    text = (site / "concepts" / "c-mcr.html").read_text("utf-8")
    assert text.count("<math") > 5
    assert "arithmatex" not in text
