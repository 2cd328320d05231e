"""Meshes become points of their surface: by area, always the same, with the mesh's colours."""

from __future__ import annotations

import io
import json
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from features.clouds import read_cloud, read_points
from features.clouds.surface import Surface, sample_surfaces
from features.errors import ItemError, UserError

# Two triangles in the plane z = 2 with areas 1 and 3, left and right of x = 0.
VERTICES = np.array([[-1, 0, 2], [0, 0, 2], [0, 2, 2], [3, 0, 2]], dtype=np.float32)
FACES = np.array([[0, 1, 2], [1, 3, 2]], dtype=np.int32)
SUFFIXES = (".obj", ".off", ".stl", ".glb", ".gltf")
TRIANGLES = (
    b"4 2 0 # counts\n-1 0 2\n0 0 2\n\n# a comment\n0 2 2\n3 0 2\n3 0 1 2\n3 1 3 2 255 0 0\n"
)


def _put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def ply_mesh(encoding: str, *, quad: bool = False, colours: bool = False) -> bytes:
    """The two triangles, or one triangle and a quad beside it, as a PLY file made by hand."""
    vertices = np.concatenate([VERTICES, [[3, -2, 2]]]) if quad else VERTICES
    faces = [[0, 1, 2], [1, 4, 3, 2]] if quad else FACES.tolist()
    head = ["ply", f"format {encoding} 1.0", f"element vertex {len(vertices)}"]
    head += [f"property float {axis}" for axis in "xyz"]
    head += [f"property uchar {name}" for name in ("red", "green", "blue") if colours]
    head += ["element face 2", "property list uchar int vertex_indices", "property uchar flags"]
    content = "\n".join([*head, "end_header", ""]).encode()
    rgb = [255, 0, 51][: 3 * colours]
    if encoding == "ascii":
        rows = [[*vertex.tolist(), *rgb] for vertex in vertices]
        rows += [[len(face), *face, 7] for face in faces]
        return content + "\n".join(" ".join(map(str, row)) for row in rows).encode()
    order = ">" if "big" in encoding else "<"
    for vertex in vertices:
        content += struct.pack(f"{order}3f{len(rgb)}B", *vertex, *rgb)
    for face in faces:
        content += struct.pack(f"{order}B{len(face)}iB", len(face), *face, 7)
    return content


def glb(tree: dict[str, Any], data: bytes) -> bytes:
    head = json.dumps(tree).encode()
    head += b" " * (-len(head) % 4)
    data += b"\0" * (-len(data) % 4)
    chunks = struct.pack("<II", len(head), 0x4E4F534A) + head
    chunks += struct.pack("<II", len(data), 0x004E4942) + data
    return struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks


def tree(**more: Any) -> dict[str, Any]:
    """A glTF scene with the two triangles, whose buffer is faces and then vertices."""
    return {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 1}, "indices": 0}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5125, "count": 6, "type": "SCALAR"},
            {"bufferView": 1, "componentType": 5126, "count": 4, "type": "VEC3"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": 24},
            {"buffer": 0, "byteOffset": 24, "byteLength": 48},
        ],
        "buffers": [{"byteLength": 72}],
        **more,
    }


DATA = FACES.tobytes() + VERTICES.tobytes()


def _check_plane(xyz: Any, *, left: float = 0.25) -> None:
    """The points lie in the two triangles, a share of `left` in the first, uniformly."""
    np.testing.assert_allclose(xyz[:, 2], 2)
    mine = xyz[:, 0] < 0
    assert abs(mine.mean() - left) < 4 * np.sqrt(left * (1 - left) / len(xyz))
    np.testing.assert_allclose(
        xyz[mine].mean(axis=0), VERTICES[FACES[0]].mean(axis=0), atol=2 / np.sqrt(mine.sum())
    )
    assert (xyz[mine, 1] <= 2 * (1 + xyz[mine, 0]) + 1e-5).all()


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_a_ply_with_faces_is_a_surface(tmp_path: Path, encoding: str) -> None:
    xyz = read_cloud(_put(tmp_path, "m.ply", ply_mesh(encoding)), min_points=10_000)
    assert xyz.shape == (10_000, 3)
    _check_plane(xyz)
    assert (xyz[:, 0] + 1.5 * xyz[:, 1] <= 3 + 1e-5).all()
    quad = read_cloud(
        _put(tmp_path, "q.ply", ply_mesh(encoding, quad=True)), min_points=1, surface_points=20_000
    )
    _check_plane(quad, left=1 / 7)
    right = quad[quad[:, 0] >= 0]
    assert abs((right[:, 1] < 0).mean() - 0.5) < 0.02  # 3 of 6 below, where only the quad is
    coloured = read_cloud(_put(tmp_path, "c.ply", ply_mesh(encoding, colours=True)), min_points=1)
    np.testing.assert_allclose(coloured[:, 3:], np.tile([1, 0, 0.2], (10_000, 1)), atol=1e-6)
    np.testing.assert_array_equal(coloured[:, :3], xyz)


def test_a_ply_mesh_must_hold_what_it_claims(tmp_path: Path) -> None:
    good = ply_mesh("binary_little_endian")
    uneven = ply_mesh("binary_little_endian", quad=True)
    for bad, message in [
        (good.replace(b"face 2", b"face 999999999999"), "claims 999999999999 rows"),
        (good[:-1], "ends before|more than"),
        (uneven[:-1], "ends before the 2 rows"),
        (good[:-14] + b"\xff" + good[-13:], "ends before the 2 rows"),
        (good[: good.index(b"end_header") + 11 + 48], "it ends too early"),
        (good.replace(b"vertex_indices", b"other"), "no list vertex_indices"),
        (good[:-5] + b"\x09" + good[-4:], "4 vertices, and a face that names another"),
        (ply_mesh("ascii")[:-2], "ends before the rows"),
    ]:
        with pytest.raises(ItemError, match=message):
            read_cloud(_put(tmp_path, "m.ply", bad), min_points=1)


def test_points_are_by_area_and_always_the_same() -> None:
    surface = Surface(VERTICES[FACES].astype(np.float64))
    cloud = sample_surfaces([surface], 40_000)
    _check_plane(cloud.xyz)
    np.testing.assert_array_equal(cloud.xyz, sample_surfaces([surface], 40_000).xyz)
    apart = [Surface(surface.triangles[:1]), Surface(surface.triangles[1:])]
    np.testing.assert_array_equal(cloud.xyz, sample_surfaces(apart, 40_000).xyz)


@pytest.mark.parametrize(
    ("triangles", "message"),
    [
        (np.zeros((0, 3, 3)), "the mesh has no faces"),
        (np.ones((2, 3, 3)), "no usable area"),
        (np.full((2, 3, 3), np.nan), "2 of 2 triangles have NaN"),
        (np.array([[[0, 0, 0], [1e200, 0, 0], [0, 1e200, 0]]]), "no usable area"),
    ],
)
def test_a_surface_without_area_is_an_item_error(triangles: Any, message: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ItemError, match=message):
            sample_surfaces([Surface(triangles)], 10)


def test_reading_a_mesh_without_trimesh_names_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.extras.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install \"mcr-bridge\[mesh\]\""):
        read_cloud(_put(tmp_path, "m.obj", b"v 0 0 0"), min_points=1)
    path = _put(tmp_path, "m.ply", ply_mesh("ascii"))
    assert len(read_cloud(path, min_points=1)) == 10_000  # PLY needs no trimesh


@pytest.mark.parametrize("start", [b"OFF\n", b"OFF ", b"OFF", b"\n OFF\r\n"])
def test_an_off_file_is_a_surface(tmp_path: Path, start: bytes) -> None:
    xyz = read_cloud(_put(tmp_path, "m.off", start + TRIANGLES), min_points=1)
    assert xyz.shape == (10_000, 3)
    _check_plane(xyz)


def test_an_off_file_has_polygons_and_colours(tmp_path: Path) -> None:
    rows = b"-1 0 2 255 0 51 255\n0 0 2 255 0 51 255\n0 2 2 255 0 51 255\n"
    rows += b"3 0 2 255 0 51 255\n3 -2 2 255 0 51 255\n"
    content = b"COFF\n5 2 0\n" + rows + b"3 0 1 2\n4 1 4 3 2\n"
    cloud = read_cloud(_put(tmp_path, "m.off", content), min_points=1)
    _check_plane(cloud[:, :3], left=1 / 7)
    np.testing.assert_allclose(cloud[:, 3:], np.tile([1, 0, 0.2], (10_000, 1)), atol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not start with the keyword"),
        (b"OFF", "does not start with the keyword"),
        (b"OFF\n", "does not count"),
        (b"OFF\n-3 1 0\n", "does not count"),
        (b"OFF\n999999999999 1 0\n0 0 0\n", "999999999999 vertices and 1 faces, more"),
        (b"OFF\n" + TRIANGLES.replace(b"4 2 0", b"5 2 0"), "columns|5 vertices"),
        (b"OFF\n" + TRIANGLES.replace(b"4 2 0", b"4 3 0"), "ends before the 3 faces"),
        (b"OFF\n" + TRIANGLES.replace(b"3 0 1 2", b"3 0 1"), "breaks one off"),
        (b"OFF\n" + TRIANGLES.replace(b"3 0 1 2", b"3 0 1 9"), "face that names another"),
        (b"OFF\n" + TRIANGLES.replace(b"3 0 1 2", b"3 0 1 -1"), "face that names another"),
        (b"OFF\n" + TRIANGLES.replace(b"4 2 0", b"4 0 0"), "no faces"),
    ],
)
def test_an_off_file_must_hold_what_it_claims(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ItemError, match=message):
        read_cloud(_put(tmp_path, "m.off", content), min_points=1)


# --- through trimesh


@pytest.fixture
def trimesh() -> Any:
    return pytest.importorskip("trimesh")


def _export(trimesh: Any, suffix: str) -> bytes:
    mesh = trimesh.Trimesh(VERTICES, FACES, process=False)
    if suffix == ".gltf":
        import base64

        uri = "data:application/octet-stream;base64," + base64.b64encode(DATA).decode()
        return json.dumps(tree(buffers=[{"byteLength": 72, "uri": uri}])).encode()
    content = mesh.export(file_type=suffix.removeprefix("."))
    return content if isinstance(content, bytes) else content.encode()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_mesh_format_gives_its_surface(trimesh: Any, tmp_path: Path, suffix: str) -> None:
    path = _put(tmp_path, f"m{suffix.upper()}", _export(trimesh, suffix))
    xyz = read_cloud(path, min_points=1)
    assert xyz.shape == (10_000, 3)
    assert xyz.dtype == np.float32
    _check_plane(xyz)
    np.testing.assert_array_equal(xyz, read_cloud(path, min_points=1))
    np.testing.assert_array_equal(xyz, read_points(path, min_points=1))
    assert len(read_cloud(path, min_points=1, surface_points=77)) == 77
    assert len(read_cloud(path, min_points=12_000)) == 12_000


@pytest.mark.usefixtures("trimesh")
def test_meshes_of_a_scene_stand_where_their_nodes_place_them(tmp_path: Path) -> None:
    nodes = [
        {"mesh": 0},
        {"children": [2], "translation": [100, 0, 0]},
        {"mesh": 0, "scale": [3, 3, 3]},
    ]
    scene = tree(nodes=nodes, scenes=[{"nodes": [0, 1]}])
    xyz = read_cloud(_put(tmp_path, "m.glb", glb(scene, DATA)), min_points=1)
    far = xyz[:, 0] > 50
    assert abs(far.mean() - 0.9) < 0.02  # nine times the area
    _check_plane(xyz[~far])
    _check_plane((xyz[far] - [100, 0, 0]) / 3)


@pytest.mark.usefixtures("trimesh")
def test_buffers_are_read_from_the_folder_and_from_nowhere_else(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    _put(inside, "two words.bin", DATA)
    _put(tmp_path, "outside.bin", DATA)
    (inside / "link.bin").symlink_to(tmp_path / "outside.bin")

    def named(uri: str) -> Path:
        content = json.dumps(tree(buffers=[{"byteLength": 72, "uri": uri}])).encode()
        return _put(inside, "m.gltf", content)

    _check_plane(read_cloud(named("two%20words.bin"), min_points=1))
    for uri in [
        "../outside.bin", str(tmp_path / "outside.bin"), "link.bin", "none.bin", ".",
        "http://localhost/two%20words.bin", "%2e%2e/outside.bin", "file:///etc/hostname",
    ]:  # fmt: skip
        with pytest.raises(ItemError, match="not a file in the folder of the mesh"):
            read_cloud(named(uri), min_points=1)


def test_vertex_colours_are_mixed_between_corners(trimesh: Any, tmp_path: Path) -> None:
    rgba = np.array([[0, 0, 0, 255], [0, 0, 0, 255], [0, 0, 0, 255], [255, 0, 51, 255]])
    mesh = trimesh.Trimesh(VERTICES, FACES, vertex_colors=rgba.astype(np.uint8), process=False)
    for suffix in ("glb", "obj"):
        content = mesh.export(file_type=suffix)
        content = content if isinstance(content, bytes) else content.encode()
        cloud = read_cloud(_put(tmp_path, f"m.{suffix}", content), min_points=1)
        share = np.clip(cloud[:, 0] / 3, 0, None)
        np.testing.assert_allclose(cloud[:, 3], share, atol=1.1 / 255)
        np.testing.assert_allclose(cloud[:, 4], 0)
        np.testing.assert_allclose(cloud[:, 5], share / 5, atol=1.1 / 255)


@pytest.mark.usefixtures("trimesh")
def test_textures_and_material_colours(tmp_path: Path) -> None:
    """Left half of the picture red, right half blue; u runs with x from -1 to 3."""
    picture = np.zeros((4, 64, 3), dtype=np.uint8)
    picture[:, :32, 0] = picture[:, 32:, 2] = 255
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    uv = np.stack([(VERTICES[:, 0] + 1) / 4, np.full(4, 0.5)], axis=1).astype(np.float32)
    views = [
        *tree()["bufferViews"],
        {"buffer": 0, "byteOffset": 72, "byteLength": 32},
        {"buffer": 0, "byteOffset": 104, "byteLength": len(file.getvalue())},
    ]
    accessor = {"bufferView": 2, "componentType": 5126, "count": 4, "type": "VEC2"}
    primitive = {
        "attributes": {"POSITION": 1, "TEXCOORD_0": 2}, "indices": 0, "material": 0
    }  # fmt: skip
    scene = tree(
        bufferViews=views,
        accessors=[*tree()["accessors"], accessor],
        meshes=[{"primitives": [primitive]}],
        materials=[{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
        textures=[{"source": 0}],
        images=[{"bufferView": 3, "mimeType": "image/png"}],
        buffers=[{"byteLength": 104 + len(file.getvalue())}],
    )
    data = DATA + uv.tobytes() + file.getvalue()
    cloud = read_cloud(_put(tmp_path, "m.glb", glb(scene, data)), min_points=1)
    edge = abs(cloud[:, 0] - 1) < 0.1
    red = (cloud[:, 0] < 1)[~edge]
    np.testing.assert_array_equal(cloud[~edge, 3], red)
    np.testing.assert_array_equal(cloud[~edge, 5], ~red)
    scene["materials"] = [{"pbrMetallicRoughness": {"baseColorFactor": [1, 0, 0.2, 1]}}]
    cloud = read_cloud(_put(tmp_path, "m.glb", glb(scene, data)), min_points=1)
    np.testing.assert_allclose(cloud[:, 3:], np.tile([1, 0, 0.2], (10_000, 1)), atol=1e-6)
    scene["materials"] = [{"name": "says nothing"}]
    path = _put(tmp_path, "m.glb", glb(scene, data))
    assert read_cloud(path, min_points=1).shape == (10_000, 3)


@pytest.mark.usefixtures("trimesh")
def test_an_obj_finds_its_material_beside_it_or_does_without(tmp_path: Path) -> None:
    rows = [f"v {x} {y} {z}" for x, y, z in VERTICES.tolist()]
    text = "\n".join(["mtllib m.mtl", *rows, "usemtl paint", "f 1 2 3", "f 2 4 3"])
    path = _put(tmp_path, "m.obj", text.encode())
    assert read_cloud(path, min_points=1).shape == (10_000, 3)
    _put(tmp_path, "m.mtl", b"newmtl paint\nKd 1.0 0.0 0.2\n")
    cloud = read_cloud(path, min_points=1)
    np.testing.assert_allclose(cloud[:, 3:], np.tile([1, 0, 0.2], (10_000, 1)), atol=1e-6)


@pytest.mark.usefixtures("trimesh")
def test_vertices_without_faces_are_a_cloud(tmp_path: Path) -> None:
    rows = "\n".join(f"v {x} {y} {z}" for x, y, z in VERTICES.tolist())
    xyz = read_cloud(_put(tmp_path, "m.obj", rows.encode()), min_points=4)
    np.testing.assert_array_equal(xyz[:, :3], VERTICES)


def test_what_trimesh_writes_is_read_as_trimesh_has_it(trimesh: Any, tmp_path: Path) -> None:
    mesh = trimesh.creation.icosphere(subdivisions=2)
    expected = sample_surfaces([Surface(np.asarray(mesh.triangles))], 10_000).xyz
    for name, options in [
        ("m.ply", {}), ("t.ply", {"encoding": "ascii"}), ("m.off", {}), ("m.stl", {}), ("m.glb", {})
    ]:  # fmt: skip
        mesh.export(tmp_path / name, **options)
        xyz = read_points(tmp_path / name, min_points=1)
        np.testing.assert_allclose(xyz, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, atol=0.05)
    rgba = np.random.default_rng(0).integers(0, 256, (len(mesh.vertices), 4), dtype=np.uint8)
    for name, options in [("c.ply", {}), ("ct.ply", {"encoding": "ascii"})]:
        trimesh.PointCloud(mesh.vertices, rgba).export(tmp_path / name, **options)
        cloud = read_cloud(tmp_path / name, min_points=1)
        np.testing.assert_allclose(cloud[:, :3], mesh.vertices, atol=1e-6)
        np.testing.assert_allclose(cloud[:, 3:], rgba[:, :3] / 255, atol=1e-6)


def _nested(depth: int) -> dict[str, Any]:
    nodes: list[dict[str, Any]] = [{"children": [i + 1]} for i in range(depth)]
    return tree(nodes=[*nodes, {"mesh": 0}])


@pytest.mark.parametrize(
    ("scene", "message"),
    [
        (tree(accessors=[{"componentType": 5126, "count": 10**12, "type": "VEC3"}]), "accessors"),
        (tree(accessors=[{"componentType": 5126, "count": 10**6, "type": "VEC3"}]), "accessors"),
        (tree(nodes=[{"mesh": 0}] * 9, scenes=[{"nodes": [9]}]), "IndexError"),
        (tree(nodes=[{"mesh": 0}] * 100_001, scenes=[{"nodes": list(range(100_001))}]), "places"),
        (_nested(5000), "nested more than 256 deep"),
        (tree(nodes=[{"children": [0]}]), "nested more than 256 deep"),
        (tree(nodes=[]), "IndexError"),
        (tree(meshes=[]), "IndexError"),
        (tree(meshes=7), "TypeError"),
        (tree(extensionsRequired=["KHR_draco_mesh_compression"], meshes=[]), "DracoPy|IndexError"),
        (tree(accessors=[]), "IndexError"),
    ],
)
@pytest.mark.usefixtures("trimesh")
def test_a_scene_may_not_claim_more_than_it_holds(
    tmp_path: Path, scene: dict[str, Any], message: str
) -> None:
    with pytest.raises(ItemError, match=message):
        read_cloud(_put(tmp_path, "m.glb", glb(scene, DATA)), min_points=1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.stl", b"\0" * 80 + b"\xff" * 4, "no faces"),
        ("m.stl", b"\0" * 84, "no faces"),
        ("m.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "mesh"),
        ("m.glb", b"glTF" + b"\xff" * 16, "no glTF header"),
        ("m.glb", b"glTF" + b"\xff" * 9, "no glTF header"),
        ("m.gltf", b"[" * 100_000, "mesh"),
        ("m.gltf", b"[]", "AttributeError"),
    ],
)
@pytest.mark.usefixtures("trimesh")
def test_damaged_meshes_say_why(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(ItemError, match=message) as error:
        read_cloud(_put(tmp_path, name, content), min_points=1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".ply", *SUFFIXES])
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damage_of_any_kind_is_an_item_error(
    trimesh: Any, tmp_path: Path, suffix: str, data: st.DataObject
) -> None:
    good = ply_mesh("binary_little_endian") if suffix == ".ply" else _export(trimesh, suffix)
    content = bytearray(data.draw(st.one_of(st.binary(max_size=200), st.just(good))))
    for _ in range(data.draw(st.integers(0, 3)) if content else 0):
        place = data.draw(st.integers(0, max(0, len(content) - 1)))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    try:
        cloud = read_cloud(_put(tmp_path, f"m{suffix}", bytes(content)), min_points=1)
    except ItemError:
        return
    assert cloud.shape[1] in (3, 6)
    assert np.isfinite(cloud).all()
