"""Sources: where items come from, each with a stable id.

A source is a folder, a glob, a text file with one item a line, or a table (CSV, TSV, JSONL,
Parquet) with a named column. The id of a file is its path relative to the root, the id of a
text the text itself, and the value of the id column where one is named.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path

from features.errors import UserError
from features.extraction.decode import SUFFIXES
from features.file_states import file_state
from features.files import require_file
from features.space import Modality
from features.tables import TABLE_SUFFIXES, Table, read_table, read_utf8

_GLOB = frozenset("*?[")
_LIKELY_COLUMNS = {
    "text": ("text", "caption", "sentence"),
    "image": ("path", "image", "file", "filename"),
    "audio": ("path", "audio", "file", "filename"),
    "points": ("path", "points", "file", "filename"),
}


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to embed; `value` is a sentence, or a path relative to the source's root.

    metadata: what the source's further `columns` say of it.
    """

    id: str
    value: str
    label: str | None = None
    metadata: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Source:
    """Items in their order, each id once.

    root: folder of the items' paths, None where the items are sentences.
    notes: what was left out or merged, one sentence each, to be shown to the user.
    columns: names of the items' metadata.
    """

    items: Sequence[Item]
    root: Path | None
    notes: Sequence[str] = field(default=())
    columns: Sequence[str] = field(default=())

    def load_argument(self, item: Item) -> str | Path:
        """What an encoder's input function takes for `item`."""
        return item.value if self.root is None else self.root / item.value

    def file_states(self) -> list[tuple[int, int]]:
        """Size and time of the last change, in nanoseconds, of every file; sentences have none."""
        if self.root is None:
            return []
        root = os.fspath(self.root)  # as text: Path would take as long as the disk
        return [file_state(os.path.join(root, item.value)) for item in self.items]  # noqa: PTH118


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
        root, pattern = _split_glob(path)
        return _read_files(root, sorted(root.glob(pattern)), modality)
    if require_file(path, "source").suffix.lower() == ".txt":
        return _read_lines(path, modality)
    if path.suffix.lower() in SUFFIXES[modality]:
        return _read_files(path.parent, [path], modality)
    raise UserError(
        f"{location} is not a source of {modality}: give a folder, a glob, a .txt file with one "
        f"item a line, or a table ({', '.join(TABLE_SUFFIXES)})"
    )


def _read_files(root: Path, paths: Sequence[Path], modality: Modality) -> Source:
    root = root.absolute()  # links are followed, but items keep the names they have here
    suffixes = SUFFIXES[modality]
    # A link that leads nowhere is kept: it fails with its reason and is not dropped.
    kept = [path for path in paths if path.suffix.lower() in suffixes and not path.is_dir()]
    if not kept:
        raise UserError(
            f"no {modality} files ({', '.join(suffixes)}) among the {len(paths)} files of {root}: "
            "check the folder and --modality"
        )
    other = len(paths) - len(kept)
    notes = [f"files of other kinds in {root}, not {modality}: {other}"] if other else []
    names = [path.absolute().relative_to(root).as_posix() for path in kept]
    return Source([Item(name, name) for name in names], root, notes)


def _walk(root: Path) -> list[Path]:
    """All files below `root`, links followed, each folder once."""

    def refuse(error: OSError) -> None:
        raise UserError(
            f"the folder {error.filename} may not be read ({error.strerror}): change its "
            "permissions or leave it out"
        ) from error

    files: list[Path] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder above or beside
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        files += [Path(folder) / name for name in names]
    return sorted(files)


def _split_glob(path: Path) -> tuple[Path, str]:
    """The folder before the first wildcard, and the pattern below it."""
    first = next(i for i, part in enumerate(path.parts) if _GLOB & set(part))
    return Path(*path.parts[:first]), str(Path(*path.parts[first:]))


def _read_lines(path: Path, modality: Modality) -> Source:
    lines = [line.strip() for line in read_utf8(path).split("\n")]
    values = [line for line in lines if line]
    if not values:
        raise UserError(f"{path} has no line that is not empty: give one item a line")
    root = None if modality == "text" else path.parent.resolve()
    return _unique([Item(value, value) for value in values], root, path)


def _read_table(
    path: Path,
    modality: Modality,
    column: str | None,
    id_column: str | None,
    label_column: str | None,
    where: Mapping[str, str],
    keep: Sequence[str] | None,
) -> Source:
    table = read_table(path, where)
    column = column or _likely_column(table, modality)
    values = table.column(column)
    ids = values if id_column is None else table.column(id_column)
    labels = None if label_column is None else table.column(label_column)
    if keep is None:
        used = {column, id_column, label_column}
        keep = [name for name in table.columns if name not in used and table.is_flat(name)]
    metadata = zip(*(table.column(name, empty=True) for name in keep), strict=True)
    items = [
        Item(name, value, None if labels is None else labels[i], further)
        for i, (name, value, further) in enumerate(
            zip(ids, values, metadata if keep else repeat(()), strict=bool(keep))
        )
    ]
    root = None if modality == "text" else path.parent.resolve()
    return replace(_unique(items, root, path), columns=keep)


def _likely_column(table: Table, modality: Modality) -> str:
    likely = [name for name in _LIKELY_COLUMNS[modality] if name in table.columns]
    if likely or len(table.columns) == 1:
        return (likely or list(table.columns))[0]
    raise UserError(
        f"which column of {table.path} holds the {modality}? Name it with --column: "
        f"its columns are {', '.join(table.columns)}"
    )


def _unique(items: Iterable[Item], root: Path | None, path: Path) -> Source:
    """Merge items that repeat an id with the same value; refuse other repetitions."""
    first: dict[str, Item] = {}
    repeated: Counter[str] = Counter()
    for item in items:
        known = first.setdefault(item.id, item)
        if known is item:
            continue
        if known != item:
            raise UserError(
                f"the id '{item.id}' in {path} stands for '{known.value}' ({known.label}) and for "
                f"'{item.value}' ({item.label}): name a column of unique ids with --id-column"
            )
        repeated[item.id] += 1
    notes = []
    if repeated:
        notes = [f"repeated items of {path}, embedded once: {sum(repeated.values())}"]
    return Source(list(first.values()), root, notes)
