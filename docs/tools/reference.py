"""`python -m docs.tools.reference` writes docs/reference/ again, from the code as it is."""

from __future__ import annotations

from collections.abc import Callable

from docs.tools.cli_page import cli_page
from docs.tools.links import DOCS
from docs.tools.python_page import python_page
from docs.tools.settings_page import settings_page

REFERENCE = DOCS / "reference"
PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "settings.md": settings_page,
    "python.md": python_page,
}
MADE = "<!-- Made from the code by `python -m docs.tools.reference`: change the code, not this. -->"


def made(name: str) -> str:
    """A page of the reference, whole."""
    return f"{MADE}\n\n{PAGES[name]().strip()}\n"


def main() -> None:
    """Write every page."""
    REFERENCE.mkdir(exist_ok=True)
    for name in PAGES:
        (REFERENCE / name).write_text(made(name), encoding="utf-8")


if __name__ == "__main__":
    main()
