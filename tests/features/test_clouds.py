"""Every format of point clouds gives the numbers that were written, and refuses what is false."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.clouds import SUFFIXES, read_cloud, read_points
from features.clouds.lzf import decompress
from features.errors import ItemError
from features.extraction.decode import SUFFIXES as ALL_SUFFIXES

RNG = np.random.default_rng(7)
XYZ = RNG.normal(size=(40, 3)).astype(np.float32)
RGB = RNG.integers(0, 256, size=(40, 3), dtype=np.uint8)
UNIT = RGB.astype(np.float32) / np.float32(255)
CLOUD_SUFFIXES = (".npz", ".npy", ".xyz", ".pts", ".pcd", ".ply")


def _put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(compressed: bool = False, **arrays: Any) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


def lines(table: Any, first: str = "") -> bytes:
    rows = [" ".join(repr(value) for value in row) for row in np.asarray(table).tolist()]
    return (first + "\n".join(rows)).encode()


def with_colours(*between: Any) -> Any:
    return np.column_stack([XYZ.astype(float), *between, RGB])


PLY_TYPES = {"f4": "float", "f8": "double", "u1": "uchar", "i4": "int", "u2": "ushort"}


def ply(
    fields: Sequence[tuple[str, str]],
    columns: Sequence[Any],
    encoding: str = "binary_little_endian",
    newline: str = "\n",
) -> bytes:
    """A cloud of one element; fields are pairs of a name and a numpy type."""
    rows = [f"property {PLY_TYPES[code]} {name}" for name, code in fields]
    head = ["ply", f"format {encoding} 1.0", "comment made by hand"]
    head += [f"element vertex {len(columns[0])}", *rows, "end_header", ""]
    order = ">" if "big" in encoding else "<"
    table = np.empty(len(columns[0]), [(name, order + code) for name, code in fields])
    for (name, _), column in zip(fields, columns, strict=True):
        table[name] = column
    body = table.tobytes()
    if encoding == "ascii":
        body = newline.join(" ".join(map(repr, row)) for row in table.tolist()).encode()
    return newline.join(head).encode() + body


def packed_colours(rgb: Any) -> Any:
    wide = rgb.astype(np.uint32)
    return wide[:, 0] << 16 | wide[:, 1] << 8 | wide[:, 2]


def lzf(data: bytes) -> bytes:
    """Compressed greedily: the last place with the same three bytes is copied."""
    out, run = bytearray(), bytearray()
    seen: dict[bytes, int] = {}
    place = 0
    while place < len(data):
        key = data[place : place + 3]
        start = seen.get(key, place - 8193)
        seen[key] = place
        if place - start > 8192 or len(key) < 3:
            run.append(data[place])
            place += 1
            continue
        length = 3
        while (
            length < 264
            and data[start + length : start + length + 1]
            == data[place + length : place + length + 1]
            != b""
        ):
            length += 1
        out += _runs(run)
        run.clear()
        back, code = place - start - 1, length - 2
        out += bytes([min(code, 7) << 5 | back >> 8, *[code - 7] * (code >= 7), back & 255])
        place += length
    return bytes(out + _runs(run))


def _runs(data: bytes | bytearray) -> bytes:
    parts = [bytes(data[i : i + 32]) for i in range(0, len(data), 32)]
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


def pcd(encoding: str, colour: str | None = None, *, points: int | None = None) -> bytes:
    """XYZ after a field of padding, with RGB packed into a number of kind `colour`, F or U."""
    fields = [("x", "<f4"), ("y", "<f4"), ("z", "<f4")]
    head = ["FIELDS _ x y z", "SIZE 1 4 4 4", "TYPE U F F F", "COUNT 3 1 1 1"]
    if colour:
        fields.append(("rgb", f"<{colour.lower()}4"))
        ends = (" rgb", " 4", f" {colour}", " 1")
        head = [line + end for line, end in zip(head, ends, strict=True)]
    table = np.zeros(len(XYZ), [("_", "u1", (3,)), *fields])
    table["x"], table["y"], table["z"] = XYZ.T
    if colour:
        table["rgb"] = packed_colours(RGB).view(f"<{colour.lower()}4")
    names = table.dtype.names or ()
    count = len(table) if points is None else points
    if encoding == "ascii":
        body = "\n".join(
            " ".join(str(v) for name in names for v in np.atleast_1d(row[name])) for row in table
        ).encode()
    elif encoding == "binary":
        body = table.tobytes()
    else:
        data = b"".join(table[name].tobytes() for name in names)
        packed = lzf(data)
        body = struct.pack("<II", len(packed), len(data)) + packed
    head = ["# .PCD v0.7", "VERSION 0.7", *head, f"WIDTH {count}", "HEIGHT 1"]
    head += ["VIEWPOINT 0 0 0 1 0 0 0", f"POINTS {count}", f"DATA {encoding}", ""]
    return "\n".join(head).encode() + body


X, Y, Z = XYZ.T
RED, GREEN, BLUE = RGB.T
F3 = [("x", "f4"), ("y", "f4"), ("z", "f4")]
U3 = [("red", "u1"), ("green", "u1"), ("blue", "u1")]
PLAIN = {
    "c.npy": npy(XYZ),
    "wide.npy": npy(XYZ.astype(np.float64)),
    "columns first.npy": npy(np.asfortranarray(XYZ)),
    "intensity.npy": npy(np.column_stack([XYZ, X])),
    "normals.npy": npy(np.column_stack([XYZ, XYZ])),
    "normals and label.npy": npy(np.column_stack([XYZ, XYZ, RED])),
    "normals twice.npy": npy(np.column_stack([XYZ, XYZ, XYZ])),
    "five.npy": npy(with_colours()[:, :5]),
    "eight.npy": npy(with_colours(RED, GREEN)),
    "ten.npy": npy(with_colours(XYZ, RED)),
    "c.npz": npz(xyz=XYZ, caption="a chair"),
    "single.npz": npz(cloud=XYZ),
    "packed.npz": npz(compressed=True, xyz=XYZ),
    "c.xyz": lines(XYZ),
    "comment.xyz": lines(XYZ, "# x y z\n"),
    "normals.xyz": lines(np.column_stack([XYZ, -abs(XYZ)])),
    "counted.pts": lines(XYZ, "40\n"),
    "intensity.pts": lines(np.column_stack([XYZ, X])),
    "c.PLY": ply(F3, [X, Y, Z]),
    "big.ply": ply(F3, [X, Y, Z], "binary_big_endian"),
    "text.ply": ply(F3, [X, Y, Z], "ascii"),
    "windows.ply": ply(F3, [X, Y, Z], "ascii", "\r\n"),
    "windows binary.ply": ply(F3, [X, Y, Z], newline="\r\n"),
    "double.ply": ply([("z", "f8"), ("x", "f8"), ("w", "i4"), ("y", "f8")], [Z, X, RED, Y]),
    "c.pcd": pcd("binary"),
    "text.pcd": pcd("ascii"),
    "compressed.pcd": pcd("binary_compressed"),
}
COLOURED = {
    "c.npy": npy(with_colours()),
    "unit.npy": npy(np.column_stack([XYZ, UNIT])),
    "alpha.npy": npy(np.column_stack([with_colours(), BLUE])),
    "unit alpha.npy": npy(np.column_stack([XYZ, UNIT, np.ones(40)])),
    "label.npy": npy(np.column_stack([with_colours(), -np.ones(40)])),
    "colours, normals.npy": npy(np.column_stack([with_colours(), XYZ])),
    "normals, colours.npy": npy(with_colours(XYZ)),
    "normals, colours.xyz": lines(with_colours(XYZ)),
    "single alpha.npz": npz(cloud=np.column_stack([with_colours(), RED])),
    "c.npz": npz(xyz=XYZ, rgb=RGB),
    "unit.npz": npz(xyz=XYZ, rgb=UNIT),
    "alpha.npz": npz(xyz=XYZ, rgb=np.column_stack([RGB, RED])),
    "wide.npz": npz(xyz=XYZ, rgb=RGB.astype(np.uint16) * 257),
    "whole.npz": npz(xyz=XYZ, rgb=RGB.astype(np.int64)),
    "single.npz": npz(cloud=with_colours()),
    "c.xyz": lines(with_colours()),
    "c.pts": lines(with_colours(), "40\n"),
    "intensity.pts": lines(with_colours(-X), "40\r\n"),
    "c.ply": ply(F3 + U3, [X, Y, Z, RED, GREEN, BLUE]),
    "any order.ply": ply([*U3[::-1], ("nx", "f4"), *F3], [BLUE, GREEN, RED, X, X, Y, Z]),
    "big.ply": ply(F3 + U3, [X, Y, Z, RED, GREEN, BLUE], "binary_big_endian"),
    "text.ply": ply(F3 + U3, [X, Y, Z, RED, GREEN, BLUE], "ascii"),
    "unit.ply": ply([*F3, ("r", "f4"), ("g", "f4"), ("b", "f4")], [X, Y, Z, *UNIT.T]),
    "float.pcd": pcd("binary", "F"),
    "whole.pcd": pcd("binary", "U"),
    "text.pcd": pcd("ascii", "U"),
    "text float.pcd": pcd("ascii", "F"),
    "compressed.pcd": pcd("binary_compressed", "F"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_cloud_without_colours_has_three_columns(tmp_path: Path, name: str) -> None:
    cloud = read_cloud(_put(tmp_path, name, PLAIN[name]), min_points=40)
    assert cloud.dtype == np.float32
    np.testing.assert_array_equal(cloud, XYZ)


@pytest.mark.parametrize("name", COLOURED)
def test_a_cloud_with_colours_has_six_columns(tmp_path: Path, name: str) -> None:
    path = _put(tmp_path, name, COLOURED[name])
    cloud = read_cloud(path, min_points=40)
    assert cloud.dtype == np.float32
    np.testing.assert_array_equal(cloud[:, :3], XYZ)
    np.testing.assert_allclose(cloud[:, 3:], UNIT, atol=1e-6)
    np.testing.assert_array_equal(read_points(path, min_points=40), XYZ)


def test_dark_whole_numbers_are_not_taken_for_fractions(tmp_path: Path) -> None:
    cloud = read_cloud(_put(tmp_path, "c.npz", npz(xyz=XYZ, rgb=RGB % 2)), min_points=1)
    np.testing.assert_allclose(cloud[:, 3:], (RGB % 2) / 255, atol=1e-7)


def test_elements_before_the_vertices_are_passed_over(tmp_path: Path) -> None:
    head = b"ply\nformat binary_little_endian 1.0\nelement camera 2\nproperty list uchar int n\n"
    head += b"property float f\nelement vertex 40\nproperty float x\nproperty float y\n"
    head += b"property float z\nelement face 0\nproperty list uchar int vertex_indices\n"
    body = struct.pack("<B2if", 2, 5, 6, 1.0) + struct.pack("<Bif", 1, 5, 1.0)
    content = head + b"end_header\n" + body + XYZ.astype("<f4").tobytes()
    np.testing.assert_array_equal(read_cloud(_put(tmp_path, "c.ply", content), min_points=40), XYZ)


@pytest.mark.parametrize(
    ("packed", "plain"),
    [
        (b"\x02abc", b"abc"),
        (b"\x00a\x20\x00", b"aaaa"),  # a copy that runs into what it writes
        (b"\x02abc\x40\x02", b"abcabca"),
        (b"\x01ab\xe0\x03\x01", b"ab" * 7),  # a long copy: 7 + 3 + 2 bytes
        (b"\x1f" + b"x" * 32 + b"\x00y\x20\x20", b"x" * 32 + b"yxxx"),
    ],
)
def test_lzf_copies_and_runs(packed: bytes, plain: bytes) -> None:
    assert decompress(packed, len(plain)) == plain
    with pytest.raises(ValueError, match="damaged"):
        decompress(packed, len(plain) + 1)
    with pytest.raises(ValueError, match="damaged"):
        decompress(packed[:-1], len(plain))


@given(st.lists(st.sampled_from([b"a", b"bcd", b"efghij" * 9, bytes(300)]), max_size=30))
def test_lzf_gives_back_what_was_compressed(parts: list[bytes]) -> None:
    data = b"".join(parts)
    assert decompress(lzf(data), len(data)) == data


def test_lzf_may_not_copy_from_before_the_start() -> None:
    with pytest.raises(ValueError, match="damaged"):
        decompress(b"\x00a\x20\x01", 4)


def npy_claiming(shape: str, dtype: str = "<f4") -> bytes:
    head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + b"\0" * 64


def npz_of(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xyz.npy", content)
    return file.getvalue()


def swapped(content: bytes, old: bytes, new: bytes) -> bytes:
    assert old in content
    return content.replace(old, new, 1)


HUGE = b"999999999999"
HOSTILE = [
    ("c.npy", npy_claiming("(999999999999, 3)"), "claims an array"),
    ("c.npy", npy_claiming("(-1, 3)"), "claims an array"),
    ("c.npy", npy_claiming("(4, 3)", "|O"), "allow_pickle"),
    ("c.npz", npz_of(npy_claiming("(999999999999, 3)")), "claims an array"),
    ("c.npz", npz(xyz=XYZ, rgb=RGB[:9]), r"the colours are \(9, 3\), the points \(40, 3\)"),
    ("c.npz", npz(xyz=XYZ, rgb=UNIT - 0.5), "a colour is in 0 to 1 or 0 to 255"),
    ("c.npz", npz(xyz=XYZ, rgb=UNIT * np.nan), "a colour is in 0 to 1 or 0 to 255"),
    ("c.npz", npz(xyz=XYZ.astype(float) * 1e300), "of 40 points are NaN or infinite"),
    ("c.pts", lines(XYZ, "41\n"), "claims 41 points, it has 40"),
    ("c.pts", b"", "no points"),
    ("c.pts", b"3\n", "no points"),
    ("c.xyz", b"1 2 3\n4 5", "columns"),
    ("c.xyz", b"1,5 2,5 3,5\n" * 40, "could not convert"),
    ("c.ply", swapped(PLAIN["c.PLY"], b"vertex 40", b"vertex " + HUGE), "claims 9999"),
    ("c.ply", swapped(PLAIN["c.PLY"], b"vertex 40", b"vertex -40"), "not known"),
    ("c.ply", swapped(PLAIN["c.PLY"], b"vertex 40", b"vertex 0"), "no vertices"),
    ("c.ply", swapped(PLAIN["c.PLY"], b"float z", b"float q"), "vertices have no z"),
    ("c.ply", swapped(PLAIN["c.PLY"], b"float z", b"quad z"), "not known: property quad z"),
    ("c.ply", PLAIN["c.PLY"][:-1], "more than the file holds"),
    ("c.ply", swapped(PLAIN["text.ply"], b"vertex 40", b"vertex " + HUGE), "claims 9999"),
    ("c.ply", swapped(PLAIN["text.ply"], b"vertex 40", b"vertex 41"), "claims 41 rows"),
    ("c.ply", swapped(PLAIN["c.PLY"], b"end_header", b"no end"), "no PLY header"),
    ("c.ply", b"ply\nformat ascii 1.0\n" + b"element vertex 1\n" * 9999, "no PLY header"),
    ("c.pcd", pcd("binary", points=10**12), "claims 1000000000000 points"),
    ("c.pcd", pcd("binary", points=41), "ends before the 41 points"),
    ("c.pcd", pcd("binary", points=0), "claims 0 points"),
    ("c.pcd", pcd("ascii", points=10**6), "more than the file holds"),
    ("c.pcd", pcd("binary_compressed", points=41), "claims 600 bytes for 41 points of 15"),
    ("c.pcd", pcd("binary_compressed")[:-9], "damaged"),
    ("c.pcd", pcd("zipped"), "not ascii, binary or binary_compressed"),
    ("c.pcd", swapped(PLAIN["c.pcd"], b"x y z", b"x y q"), "points have no z"),
    ("c.pcd", swapped(PLAIN["c.pcd"], b"POINTS 40", b"POINTS -1"), "its POINTS is -1"),
    ("c.pcd", swapped(PLAIN["c.pcd"], b"COUNT 3", b"COUNT " + HUGE), "field _ has type"),
    ("c.pcd", b"", "no PCD header"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), HOSTILE)
def test_what_is_false_or_missing_is_named(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(ItemError, match=message) as error:
        read_cloud(_put(tmp_path, name, content), min_points=1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "content"), [*PLAIN.items(), *COLOURED.items()])
def test_a_file_cut_short_never_gives_the_whole_cloud(
    tmp_path: Path, name: str, content: bytes
) -> None:
    for length in range(0, len(content) - 30, max(1, len(content) // 40)):
        with pytest.raises(ItemError):
            read_cloud(_put(tmp_path, name, content[:length]), min_points=40)


def test_a_file_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _put(tmp_path, "c.ply", PLAIN["c.PLY"])
    monkeypatch.setattr("features.clouds.MAX_BYTES", len(PLAIN["c.PLY"]))
    assert len(read_cloud(path, min_points=1)) == 40
    monkeypatch.setattr("features.clouds.MAX_BYTES", len(PLAIN["c.PLY"]) - 1)
    with pytest.raises(ItemError, match="the file is larger than"):
        read_cloud(path, min_points=1)


def test_missing_files_and_folders_are_item_errors(tmp_path: Path) -> None:
    with pytest.raises(ItemError, match="No such file"):
        read_cloud(tmp_path / "none.ply", min_points=1)
    with pytest.raises(ItemError, match="directory"):
        read_cloud(tmp_path, min_points=1)
    with pytest.raises(ItemError, match=r"its suffix is none of \.npz, "):
        read_cloud(_put(tmp_path, "c.las", b"LASF"), min_points=1)


@pytest.mark.parametrize("suffix", CLOUD_SUFFIXES)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damage_of_any_kind_is_an_item_error(
    tmp_path: Path, suffix: str, data: st.DataObject
) -> None:
    files = [c for n, c in [*PLAIN.items(), *COLOURED.items()] if n.lower().endswith(suffix)]
    content = bytearray(data.draw(st.one_of(st.binary(max_size=200), st.sampled_from(files))))
    for _ in range(data.draw(st.integers(0, 3)) if content else 0):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        if not content:
            break
    try:
        cloud = read_cloud(_put(tmp_path, f"c{suffix}", bytes(content)), min_points=1)
    except ItemError:
        return
    assert cloud.shape[1] in (3, 6)
    assert np.isfinite(cloud).all()


def test_every_suffix_is_a_source_of_points() -> None:
    assert ALL_SUFFIXES["points"] == SUFFIXES
    assert set(CLOUD_SUFFIXES) < set(SUFFIXES)


def test_real_clouds_have_their_colours(digits_folder: Path) -> None:
    cloud = read_cloud(digits_folder.parent / "objaverse3" / "BBQ.npz", min_points=10_000)
    with np.load(digits_folder.parent / "objaverse3" / "BBQ.npz") as file:
        np.testing.assert_array_equal(cloud[:, :3], file["xyz"])
        np.testing.assert_array_equal(cloud[:, 3:], file["rgb"])
