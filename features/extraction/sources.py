"""Sources: where items come from, each with a stable id.

A source is a folder, a glob, a text file with one item a line, or a table (CSV, TSV, JSONL,
Parquet) with a named column. The id of a file is its path relative to the root, the id of a
text the text itself, and the value of the id column where one is named.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

from features.errors import UserError
from features.extraction.decode import SUFFIXES
from features.extraction.items import Items, Source
from features.files import require_file
from features.memories.strings import StringBuilder, StringColumn, same
from features.memories.unique import repetitions
from features.space import Modality
from features.tables import TABLE_SUFFIXES, cell, require_column, table_rows, utf8_lines

_GLOB = frozenset("*?[")
_LIKELY_COLUMNS = {
    "text": ("text", "caption", "sentence"),
    "image": ("path", "image", "file", "filename"),
    "audio": ("path", "audio", "file", "filename"),
    "points": ("path", "points", "file", "filename"),
}


def read_source(
    location: str,
    modality: Modality,
    *,
    column: str | None = None,
    id_column: str | None = None,
    label_column: str | None = None,
    where: Mapping[str, str] | None = None,
    keep: Sequence[str] | None = None,
) -> Source:
    """Read a source of `modality` items.

    where: keep the table's rows whose columns have these values.
    keep: of a table, the columns that are kept as metadata of the items. None keeps all but
    those of the items, ids and labels, and but those that hold lists.
    Raises UserError if it is missing or empty, a column is not there, or an id repeats with
    another value.
    """
    path = Path(location)
    table_options = {
        "column": column, "id-column": id_column, "label-column": label_column, "where": where,
        "keep": keep,
    }  # fmt: skip
    if path.suffix.lower() in TABLE_SUFFIXES and not path.is_dir():
        return _read_table(path, modality, column, id_column, label_column, where or {}, keep)
    for option, value in table_options.items():
        if value:
            raise UserError(
                f"--{option} names a column but {location} is not a table: "
                f"give a {', '.join(TABLE_SUFFIXES)} file or leave the option out"
            )
    if path.is_dir():
        return _read_files(path, _walk(path), modality)
    if not path.exists() and _GLOB & set(location):
        return _read_files(*_glob(path), modality)
    if require_file(path, "source").suffix.lower() == ".txt":
        return _read_lines(path, modality)
    if path.suffix.lower() in SUFFIXES[modality]:
        return _read_files(path.parent, [path.name], modality)
    raise UserError(
        f"{location} is not a source of {modality}: give a folder, a glob, a .txt file with one "
        f"item a line, or a table ({', '.join(TABLE_SUFFIXES)})"
    )


def _read_files(root: Path, names: Iterable[str], modality: Modality) -> Source:
    """Files below `root` by their names, whose parts are separated by null characters.

    So they sort as paths do, part by part.
    """
    suffixes, kept, others = SUFFIXES[modality], [], 0
    for name in names:
        if os.path.splitext(name.rpartition("\0")[2])[1].lower() in suffixes:  # noqa: PTH122
            kept.append(name)
        else:
            others += 1
    if not kept:
        raise UserError(
            f"no {modality} files ({', '.join(suffixes)}) among the {others} files of "
            f"{root.absolute()}: check the folder and --modality"
        )
    root = root.absolute()  # links are followed, but items keep the names they have here
    notes = [f"files of other kinds in {root}, not {modality}: {others}"] if others else []
    kept.sort()
    return Source(Items(StringColumn.of(name.replace("\0", "/") for name in kept)), root, notes)


def _walk(root: Path) -> Iterator[str]:
    """All files below `root`, links followed, each folder once; links that lead nowhere as well.

    Those fail with their reason and are not dropped.
    """

    def refuse(error: OSError) -> None:
        raise UserError(
            f"the folder {error.filename} may not be read ({error.strerror}): change its "
            "permissions or leave it out"
        ) from error

    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder above or beside
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        below = os.path.relpath(folder, root)
        start = "" if below == os.curdir else below.replace(os.sep, "\0") + "\0"
        yield from (start + name for name in names)


def _glob(path: Path) -> tuple[Path, Iterator[str]]:
    """The folder before the first wildcard, and the files that match below it."""
    root, pattern = _split_glob(path)
    found = (one for one in root.glob(pattern) if not one.is_dir())
    return root, ("\0".join(one.relative_to(root).parts) for one in found)


def _split_glob(path: Path) -> tuple[Path, str]:
    """The folder before the first wildcard, and the pattern below it."""
    first = next(i for i, part in enumerate(path.parts) if _GLOB & set(part))
    return Path(*path.parts[:first]), str(Path(*path.parts[first:]))


def _read_lines(path: Path, modality: Modality) -> Source:
    values = StringColumn.of(stripped for line in utf8_lines(path) if (stripped := line.strip()))
    if not len(values):
        raise UserError(f"{path} has no line that is not empty: give one item a line")
    return _unique(Items(values), None if modality == "text" else path.parent.resolve(), path)


def _read_table(
    path: Path,
    modality: Modality,
    column: str | None,
    id_column: str | None,
    label_column: str | None,
    where: Mapping[str, str],
    keep: Sequence[str] | None,
) -> Source:
    rows = table_rows(path, where)
    first = next(rows)
    header = first[1]
    column = column or _likely_column(path, list(header), modality)
    used = [name for name in (column, id_column, label_column) if name is not None]
    for name in (*used, *(keep or ())):
        require_column(path, header, name)
    filled = {name: StringBuilder() for name in used}
    further = {name: StringBuilder() for name in (header if keep is None else keep)}
    if keep is None:
        further = {name: builder for name, builder in further.items() if name not in filled}
    for number, row in chain([first], rows):
        for name, builder in filled.items():
            builder.append(cell(path, number, row, name))
        for name, builder in list(further.items()):
            value = row.get(name)
            if keep is None and isinstance(value, bytes | list | dict):
                del further[name]  # holds lists
            else:
                builder.append("" if value is None else str(value).strip())
    columns = {name: builder.column() for name, builder in filled.items()}
    values, ids = columns[column], columns[id_column or column]
    items = Items(
        ids,
        None if same(ids, values) else values,
        None if label_column is None else columns[label_column],
        tuple(builder.column() for builder in further.values()),
    )
    root = None if modality == "text" else path.parent.resolve()
    return replace(_unique(items, root, path), columns=list(further))


def _likely_column(path: Path, columns: Sequence[str], modality: Modality) -> str:
    likely = [name for name in _LIKELY_COLUMNS[modality] if name in columns]
    if likely or len(columns) == 1:
        return (likely or columns)[0]
    raise UserError(
        f"which column of {path} holds the {modality}? Name it with --column: "
        f"its columns are {', '.join(columns)}"
    )


def _unique(items: Items, root: Path | None, path: Path) -> Source:
    """Merge items that repeat an id with the same value; refuse other repetitions."""
    first = np.ones(len(items), dtype=bool)
    for earlier, row in repetitions(items.ids):
        known, item = items[earlier], items[row]
        if known != item:
            raise UserError(
                f"the id '{item.id}' in {path} stands for '{known.value}' ({known.label}) and for "
                f"'{item.value}' ({item.label}): name a column of unique ids with --id-column"
            )
        first[row] = False
    if first.all():
        return Source(items, root)
    notes = [f"repeated items of {path}, embedded once: {np.count_nonzero(~first)}"]
    return Source(items.take(np.flatnonzero(first)), root, notes)
