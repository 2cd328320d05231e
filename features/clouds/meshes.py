"""Points on the surface of a mesh file: .obj, .stl, .glb and .gltf, read by trimesh.

A scene is one surface: every mesh where its nodes place it. A file may name others (buffers,
materials, textures): they are read from its own folder or below it, and from nowhere else.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np

from features.clouds.cloud import MAX_BYTES, Cloud
from features.clouds.gltf import check_gltf
from features.clouds.mesh_colours import surface_colours
from features.clouds.surface import Surface, corners, sample_surfaces
from features.errors import ItemError
from features.extras import require_package

if TYPE_CHECKING:
    from numpy.typing import NDArray

MESH_SUFFIXES = (".obj", ".stl", ".glb", ".gltf")
_MOST_TRIANGLES = MAX_BYTES // 72  # of nine float64 each


def read_mesh(content: bytes, path: Path, surface_points: int) -> Cloud:
    """`surface_points` points of the surface of a mesh file's bytes; `path` says where it lies.

    A file of vertices without faces is a cloud of them. Raises ItemError, or UserError without
    trimesh.
    """
    trimesh = require_package("trimesh", f"reading {path.suffix} meshes")
    try:
        geometries = _geometries(trimesh, content, path)
        if geometries and not any(hasattr(one, "faces") for one, _ in geometries):
            return _vertices(geometries)
        meshes = [(one, matrix) for one, matrix in geometries if hasattr(one, "faces")]
        if sum(len(mesh.faces) for mesh, _ in meshes) > _MOST_TRIANGLES:
            raise ItemError(f"the scene has more than {_MOST_TRIANGLES} triangles")
        surfaces = [
            Surface(corners(_moved(mesh.vertices, matrix), mesh.faces), surface_colours(mesh))
            for mesh, matrix in meshes
        ]
        return sample_surfaces(surfaces, surface_points)
    except ItemError:
        raise
    except Exception as error:
        # Damaged bytes make trimesh raise anything at all, AttributeError and assertions too.
        reason = " ".join(str(error).split())
        raise ItemError(
            f"cannot be read as a mesh ({type(error).__name__}{': ' * bool(reason)}{reason})"
        ) from error


def _geometries(trimesh: Any, content: bytes, path: Path) -> list[tuple[Any, NDArray[Any]]]:
    """Every geometry of a file with the (4, 4) transform of each place where it stands."""
    kind = path.suffix.lower().removeprefix(".")
    if kind in ("glb", "gltf"):
        check_gltf(content)
    scene = trimesh.load(
        BytesIO(content),
        file_type=kind,
        resolver=_Folder(path.parent),
        force="scene",
        process=False,  # merged vertices would change nothing but the time
    )
    found = []
    for node in scene.graph.nodes_geometry:
        matrix, name = scene.graph[node]
        geometry = scene.geometry[name]
        if hasattr(geometry, "vertices") and not hasattr(geometry, "entities"):  # no drawing
            found.append((geometry, np.asarray(matrix, dtype=np.float64)))
    return found


def _vertices(geometries: list[tuple[Any, NDArray[Any]]]) -> Cloud:
    """The vertices of all geometries, with colours if all have them."""
    xyz = np.concatenate([_moved(one.vertices, matrix) for one, matrix in geometries])
    colours = [np.asarray(getattr(one, "colors", ())) for one, _ in geometries]
    if all(
        rgb.shape == (len(one.vertices), 4)
        for rgb, (one, _) in zip(colours, geometries, strict=True)
    ):
        return Cloud(xyz, np.concatenate(colours)[:, :3])
    return Cloud(xyz)


class _Folder:
    """The files beside a mesh, as trimesh asks for them, and no others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.left = MAX_BYTES

    def get(self, name: str) -> bytes:
        """The bytes of the file called `name`. Raises OSError."""
        for one in (name.strip(), unquote(name.strip())):
            path = (self.folder / one).resolve()  # links too must not lead out of the folder
            if path.is_relative_to(self.folder) and path.is_file():
                self.left -= path.stat().st_size
                if self.left < 0:
                    raise OSError(f"the files that it names have more than {MAX_BYTES} bytes")
                return path.read_bytes()
        raise FileNotFoundError(f"{name} is not a file in the folder of the mesh")

    __getitem__ = get


def _moved(vertices: Any, matrix: NDArray[Any]) -> NDArray[np.float64]:
    """Vertices (n, 3) under a (4, 4) transform."""
    return np.asarray(np.asarray(vertices) @ matrix[:3, :3].T + matrix[:3, 3], dtype=np.float64)
