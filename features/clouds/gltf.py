"""What a glTF file claims about its size, checked before its loader allocates it.

Specification: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html.
"""

from __future__ import annotations

import json
import struct
from collections import Counter

from features.clouds.cloud import MAX_BYTES
from features.extras import installed

_MAGIC = b"glTF"
_JSON = 0x4E4F534A
_HEADER = 20  # bytes: magic, version, length, then the first chunk's length and kind
_MOST_NUMBERS = MAX_BYTES // 8
_MOST_EMPTY = 100  # items for each byte of the file; compressed meshes have some that hold no data
_MOST_INSTANCES = 100_000
_DEEPEST = 256
# Compressions of geometry -> the package that trimesh undoes them with; else it gives zeros.
_COMPRESSED = {"KHR_draco_mesh_compression": "DracoPy"}


def check_gltf(content: bytes) -> None:
    """Raises ValueError if it claims more than it may, and others if it is not glTF.

    Accessors without data are zeros that cost a file nothing, and one mesh may be the mesh of
    many nodes: together they could claim any amount of memory.
    """
    tree = json.loads(_tree(content))
    numbers = empty = 0
    for accessor in tree.get("accessors", []):
        numbers += max(accessor["count"], 0)
        empty += 0 if "bufferView" in accessor else max(accessor["count"], 0)
    if numbers > _MOST_NUMBERS or empty > _MOST_EMPTY * len(content):
        raise ValueError(f"its accessors claim {numbers} items, more than it may hold")
    for extension in tree.get("extensionsRequired", []):
        if extension in _COMPRESSED and not installed(_COMPRESSED[extension]):
            raise ValueError(f"it is compressed: {extension} needs {_COMPRESSED[extension]}")
    nodes = tree.get("nodes", [])
    meshes = [len(mesh["primitives"]) for mesh in tree.get("meshes", [])]
    level = {root for scene in tree.get("scenes", []) for root in scene.get("nodes", [])}
    edges = Counter(child for node in nodes for child in node.get("children", [])) + Counter(level)
    placed = sum(edges[i] * meshes[node["mesh"]] for i, node in enumerate(nodes) if "mesh" in node)
    if placed > _MOST_INSTANCES:
        raise ValueError(f"it places {placed} meshes, more than {_MOST_INSTANCES}")
    for _ in range(_DEEPEST):
        level = {child for node in level for child in nodes[node].get("children", [])}
    if level:
        raise ValueError(f"its nodes are nested more than {_DEEPEST} deep")


def _tree(content: bytes) -> bytes:
    """The JSON of a .gltf file, or of the first chunk of a .glb file."""
    if not content.startswith(_MAGIC):
        return content
    if len(content) < _HEADER:
        raise ValueError("it has no glTF header")
    _, _, length, kind = struct.unpack_from("<IIII", content, len(_MAGIC))
    if kind != _JSON or length > len(content) - _HEADER:
        raise ValueError("it has no glTF header")
    return content[_HEADER : _HEADER + length]
