"""Groups of neighbouring points around centres that lie far from each other (PointBERT).

Axes: b clouds, n points of c numbers (coordinates first), g groups of k points.
Squared distances are sums of exact differences in float32, whatever the network's precision:
ULIP expands them for the neighbours, which loses small distances far from the origin; on its own
inputs the neighbours are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int


def group_points(
    clouds: Float[Tensor, "b n c"], groups: int, size: int
) -> tuple[Float[Tensor, "b g k c"], Float[Tensor, "b g 3"]]:
    """The points of every group, coordinates relative to their centre, and the centres.

    Their order in a group is arbitrary. Colours, if any, are as in the cloud.
    """
    xyz = clouds[..., :3]
    cloud = torch.arange(len(clouds), device=clouds.device)
    centres = xyz[cloud[:, None], farthest_points(xyz, groups)]
    rows = nearest_points(xyz, centres, size)
    members = clouds[cloud[:, None, None], rows]
    relative = members[..., :3] - centres[:, :, None]
    return torch.cat([relative, members[..., 3:]], dim=-1), centres


def farthest_points(xyz: Float[Tensor, "b n 3"], count: int) -> Int[Tensor, "b g"]:
    """Rows of `count` points: row 0, then always the farthest from those chosen so far.

    Of equally far points the first is taken. The published CUDA kernel also never takes points
    within 0.03 of the origin.
    """
    axes = xyz.float().transpose(1, 2).contiguous()
    distance = axes.new_full((len(xyz), xyz.shape[1]), torch.inf)
    chosen = torch.zeros(len(xyz), count, dtype=torch.long, device=xyz.device)
    for step in range(1, count):
        last = chosen[:, step - 1].view(-1, 1, 1).expand(-1, 3, 1)
        torch.minimum(distance, (axes - axes.gather(2, last)).square().sum(dim=1), out=distance)
        torch.argmax(distance, dim=1, out=chosen[:, step])
    return chosen


def nearest_points(
    xyz: Float[Tensor, "b n 3"], centres: Float[Tensor, "b g 3"], count: int
) -> Int[Tensor, "b g k"]:
    """Rows of the `count` points nearest to each centre, in no order."""
    found = []
    for points, middles in zip(xyz.float(), centres.float(), strict=True):  # bounds the memory
        distance = (middles[:, 0, None] - points[:, 0]).square()
        for axis in (1, 2):
            distance += (middles[:, axis, None] - points[:, axis]).square()
        found.append(distance.topk(count, dim=1, largest=False, sorted=False).indices)
    return torch.stack(found)
