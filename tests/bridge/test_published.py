"""The published projectors of C-MCR and Ex-MCR, against the authors' layers by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bridge
from bridge.artefact import Bridge
from bridge.card import model_card
from bridge.published import import_published
from features.errors import UserError
from features.memories.writing import save_memory

ORACLE = Path(__file__).parents[3] / "shared" / "oracles" / "cmcr_ulip_clip"


class Mlp(nn.Module):
    """The authors' two layers, `net1` and `net2`."""

    def __init__(self) -> None:
        super().__init__()
        self.net1 = nn.Sequential(nn.Linear(512, 1024), nn.BatchNorm1d(1024), nn.ReLU())
        self.net2 = nn.Sequential(nn.Linear(1024, 512), nn.BatchNorm1d(512))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.net2(self.net1(x))
        return result


class Half(nn.Module):
    """The authors' one layer, `net`."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.net(x)
        return result


def _heads(seed: int, **heads: nn.Module) -> nn.Module:
    """Random heads whose BatchNorm has seen data, ready to answer."""
    module = nn.Module()
    generator = torch.Generator().manual_seed(seed)
    for name, head in heads.items():
        setattr(module, name, head)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            values = torch.randn(tensor.shape, generator=generator) * 0.05
            tensor.copy_(values.abs() + 0.5 if name.endswith("running_var") else values)
    return module.eval()


def _exmcr(seed: int) -> nn.Module:
    head2 = nn.Module()
    head2.mlp1, head2.mlp2 = Mlp(), Mlp()
    return _heads(seed, Head1=nn.Linear(512, 512), Head2=head2)


@pytest.fixture
def rows() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return F.normalize(torch.randn(6, 512, generator=generator), dim=-1)


def _saved(module: nn.Module, path: Path) -> Path:
    torch.save(module.state_dict(), path)
    return path


def _through_disk(made: Bridge, tmp_path: Path) -> Bridge:
    made.save(tmp_path / "bridge")
    return bridge.load(tmp_path / "bridge", device="cpu")


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "first", "second"), [(Mlp, "clap", "clip"), (Half, "clip", "ulip")]
)
def test_each_head_lands_on_its_own_space(
    rows: Tensor, tmp_path: Path, kind: type[nn.Module], first: str, second: str
):
    heads = _heads(0, Head_A=kind(), Head_B=kind())
    made = _through_disk(import_published([_saved(heads, tmp_path / "x.pt")], name="x"), tmp_path)
    for head, space in ((heads.Head_A, first), (heads.Head_B, second)):
        by_hand = F.normalize(head(rows), dim=-1)
        torch.testing.assert_close(made.project(rows, space), by_hand, atol=1e-6, rtol=0)
    assert (made.project(rows, first) - made.project(rows, second)).abs().max() > 0.01
    assert {name: space.modalities for name, space in made.spaces.items()} == {
        "clip": ("image", "text"),
        (first if second == "clip" else second): ("audio",) if kind is Mlp else ("points",),
    }


def test_the_published_projectors_answer_as_the_authors_code_does(tmp_path: Path):
    if not ORACLE.exists():
        pytest.skip(f"the oracle is missing: {ORACLE}")
    made = _through_disk(import_published([ORACLE / "ulip_clip.pt"], name="ulip-clip"), tmp_path)
    oracle = np.load(ORACLE / "oracle.npz")
    rows = torch.from_numpy(oracle["x"])
    for space, answer in (("clip", "head_a_clip_norm"), ("ulip", "head_b_ulip_norm")):
        found = made.project(rows, space)
        torch.testing.assert_close(found, torch.from_numpy(oracle[answer]), atol=1e-5, rtol=0)


@torch.no_grad()
def test_exmcr_projects_every_space_into_clips_own(rows: Tensor, tmp_path: Path):
    clap, ulip = _exmcr(1), _exmcr(2)
    paths = [_saved(clap, tmp_path / "ex_clap.pt"), _saved(ulip, tmp_path / "ex_ulip.pt")]
    made = _through_disk(import_published(paths, name="ex"), tmp_path)
    assert list(made.spaces) == ["clip", "clap", "ulip"]
    torch.testing.assert_close(made.project(rows, "clip"), rows, atol=1e-6, rtol=0)
    for head, space in ((clap, "clap"), (ulip, "ulip")):
        by_hand = F.normalize(head.Head2.mlp2(head.Head2.mlp1(head.Head1(rows))), dim=-1)
        torch.testing.assert_close(made.project(rows, space), by_hand, atol=1e-6, rtol=0)
    assert made.spaces_of("points")[0].name == "ulip"
    assert "Ex-MCR's published ex_clap.pt and ex_ulip.pt" in model_card(made)
    swapped = import_published(paths, name="ex", spaces=["ulip", "clap"])
    assert torch.equal(swapped.project(rows, "ulip"), made.project(rows, "clap"))


def test_a_converted_bridge_projects_memories_of_other_origin(rows: Tensor, tmp_path: Path):
    made = import_published([_saved(_heads(0, Head_A=Mlp(), Head_B=Mlp()), tmp_path / "x.pt")],
                            name="x")  # fmt: skip
    memory = save_memory(
        tmp_path / "m.h5", rows.numpy(), list("abcdef"), space="clap", modality="audio"
    )
    projected = bridge.project_memory(made, memory, tmp_path / "p.h5")
    torch.testing.assert_close(projected.tensor(), made.project(rows, "clap"), atol=1e-6, rtol=0)


def test_mistakes_are_named(tmp_path: Path):
    cmcr = _saved(_heads(0, Head_A=Mlp(), Head_B=Mlp()), tmp_path / "clap_clip.pt")
    other = _saved(nn.Linear(2, 2), tmp_path / "other.pt")
    extra = tmp_path / "ex_both.pt"
    _saved(_exmcr(0), extra)
    lacking = tmp_path / "lacking.pt"
    state = torch.load(cmcr, weights_only=True)
    torch.save({k: v for k, v in state.items() if "running_mean" not in k}, lacking)
    for paths, options, message in (
        ([other], {}, "holds no projectors of C-MCR .* but 2 tensors such as weight: give clap_c"),
        ([cmcr, cmcr], {}, "2 checkpoints were given: give one of C-MCR"),
        ([cmcr], {"spaces": ["clap"]}, "which says its spaces itself"),
        ([extra], {}, "say which it is with --space clap or --space ulip"),
        ([extra], {"spaces": ["clip"]}, "name one of clap and ulip for each"),
        ([extra, extra], {"spaces": ["clap", "clap"]}, "name one of clap and ulip for each"),
        ([lacking], {}, "2 missing .such as layers.1.running_mean"),
        ([cmcr], {"encoders": {"ulip": {}}}, "joins clap and clip, not ulip"),
    ):
        with pytest.raises(UserError, match=message):
            import_published(paths, name="x", **options)
