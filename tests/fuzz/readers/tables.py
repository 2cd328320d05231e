"""Tables and lists of items, settings and recipes, and the journal of an extraction."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np

from bridge.config import TrainSettings, load_settings
from bridge.recipe.reading import read_recipe
from bridge.recipe.templates import template
from bridge.recipe.vocabulary import Vocabulary
from bridge.runs.record import settings_toml
from cli.vocabulary import vocabulary, working_in
from features.errors import UnknownNameError, UserError
from features.exchange.text_tables import open_columns
from features.extraction.partial import Failure, Partial, read_failures, write_failures
from features.extraction.sources import read_source
from tests.fuzz.readers.exchange import parquet
from tests.fuzz.target import Target

_PLAN = {"space": "s", "dtype": "float32", "encoder": {"name": "e"}}
_CSV = "key,path,caption,label\n1,a.png,a cat,x\n2,b.png,é,y\n"
_JSONL = '{"key": 1, "path": "a.png", "text": "a"}\n{"key": 2, "path": "b.png", "text": null}\n'


def _source(path: Path) -> None:
    """As `mcr extract` reads it, of files and of sentences, and as `mcr import --ids` does."""
    uses: tuple[Callable[[], object], ...] = (
        lambda: read_source(str(path), "image"),
        lambda: read_source(str(path), "image", id_column="key", label_column="label"),
        lambda: read_source(str(path), "text", where={"key": "1"}),
        lambda: [list(open_columns(path).read(name)) for name in open_columns(path).names],
    )
    for use in uses:
        with suppress(UserError):
            use()


def _lines(path: Path) -> None:
    for modality in ("text", "image"):
        with suppress(UserError):
            read_source(str(path), modality)  # type: ignore[arg-type]


def _one(*contents: str | bytes) -> Callable[[Path], Iterable[bytes]]:
    return lambda _: [one if isinstance(one, bytes) else one.encode() for one in contents]


@cache
def _vocabulary() -> Vocabulary:
    return vocabulary()


def _recipe(path: Path) -> None:
    with working_in(path.parent):
        read_recipe(Path(path.name), _vocabulary())


def _recipes(_: Path) -> Iterable[bytes]:
    return [template("demo").encode()]


def _settings(_: Path) -> Iterable[bytes]:
    chosen = (TrainSettings(), load_settings(None, preset="published"), load_settings(None))
    return [settings_toml(one).encode() for one in chosen]


def _write_partial(folder: Path) -> None:
    partial = Partial(folder, _PLAN, 8)
    with suppress(AttributeError):
        for row in range(2):
            rows = np.full((2, 2), row, np.float32)
            partial.commit(rows, [Failure(f"{row}", "item", "a reason")])
    partial.close()


def _started(name: str) -> Callable[[Path], Iterable[bytes]]:
    def seeds(folder: Path) -> Iterable[bytes]:
        _write_partial(folder)
        return [(folder / name).read_bytes()]

    return seeds


def _partial(path: Path) -> None:
    rows = path.with_name("rows.bin")
    content = rows.read_bytes()
    partial = Partial(path.parent, _PLAN, 8)
    try:
        for block in partial.stored(np.dtype(("f4", (2,)))):
            np.asarray(block).sum()
    finally:
        partial.close()
        rows.write_bytes(content)


def _failures(folder: Path) -> Iterable[bytes]:
    write_failures(folder / "f.jsonl", [Failure("a", "b", "c"), Failure("d", "e", "f")])
    return [(folder / "f.jsonl").read_bytes()]


_NAMES = (UserError, UnknownNameError)
TARGETS = (
    Target("table-csv", "t.csv", _source, _one(_CSV), form="text", weight=2),
    Target("table-tsv", "t.tsv", _source, _one(_CSV.replace(",", "\t")), form="text"),
    Target("table-jsonl", "t.jsonl", _source, _one(_JSONL), form="lines", weight=2),
    Target("table-parquet", "t.parquet", _source,
           _one(parquet(key=[1, 2], path=["a", "b"], x=[[1], None])), weight=0.5),
    Target("list-of-items", "t.txt", _lines, _one("a.png\nb.png\n"), form="text"),
    Target("settings-toml", "s.toml", lambda p: asdict(load_settings(p)), _settings, form="toml",
           allowed=_NAMES, weight=2),
    Target("recipe-toml", "r.toml", _recipe, _recipes, form="toml", allowed=_NAMES, weight=0.5),
    Target("partial-journal", "journal.jsonl", _partial, _started("journal.jsonl"), _write_partial,
           "journal"),
    Target("partial-plan", "plan.json", _partial, _started("plan.json"), _write_partial, "json"),
    Target("failures-list", "f.jsonl", read_failures, _failures, form="lines"),
)  # fmt: skip
