"""Hooks of MkDocs: the pages stay plain Markdown that reads well in the repository.

Links to files of the repository that are no pages (sources, the README) lead to a page made of that
file, so that the site is whole by itself. Formulas become MathML, which browsers draw without a
script or a font from elsewhere.
"""

from __future__ import annotations

import html
import os
import re
from pathlib import Path
from typing import Any

from docs.tools.links import DOCS, ROOT, links, relinked

HIDDEN = "---\nsearch:\n  exclude: true\n---\n\n"  # from the site's search
FILES = "files"  # the site's folder of repository files
_FENCES = {".py": "python", ".toml": "toml", ".sh": "sh", ".json": "json"}
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', flags=re.DOTALL)


def on_files(files: Any, config: Any) -> Any:
    """Add a page for every file outside of docs/ that a page links to, directly or not."""
    from mkdocs.structure.files import File

    waiting = [path for path in DOCS.rglob("*.md") if path.is_file()]
    seen: set[Path] = set()
    while waiting:
        page = waiting.pop()
        for target in _targets(page):
            if target in seen or target.is_relative_to(DOCS):
                continue
            seen.add(target)
            files.append(File.generated(config, _place(target), content=_content(target)))
            if target.suffix == ".md":
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Lead the page's links to where their targets are on the site."""
    here = page.file.src_uri
    source = ROOT / here.removeprefix(f"{FILES}/") if here.startswith(FILES) else DOCS / here
    source = source if source.exists() else source.with_suffix("")  # NAME.py.md stands for NAME.py

    def place(path: str) -> str:
        target = (source.parent / path).resolve()
        there = (
            target.relative_to(DOCS).as_posix() if target.is_relative_to(DOCS) else _place(target)
        )
        return os.path.relpath(there, Path(here).parent)

    return relinked(markdown, place)


def on_page_content(content: str, **_: Any) -> str:
    """Formulas as MathML."""
    from latex2mathml.converter import convert

    def drawn(match: re.Match[str]) -> str:
        display = "block" if match[1] == "div" else "inline"
        return str(convert(html.unescape(match[2]), display=display))

    return _FORMULA.sub(drawn, content)


def _targets(page: Path) -> list[Path]:
    text = page.read_text(encoding="utf-8")
    found = [(page.parent / path).resolve() for path, _ in links(text) if path]
    return [path for path in found if path.is_file()]


def _place(target: Path) -> str:
    name = target.relative_to(ROOT).as_posix()
    return f"{FILES}/{name}" if target.suffix in (".md", ".png", ".svg") else f"{FILES}/{name}.md"


def _content(target: Path) -> str:
    text = target.read_text(encoding="utf-8")
    if target.suffix == ".md":
        return f"{HIDDEN}{text}"
    name = target.relative_to(ROOT).as_posix()
    return f"{HIDDEN}# {name}\n\n````{_FENCES.get(target.suffix, 'text')}\n{text}````\n"
