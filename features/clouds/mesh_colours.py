"""The colours of a mesh that trimesh has read.

The base texture counts first, then the colours of the vertices or faces, then the one colour of
the material; they are not multiplied, and light and other textures are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from features.clouds.cloud import unit_colours
from features.clouds.surface import Colours, corner_colours, corners

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GREY = (102, 102, 102)  # what trimesh gives to a material that names no colour


def surface_colours(mesh: Any) -> Colours | None:
    """The colours of a trimesh.Trimesh, None where it has none."""
    visual = mesh.visual
    if visual.kind == "texture":
        return _textured(mesh, visual)
    if visual.kind == "vertex":
        return corner_colours(corners(visual.vertex_colors[:, :3], mesh.faces))
    if visual.kind == "face":
        of_faces = np.asarray(visual.face_colors, dtype=np.uint8)[:, :3]
        return lambda chosen, weights: of_faces[chosen]  # noqa: ARG005
    return None


def _textured(mesh: Any, visual: Any) -> Colours | None:
    material = visual.material
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if image is not None and visual.uv is not None:
        uv = corners(np.asarray(visual.uv), mesh.faces)

        def looked_up(chosen: NDArray[np.intp], weights: NDArray[np.float64]) -> NDArray[np.uint8]:
            at = np.einsum("nk,nkd->nd", weights, uv[chosen])
            return np.asarray(material.to_color(at), dtype=np.uint8)[:, :3]

        return looked_up
    of_vertices = visual.vertex_attributes.get("color")
    if of_vertices is not None:
        rgb = unit_colours(np.asarray(of_vertices)[:, :3]) * 255
        return corner_colours(corners(rgb, mesh.faces))
    one = getattr(material, "baseColorFactor", getattr(material, "diffuse", None))
    if one is None or tuple(one[:3]) == _GREY:
        return None
    everywhere = np.asarray(one, dtype=np.uint8)[:3]
    return lambda chosen, weights: np.tile(everywhere, (len(chosen), 1))  # noqa: ARG005
