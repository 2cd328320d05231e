"""The page: one HTML file that needs nothing else, light and dark, on screens and paper."""

from __future__ import annotations

from pathlib import Path

from bridge.card import origin_of
from bridge.pictures.palette import DARK, LIGHT, Theme
from bridge.report.contents import Contents
from bridge.report.markup import Markup, joined, tag, text
from bridge.report.provenance import provenance
from bridge.report.queries import queries
from bridge.report.sections import arrows, curves, evaluations, pictures, settings, trained
from features.errors import UserError
from features.files import refuse_folder, replacing
from features.progress import SILENT, Progress

_PARTS = (trained, settings, curves, evaluations, pictures, queries, provenance)
_STYLES = Path(__file__).with_name("page.css")
# Nothing is fetched and nothing runs, whatever a file's names and sentences hold.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def check_report(out: Path) -> None:
    """Raise UserError unless `out` can be a report: called before the work is done."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"a report is called NAME.html, not {out.name}: choose that ending")
    refuse_folder(out)


def write_report(contents: Contents, out: Path, *, progress: Progress = SILENT) -> Path:
    """Write the page; an earlier one of this name is replaced."""
    check_report(out)
    with replacing(out) as temporary:
        temporary.write_text(page(contents, progress=progress), encoding="utf-8")
    return out


def page(contents: Contents, *, progress: Progress = SILENT) -> str:
    """The whole page."""
    made = contents.bridge
    spaces = " + ".join(made.spaces)
    lead = f"{spaces} in a shared space of {made.dimension} dimensions, {origin_of(made)}"
    parts = []
    with progress.task("report", len(_PARTS), unit="parts") as advance:
        for part in _PARTS:
            parts.append(part(contents))
            advance(1)
    body = tag(
        "main",
        tag("header", tag("h1", made.name), tag("p", lead), _headlines(contents)),
        *parts,
    )
    styles = "\n".join(
        [
            f":root{{color-scheme:light dark;{_variables(LIGHT)}}}",
            f"@media screen and (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}",
            _STYLES.read_text(encoding="utf-8"),
        ]
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(made.name)}: report</title>\n<style>\n{styles}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _headlines(contents: Contents) -> Markup:
    """The few figures that a reader looks for first."""
    told: list[tuple[str, str]] = []
    for one in contents.results:
        if one.result.protocol == "retrieval":
            told += [
                (f"R@1, {arrows(part)}", f"{figures['R@1']:.3f}")
                for part, figures in one.result.figures.items()
                if "R@1" in figures
            ]
    held_out = contents.bridge.metrics.get("held_out_r1")
    if held_out is not None:
        told.append(("R@1, held-out hub items", f"{held_out:.3f}"))
    pairs = (tag("div", tag("dt", name), tag("dd", value)) for name, value in told[:6])
    return tag("dl", joined(pairs), class_="headlines") if told else Markup("")


def _variables(theme: Theme) -> str:
    """The palette as CSS."""
    colours = {
        "background": theme.background or "#ffffff",
        "ink": theme.ink,
        "muted": theme.muted,
        "faint": theme.faint,
        "right": theme.right,
    }
    return "".join(f"--{name}:{value};" for name, value in colours.items())
