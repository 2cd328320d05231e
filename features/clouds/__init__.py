"""Point clouds and meshes from files, without torch.

A cloud has coordinates in the file's own units and, where the file has them, colours. The
surface of a mesh becomes points drawn from a fixed generator. Files are not trusted: nothing is
unpickled, nothing outside a file's folder is read, no more is allocated than a file can fill.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from features.clouds.arrays import read_arrays
from features.clouds.cloud import MAX_BYTES, Cloud, unit_colours
from features.clouds.meshes import MESH_SUFFIXES, read_mesh
from features.clouds.off import read_off
from features.clouds.pcd import read_pcd
from features.clouds.ply import read_ply
from features.clouds.text import read_lines
from features.errors import ItemError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SURFACE_POINTS = 10_000  # as many as ULIP-2 takes of an object

_CLOUDS: dict[str, Callable[[bytes], Cloud]] = {
    ".npz": read_arrays,
    ".npy": read_arrays,
    ".xyz": read_lines,
    ".pts": read_lines,
    ".pcd": read_pcd,
}
_SURFACES: dict[str, Callable[[bytes, int], Cloud]] = {".ply": read_ply, ".off": read_off}
SUFFIXES = (*_CLOUDS, *_SURFACES, *MESH_SUFFIXES)

# What damaged bytes make numpy, zipfile and our own readers raise.
_DAMAGE = (
    OSError, ValueError, EOFError, LookupError, TypeError, RuntimeError, OverflowError, MemoryError,
    BadZipFile, zlib.error, lzma.LZMAError,
)  # fmt: skip


def read_cloud(
    path: Path, *, min_points: int, surface_points: int = SURFACE_POINTS
) -> NDArray[np.float32]:
    """A point cloud as the file has it: (n, 3), or (n, 6) where it has colours, n >= min_points.

    Columns: x, y, z in the file's units, then red, green, blue in [0, 1].
    surface_points: how many points the surface of a mesh becomes, if min_points is not more; a
    mesh is an .off, .obj, .stl, .glb or .gltf file, or a .ply file with faces.
    Raises ItemError if the file cannot be read, or its points are too few or not finite, and
    UserError if its format needs trimesh, which is missing.
    """
    cloud = _load(path, max(surface_points, min_points))
    xyz = _checked(cloud.xyz, min_points)
    if cloud.rgb is None:
        return xyz
    if cloud.rgb.ndim != 2 or cloud.rgb.shape[0] != len(xyz) or cloud.rgb.shape[1] not in (3, 4):
        raise ItemError(f"the colours are {cloud.rgb.shape}, the points {xyz.shape}")
    return np.concatenate([xyz, unit_colours(cloud.rgb[:, :3])], axis=1)


def read_points(path: Path, *, min_points: int) -> NDArray[np.float32]:
    """The coordinates (n, 3) of `read_cloud`. Raises ItemError."""
    return _checked(_load(path, max(SURFACE_POINTS, min_points)).xyz, min_points)


def _load(path: Path, surface_points: int) -> Cloud:
    try:
        content = _content(path)
        suffix = path.suffix.lower()
        if suffix in MESH_SUFFIXES:
            return read_mesh(content, path, surface_points)
        if suffix in _SURFACES:
            return _SURFACES[suffix](content, surface_points)
        if suffix not in _CLOUDS:
            raise ValueError(f"its suffix is none of {', '.join(SUFFIXES)}")
        return _CLOUDS[suffix](content)
    except struct.error as error:
        raise ItemError("cannot be read as a point cloud (it ends too early)") from error
    except _DAMAGE as error:
        raise ItemError(f"cannot be read as a point cloud ({_oneline(error)})") from error


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"the file is larger than {MAX_BYTES} bytes")
    return content


def _checked(xyz: NDArray[Any], min_points: int) -> NDArray[np.float32]:
    if xyz.ndim != 2 or xyz.shape[1] < 3:
        raise ItemError(f"a point cloud is an array (n, 3), this one is {xyz.shape}")
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused as such
        xyz = np.ascontiguousarray(xyz[:, :3], dtype=np.float32)
    if not np.isfinite(xyz).all():
        bad = int((~np.isfinite(xyz).all(axis=1)).sum())
        raise ItemError(f"{bad} of {len(xyz)} points are NaN or infinite")
    if len(xyz) < min_points:
        raise ItemError(f"the point cloud has {len(xyz)} points, needs at least {min_points}")
    return xyz


def _oneline(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
