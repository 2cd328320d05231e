"""`python -m docs.tools.pictures DEMO` draws docs/concepts/*.svg from a finished `mcr demo`.

Ink is `currentColor`, and the files ask which colours their page prefers: so a picture is legible
on light and dark pages, in the repository and on the site.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import bridge
from bridge.metrics.spaces import modality_gap
from bridge.pictures.palette import TRANSPARENT
from bridge.training.noise import add_noise
from docs.tools.links import DOCS
from features.memories.memory import Memory
from features.space import Modality, modality_named

OUT = DOCS / "concepts"
INK, FAINT = "#010101", "#020202"  # stand for the page's text, in full and pale
STYLE = """<style>
svg { color: #1f2328; text-rendering: geometricPrecision }
@media (prefers-color-scheme: dark) { svg { color: #e6e8ee } }
</style>"""
SHOWN = 200  # points of a modality
JOINED = 12  # of them, across modalities
SHARED = "the shared space"
NUMBER = "371"  # whose sentence is looked at
TEMPERATURE, VARIANCE = 0.01, 0.004  # C-MCR's


def main(demo: Path, out: Path = OUT) -> None:
    """Draw every picture."""
    out.mkdir(parents=True, exist_ok=True)
    with _style():
        for name, draw in PICTURES.items():
            (out / f"{name}.svg").write_text(svg(draw(demo)), encoding="utf-8")


def gap(demo: Path) -> Any:
    """Modalities in each frozen space by itself, and in the shared one, where numbers meet."""
    made = bridge.load(demo / "bridges" / "audio-image", device="cpu")
    spaces = {
        "mini-clip": ["text-mini-clip-train", "image-mini-clip-train"],
        "mini-clap": ["text-mini-clap-train", "audio-mini-clap-train"],
    }
    frozen = {space: _by_modality(demo, names) for space, names in spaces.items()}
    shared = {
        modality: made.project(some, space, modality)
        for space, rows in frozen.items()
        for modality, some in rows.items()
    }
    figure, axes = _figure(3, width=9.0, height=3.1)
    panels = [*((f"{space}, frozen", rows) for space, rows in frozen.items()), (SHARED, shared)]
    for axis, (title, rows) in zip(axes, panels, strict=True):
        _scatter(axis, title, rows)
    handles = [*axes[0].collections[:2], axes[1].collections[1]]
    names = ["text", "image", "audio"]
    figure.legend(handles, names, loc="upper center", ncols=3, frameon=False, markerscale=2)
    figure.tight_layout(rect=(0, 0, 1, 0.92))
    return figure


def _scatter(axis: Any, title: str, rows: dict[Modality, Tensor]) -> None:
    """Points of every modality in the plane of their largest variance; lines join a few numbers."""
    plane = _principal_plane(torch.cat(list(rows.values())))
    places = {modality: some @ plane for modality, some in rows.items()}
    for modality, place in places.items():
        axis.scatter(*place.T, s=8, alpha=0.7, lw=0, color=TRANSPARENT.fill[modality])
    shown = len(next(iter(rows.values())))
    for number in range(0, shown, max(1, shown // JOINED)):
        joined = torch.stack([place[number] for place in places.values()])
        axis.plot(*joined.T, color=INK, lw=0.8)
    gaps = [f"{a} to {b} {modality_gap(rows[a], rows[b]):.2f}" for a, b in combinations(rows, 2)]
    axis.set_title(title)
    axis.set_xlabel(
        "gap: " + ", ".join(gaps[:2]) + "".join(f"\n{one}" for one in gaps[2:]), fontsize=8
    )
    axis.set_xticks([])
    axis.set_yticks([])


def pseudo_pairs(demo: Path) -> Any:
    """The weights with which one sentence mixes the pictures and the sounds of its spaces."""
    figure, axes = _figure(2, width=9.0, height=3.2)
    for axis, (space, modality) in zip(
        axes, (("mini-clip", "image"), ("mini-clap", "audio")), strict=True
    ):
        texts = _memory(demo, f"text-{space}-train")
        leaf = _memory(demo, f"{modality}-{space}-train")
        row = list(texts.labels or ()).index(NUMBER)
        weights = torch.softmax(leaf.tensor() @ texts.tensor()[row] / TEMPERATURE, dim=0)
        most = weights.argsort(descending=True)[:10]
        numbers = [(leaf.labels or leaf.ids)[i] for i in most.tolist()]
        colour = TRANSPARENT.fill[modality_named(modality)]
        bars = axis.bar(range(10), weights[most], color=colour)
        axis.bar_label(bars, numbers, fontsize=8, color=INK, padding=2)
        axis.set_title(f"{modality}, {space}", fontsize=9.5)
        axis.set_xlabel(f"the nearest of {len(leaf):,}, and the number they show", fontsize=8)
        axis.set_ylabel("weight in the pseudo pair", fontsize=8)
        axis.set_xticks([])
        axis.margins(y=0.14)
    figure.suptitle(f"the sentence “{(texts.items or texts.ids)[row]}”", fontsize=10.5)
    figure.tight_layout()
    return figure


def noise(demo: Path) -> Any:
    """How far noise moves a sentence, beside how far sentences are from one another."""
    rows = _memory(demo, "text-mini-clip-train").tensor()[:1500]
    generator = torch.Generator().manual_seed(0)
    figure, (axis,) = _figure(1, width=6.4, height=2.9)
    others = (rows @ rows.T)[~torch.eye(len(rows), dtype=torch.bool)][::97]
    _histogram(axis, others, "#8a8a8a", "another sentence")
    for variance, colour in ((VARIANCE / 4, "#e0a458"), (VARIANCE, "#c8553d")):
        noisy = add_noise(rows, variance=variance, generator=generator)
        cosines = (noisy * rows).sum(dim=1)
        _histogram(axis, cosines, colour, f"itself, variance {variance:g}")
    axis.set_xlabel(f"cosine to a sentence, {rows.shape[1]} dimensions", fontsize=9)
    axis.set_yticks([])
    _legend(figure, axis)
    return figure


def matches(demo: Path) -> Any:
    """Cosines of sounds with pictures of the same and of other numbers, through the bridge."""
    made = bridge.load(demo / "bridges" / "audio-image", device="cpu")
    sounds = _memory(demo, "audio-mini-clap-test3")
    pictures = _memory(demo, "image-mini-clip-test")
    cosines = (
        made.project(sounds.tensor(), "mini-clap", "audio")
        @ made.project(pictures.tensor(), "mini-clip", "image").T
    )
    names = {label: i for i, label in enumerate(sorted(set(pictures.labels or ())))}
    left = torch.tensor([names[one] for one in sounds.labels or ()])
    right = torch.tensor([names[one] for one in pictures.labels or ()])
    same = left[:, None] == right
    figure, (axis,) = _figure(1, width=6.4, height=2.8)
    _histogram(axis, cosines[~same][::23], "#8a8a8a", "a picture of another number")
    _histogram(
        axis, cosines[same], TRANSPARENT.fill["image"], "a picture of the number that is said"
    )
    axis.set_xlabel("cosine of an unseen sound with an unseen picture", fontsize=9)
    axis.set_yticks([])
    _legend(figure, axis)
    return figure


def cwcl_weights(demo: Path) -> Any:
    """CWCL's weights of the other items of a batch, by sharpness."""
    rows = _memory(demo, "text-mini-clip-train").tensor()[:1500]
    off = ~torch.eye(len(rows), dtype=torch.bool)
    cosines = (rows @ rows.T)[off][::97]
    figure, (axis,) = _figure(1, width=6.4, height=2.8)
    for sharpness, colour in ((1, TRANSPARENT.fill["text"]), (4, "#e0a458"), (16, "#c8553d")):
        weights = (cosines / 2 + 0.5).clamp(0) ** sharpness
        _histogram(axis, weights, colour, f"sharpness {sharpness}")
    axis.set_xlabel("weight of another sentence (of the same one: 1)", fontsize=9)
    axis.set_yticks([])
    _legend(figure, axis)
    return figure


PICTURES: dict[str, Callable[[Path], Any]] = {
    "gap": gap,
    "pseudo-pairs": pseudo_pairs,
    "noise": noise,
    "matches": matches,
    "cwcl-weights": cwcl_weights,
}


def svg(figure: Any) -> str:
    """The figure as SVG whose ink follows the page."""
    from io import StringIO

    from matplotlib import pyplot as plt

    file = StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    text = file.getvalue()
    text = re.sub(r"<\?xml.*?<svg", "<svg", text, count=1, flags=re.DOTALL)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = text.replace(INK, "currentColor").replace(FAINT, "currentColor; stroke-opacity: .3")
    text = re.sub(r' (d|x|y|transform)="[^"]*"', _rounded, text)
    return re.sub(r"(<svg[^>]*>)", rf"\1{STYLE}", text, count=1)


def _rounded(attribute: re.Match[str]) -> str:
    return re.sub(r"(\d+\.\d{2})\d+", r"\1", attribute[0])


def _legend(figure: Any, axis: Any) -> None:
    """Above the axis, and the axis below it."""
    handles, names = axis.get_legend_handles_labels()
    figure.legend(handles, names, loc="upper center", ncols=3, frameon=False, fontsize=8.5)
    figure.tight_layout(rect=(0, 0, 1, 0.9))


def _figure(panels: int, *, width: float, height: float) -> tuple[Any, Any]:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, panels, figsize=(width, height), squeeze=False)
    return figure, axes[0]


def _style() -> Any:
    import matplotlib as mpl

    mpl.use("agg")
    ink = {f"{one}.color": INK for one in ("xtick", "ytick", "text")}
    quiet = {"axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": FAINT}
    plain = {"svg.fonttype": "none", "svg.hashsalt": "mcr", "font.family": "sans-serif"}
    named = {"axes.labelcolor": INK, "axes.titlecolor": INK, "axes.titlesize": 10.5}
    settings: dict[Any, Any] = {**ink, **quiet, **named, **plain}
    return mpl.rc_context(settings)


def _histogram(axis: Any, values: Tensor, colour: str, name: str) -> None:
    """Of the same height as others, however many values there are and however close together."""
    counts, edges = torch.histogram(values, bins=40)
    axis.stairs(counts / counts.max(), edges, fill=True, color=colour, alpha=0.7, label=name)


def _principal_plane(rows: Float[Tensor, "n d"]) -> Float[Tensor, "d 2"]:
    return torch.pca_lowrank(rows, q=2, niter=8)[2]


def _by_modality(demo: Path, names: list[str]) -> dict[Modality, Tensor]:
    """One item of each of the same numbers, by modality."""
    memories = [_memory(demo, name) for name in names]
    labels = sorted(set(memories[0].labels or ()))
    labels = labels[:: max(1, len(labels) // SHOWN)][:SHOWN]
    rows = {
        one.modality: [list(one.labels or ()).index(label) for label in labels] for one in memories
    }
    return {one.modality: one.tensor(np.array(rows[one.modality])) for one in memories}


def _memory(demo: Path, name: str) -> Memory:
    return Memory(demo / "memories" / f"{name}.h5")


if __name__ == "__main__":
    torch.manual_seed(0)
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
