"""Point clouds and meshes."""

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np

from features.clouds import read_cloud
from features.errors import ItemError, UserError
from tests.fuzz.readers.exchange import npy, npz
from tests.fuzz.target import Target

XYZ = np.arange(12, dtype=np.float32).reshape(4, 3) / 12
RGB = np.arange(12, dtype=np.uint8).reshape(4, 3)
_FACES = np.array([[0, 1, 2], [1, 2, 3]], np.uint16)

_read = partial(read_cloud, min_points=1, surface_points=16)


def _target(
    name: str, suffix: str, *seeds: bytes, form: str = "bytes", weight: float = 1
) -> Target:
    return Target(
        f"cloud-{name}", f"a{suffix}", _read, lambda _: seeds, form=form, weight=weight,
        allowed=(ItemError, UserError),
    )  # fmt: skip


def _ply(encoding: str, data: bytes, faces: int = 0) -> bytes:
    lines = [f"ply\nformat {encoding} 1.0\nelement vertex 4"]
    lines += [f"property float {axis}" for axis in "xyz"]
    if faces:
        lines += [f"element face {faces}", "property list uchar int vertex_indices"]
    return "\n".join([*lines, "end_header\n"]).encode() + data


def _text(rows: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.savetxt(out, rows, "%g")
    return out.getvalue()


def _polygons(order: str) -> bytes:
    return struct.pack(f"{order}B3iB4i", 3, 0, 1, 2, 4, 0, 1, 2, 3)


def _pcd(data: str, content: bytes, rows: int = 4) -> bytes:
    return (
        "VERSION .7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\nCOUNT 1 1 1 1\n"
        f"WIDTH {rows}\nHEIGHT 1\nPOINTS {rows}\nDATA {data}\n"
    ).encode() + content


def _compressed() -> bytes:
    raw = XYZ.T.tobytes() + np.arange(4, dtype="<u4").tobytes()
    parts = [raw[start : start + 32] for start in range(0, len(raw), 32)]
    runs = b"".join(bytes([len(part) - 1]) + part for part in parts)
    return struct.pack("<II", len(runs), len(raw)) + runs


def gltf(uri: str | None = None) -> dict[str, object]:
    """A glTF file of two triangles; `uri` of its buffer."""
    data = XYZ.tobytes() + _FACES.tobytes()
    if uri is None:
        uri = "data:application/octet-stream;base64," + base64.b64encode(data).decode()
    views = [{"buffer": 0, "byteOffset": 0, "byteLength": 48},
             {"buffer": 0, "byteOffset": 48, "byteLength": 12}]  # fmt: skip
    return {
        "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "children": [1]}, {"mesh": 0, "translation": [1, 0, 0]}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1, "material": 0}]}],
        "materials": [{"pbrMetallicRoughness": {"baseColorFactor": [1, 0, 0, 1]}}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5123, "count": 6, "type": "SCALAR"},
        ],
        "bufferViews": views, "buffers": [{"uri": uri, "byteLength": len(data)}],
    }  # fmt: skip


def _glb() -> bytes:
    tree = gltf()
    data = XYZ.tobytes() + _FACES.tobytes()
    tree["buffers"] = [{"byteLength": len(data)}]
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    chunks += struct.pack("<II", len(data), 0x004E4942) + data
    return b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks


def _stl() -> bytes:
    triangle = np.zeros(12, "<f4")
    triangle[3:] = XYZ[:3].reshape(-1)
    return bytes(80) + struct.pack("<I", 1) + triangle.tobytes() + bytes(2)


_TEXT_STL = b"""solid a
facet normal 0 0 1
outer loop
vertex 0 0 0
vertex 1 0 0
vertex 0 1 0
endloop
endfacet
endsolid a
"""
_OBJ = b"""mtllib a.mtl
v 0 0 0
v 1 0 0 1 0 0
v 0 1 0
v 1 1 0
vt 0 0
vn 0 0 1
usemtl red
f 1/1/1 2/1/1 3/1/1
f -1 -2 -3 -4
"""
_OFF = b"OFF\n4 2 0\n0 0 0\n1 0 0\n0 1 0\n1 1 0\n3 0 1 2\n4 0 1 2 3\n"


def _write_materials(folder: Path) -> None:
    (folder / "a.mtl").write_text("newmtl red\nKd 1 0 0\n")


_COFF = _OFF.replace(b"OFF", b"COFF").replace(b"0 0 0", b"0 0 0 255 0 0")
_COFF = _COFF.replace(b"1 0 0\n", b"1 0 0 0 9 0\n").replace(b"0 1 0\n", b"0 1 0 0 0 9\n")
_COFF = _COFF.replace(b"1 1 0\n", b"1 1 0 9 9 9\n")
_COLOURED = np.c_[XYZ, RGB]
_MATERIALS: Callable[[Path], None] = _write_materials


def _obj_seeds(_: Path) -> Iterable[bytes]:
    return [_OBJ]


TARGETS = (
    _target("npy", ".npy", npy(XYZ), npy(_COLOURED), form="npy", weight=2),
    _target("npz", ".npz", npz(xyz=XYZ, rgb=RGB), npz(a=XYZ), form="archive", weight=2),
    _target("xyz", ".xyz", _text(XYZ), _text(_COLOURED), form="text"),
    _target("pts", ".pts", b"4\n" + _text(np.c_[XYZ, XYZ[:, :1], RGB]), form="text"),
    _target(
        "pcd", ".pcd",
        _pcd("ascii", _text(np.c_[XYZ, RGB[:, :1]])),
        _pcd("binary", np.c_[XYZ, XYZ[:, :1]].tobytes()),
        _pcd("binary_compressed", _compressed()), weight=3,
    ),
    _target(
        "ply", ".ply",
        _ply("ascii", _text(XYZ)),
        _ply("ascii", _text(XYZ) + b"3 0 1 2\n4 0 1 2 3\n", 2),
        _ply("binary_little_endian", XYZ.tobytes() + _polygons("<"), 2),
        _ply("binary_big_endian", XYZ.byteswap().tobytes() + _polygons(">"), 2), weight=3,
    ),
    _target("off", ".off", _OFF, _COFF, form="text", weight=2),
    Target(
        "cloud-obj", "a.obj", _read, _obj_seeds, _MATERIALS, "text", (ItemError, UserError),
    ),
    _target("stl", ".stl", _stl(), _TEXT_STL),
    _target("glb", ".glb", _glb()),
    _target("gltf", ".gltf", json.dumps(gltf()).encode(), form="json"),
)  # fmt: skip
