"""Every kind of source, and every way in which one can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from features.errors import UserError
from features.extraction.items import Item
from features.extraction.sources import read_source
from features.tables import read_table

CSV = 'path,number,split\na.png,1,train\n"b\nc.png",2,test\nd.png,3,train\n'


def _make(folder: Path, files: dict[str, Any]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".parquet") and not isinstance(content, bytes):
            parquet.write_table(pa.table(content), path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())


def _ids(source: Any) -> list[str]:
    return [item.id for item in source.items]


def test_folder_gives_files_of_its_modality_sorted_with_relative_ids(tmp_path: Path) -> None:
    _make(tmp_path, {"b/2.JPG": "", "a.png": "", "b/1.webp": "", "x.wav": "", "n.txt": ""})
    source = read_source(str(tmp_path), "image")
    assert _ids(source) == ["a.png", "b/1.webp", "b/2.JPG"]
    assert source.root == tmp_path.resolve()
    assert source.load_argument(source.items[1]) == tmp_path.resolve() / "b/1.webp"
    assert source.notes == [f"files of other kinds in {tmp_path}, not image: 2"]
    assert _ids(read_source(str(tmp_path), "audio")) == ["x.wav"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["a.png"]),
        ("s?b/*", ["sub/c.png", "sub/d.jpg"]),
        ("**/*.png", ["a.png", "sub/c.png"]),
        ("sub/[c]*", ["c.png"]),
    ],
)
def test_glob_names_files_from_the_folder_before_the_wildcard(
    tmp_path: Path, pattern: str, expected: list[str]
) -> None:
    _make(tmp_path, {"a.png": "", "sub/c.png": "", "sub/d.jpg": ""})
    assert _ids(read_source(f"{tmp_path}/{pattern}", "image")) == expected


def test_relative_glob_starts_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _make(tmp_path, {"a.png": ""})
    monkeypatch.chdir(tmp_path)
    source = read_source("*.png", "image")
    assert _ids(source) == ["a.png"]
    assert source.root == tmp_path.resolve()


def test_one_file_is_a_source_of_one_item(tmp_path: Path) -> None:
    _make(tmp_path, {"[1] a.png": "", "other.png": ""})
    assert _ids(read_source(str(tmp_path / "[1] a.png"), "image")) == ["[1] a.png"]


def test_text_file_gives_one_item_a_line_and_merges_repetitions(tmp_path: Path) -> None:
    _make(tmp_path, {"t.txt": "\ufeffa dog\r\n\n  a cat  \na dog\na dog\n"})
    source = read_source(str(tmp_path / "t.txt"), "text")
    assert source.items == [Item("a dog", "a dog"), Item("a cat", "a cat")]
    assert source.root is None
    assert source.load_argument(source.items[0]) == "a dog"
    assert source.notes == [f"repeated items of {tmp_path / 't.txt'}, embedded once: 2"]


def test_text_file_of_paths_is_relative_to_itself(tmp_path: Path) -> None:
    _make(tmp_path, {"lists/l.txt": "../a.wav\n"})
    source = read_source(str(tmp_path / "lists/l.txt"), "audio")
    assert source.root == tmp_path.resolve() / "lists"
    assert _ids(source) == ["../a.wav"]


@pytest.mark.parametrize("odd", ["\u2028", "\x0b", "\x85", "\x1c"])
def test_a_line_ends_at_line_feeds_only(tmp_path: Path, odd: str) -> None:
    rows = [{"text": f"one{odd}two"}, {"text": "three"}]
    table = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    _make(tmp_path, {"t.jsonl": table, "t.txt": f"one{odd}two\nthree\n"})
    for name in ("t.jsonl", "t.txt"):
        assert _ids(read_source(str(tmp_path / name), "text")) == [f"one{odd}two", "three"]


ROWS = [("a.png", "1", "train"), ("b\nc.png", "2", "test"), ("d.png", "3", "train")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", CSV),
        ("bom.csv", "\ufeff" + CSV),
        ("crlf.CSV", CSV.replace("\n", "\r\n").replace("b\r\nc", "b\nc")),
        ("t.tsv", CSV.replace(",", "\t")),
        (
            "t.jsonl",
            "\n\n".join(json.dumps({"path": p, "number": int(n), "split": s}) for p, n, s in ROWS),
        ),
        (
            "t.parquet",
            {
                "path": [row[0] for row in ROWS],
                "number": [int(row[1]) for row in ROWS],
                "split": [row[2] for row in ROWS],
            },
        ),
    ],
)
def test_every_kind_of_table_gives_the_same_items(tmp_path: Path, name: str, content: Any) -> None:
    _make(tmp_path, {name: content})
    location = str(tmp_path / name)
    assert _ids(read_source(location, "image")) == [row[0] for row in ROWS]
    source = read_source(
        location, "image", column="path", id_column="number", label_column="split",
        where={"split": "train"},
    )  # fmt: skip
    assert source.items == [Item("1", "a.png", "train"), Item("3", "d.png", "train")]
    assert source.root == tmp_path.resolve()
    rows = read_table(Path(location))
    assert rows.column("number") == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("modality", "header", "expected"),
    [
        ("text", "id,caption", "b"),
        ("text", "text,caption", "a"),
        ("image", "image,text", "a"),
        ("audio", "label,filename", "b"),
        ("points", "points,x", "a"),
    ],
)
def test_likely_columns_need_no_name(
    tmp_path: Path, modality: Any, header: str, expected: str
) -> None:
    _make(tmp_path, {"t.csv": f"{header}\na,b\n", "one.csv": "anything\nz\n"})
    assert _ids(read_source(str(tmp_path / "t.csv"), modality)) == [expected]
    assert _ids(read_source(str(tmp_path / "one.csv"), modality)) == ["z"]


def test_long_cells_are_read_whole(tmp_path: Path) -> None:
    _make(tmp_path, {"t.csv": f'a\n"{"x" * 200_000}"\n'})
    source = read_source(str(tmp_path / "t.csv"), "text")
    assert len(source.items[0].value) == 200_000


def test_repeated_rows_are_merged_and_noted(tmp_path: Path) -> None:
    _make(tmp_path, {"t.csv": "path,label\na.png,x\na.png,x\nb.png,x\n"})
    source = read_source(str(tmp_path / "t.csv"), "image", label_column="label")
    assert _ids(source) == ["a.png", "b.png"]
    assert source.notes == [f"repeated items of {tmp_path / 't.csv'}, embedded once: 1"]


def test_links_inside_a_folder_keep_their_own_names(tmp_path: Path) -> None:
    _make(tmp_path, {"outside/o.png": "", "in/a.png": ""})
    (tmp_path / "in/link.png").symlink_to(tmp_path / "in/a.png")
    (tmp_path / "in/out.png").symlink_to(tmp_path / "outside/o.png")
    assert _ids(read_source(str(tmp_path / "in"), "image")) == ["a.png", "link.png", "out.png"]


WRONG = [
    ({}, "", "nowhere", {}, "source nowhere does not exist"),
    ({}, "", "nowhere.csv", {}, "table nowhere.csv does not exist"),
    ({"t.wav": ""}, "image", "t.wav", {}, "t.wav is not a source of image: give a folder"),
    ({"d/t.wav": ""}, "image", "d", {}, "no image files (.png, .jpg"),
    ({}, "image", "*.png", {}, "among the 0 files of"),
    ({"t.txt": " \n\n"}, "text", "t.txt", {}, "t.txt has no line that is not empty"),
    ({"t.txt": b"\xff\xfe\x00"}, "text", "t.txt", {}, "t.txt is not UTF-8 text"),
    ({"t.csv": b"text\n\xff\n"}, "text", "t.csv", {}, "t.csv is not UTF-8 text"),
    ({"t.csv": ""}, "text", "t.csv", {}, "t.csv has no rows"),
    ({"t.csv": "text\n"}, "text", "t.csv", {}, "t.csv has no rows"),
    ({"t.csv": "a,b\n1,2\n"}, "text", "t.csv", {}, "which column of t.csv holds the text?"),
    ({"t.csv": "a,b\n1,2\n"}, "text", "t.csv", {}, "its columns are a, b"),
    ({"t.csv": "a;b\n1;2\n"}, "text", "t.csv", {}, "looks like several"),
    ({"t.csv": "a,b\n1,2,3\n"}, "text", "t.csv", {}, "t.csv"),
    ({"t.csv": "a,b\n1,2\n"}, "text", "t.csv", {"column": "c"}, "no column 'c': its columns"),
    ({"t.csv": "a,b\n1,2\n"}, "text", "t.csv", {"column": "a", "id_column": "i"}, "column 'i'"),
    ({"t.csv": "a,b\n1,2\n"}, "text", "t.csv", {"column": "a", "label_column": "l"}, "'l'"),
    ({"t.csv": "a\n1\n"}, "text", "t.csv", {"where": {"w": "1"}}, "no column 'w'"),
    (
        {"t.csv": "a\n1\n"},
        "text",
        "t.csv",
        {"where": {"a": "2"}},
        "none of the 1 rows of t.csv has a=2",
    ),
    ({"t.csv": "a,b\n1,x\n ,x\n"}, "text", "t.csv", {"column": "a"}, "row 2 of t.csv has nothing"),
    ({"t.csv": "a,b\n1\n"}, "text", "t.csv", {"column": "b"}, "nothing in column 'b'"),
    (
        {"t.csv": "a,i\nx,1\ny,1\n"},
        "text",
        "t.csv",
        {"column": "a", "id_column": "i"},
        "the id '1' in t.csv stands for 'x'",
    ),
    (
        {"t.csv": "a,l\nx,1\nx,2\n"},
        "text",
        "t.csv",
        {"column": "a", "label_column": "l"},
        "'x' (1) and for 'x' (2)",
    ),
    ({"t.csv": "a;b\n1;2\n"}, "text", "t.csv", {}, "looks like several"),
    ({"t.csv": "a,b\n1,2,3\n"}, "text", "t.csv", {"column": "a"}, "more fields than the header"),
    ({"t.jsonl": '{"a": 1}\n{a}\n'}, "text", "t.jsonl", {}, "line 2 of t.jsonl is not JSON"),
    ({"t.jsonl": "[1]\n"}, "text", "t.jsonl", {}, "line 1 of t.jsonl is not a JSON object"),
    ({"t.parquet": b"PAR1"}, "text", "t.parquet", {}, "t.parquet is not a readable Parquet file"),
    ({"t.txt": "x"}, "text", "t.txt", {"column": "a"}, "--column names a column but t.txt is not"),
    ({"d/a.png": ""}, "image", "d", {"where": {"a": "1"}}, "--where names a column but d is not"),
    ({"d/a.png": ""}, "image", "d", {"id_column": "a"}, "--id-column names a column"),
    ({"d/a.png": ""}, "image", "d", {"label_column": "a"}, "--label-column names a column"),
]


@pytest.mark.parametrize(("files", "modality", "location", "options", "message"), WRONG)
def test_what_is_wrong_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: Any, modality: Any, location: str,
    options: Any, message: str,
) -> None:  # fmt: skip
    _make(tmp_path, files)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        read_source(location, modality or "text", **options)
    assert message in str(error.value)


def test_a_table_of_another_kind_is_refused(tmp_path: Path) -> None:
    _make(tmp_path, {"t.xlsx": ""})
    with pytest.raises(UserError, match=r"t\.xlsx is not a table: give a \.csv, \.tsv"):
        read_table(tmp_path / "t.xlsx")


def test_real_tables_of_digits_are_read(digits_folder: Path) -> None:
    sounds = read_source(
        str(digits_folder / "audio.csv"), "audio", label_column="digit", where={"split": "test"}
    )
    assert {item.label for item in sounds.items} == set("0123456789")
    assert all(Path(sounds.load_argument(item)).is_file() for item in sounds.items[:50])


def test_links_are_followed_once_and_dead_ones_kept(tmp_path: Path) -> None:
    _make(tmp_path, {"elsewhere/x.png": "", "in/a.png": ""})
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "dead.png").symlink_to(tmp_path / "nowhere.png")
    source = read_source(str(tmp_path / "in"), "image")
    assert _ids(source) == ["a.png", "dead.png", "linked/x.png"]


def test_rows_are_numbered_as_in_the_file(tmp_path: Path) -> None:
    _make(tmp_path, {"t.csv": "text,split\na,x\nb,y\n ,y\n"})
    with pytest.raises(UserError, match=r"row 3 of .*t\.csv has nothing in column 'text'"):
        read_source(str(tmp_path / "t.csv"), "text", where={"split": "y"})
