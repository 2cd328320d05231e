"""What `mcr encoders` lists: known encoders, what they embed, and what they need.

Any model of a family loads, not only those listed. A licence is that of the published weights, or
of the code that they came with, where their publishers say nothing of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from features.encoders.own import installed_encoders
from features.extras import install_line, installed

if TYPE_CHECKING:
    from features.space import Modality


@dataclass(frozen=True)
class Listed:
    """One line of the list.

    dimension: of its embeddings, None where it is the file that says. package: what it needs
    beside the core, None if nothing.
    """

    spec: str
    embeds: tuple[Modality, ...]
    dimension: int | None
    licence: str
    package: str | None = None
    what: str = ""

    @property
    def ready(self) -> bool:
        """Whether it loads here, its weights aside."""
        return self.package is None or installed(self.package)

    @property
    def install(self) -> str | None:
        """The command that installs what is missing, None if nothing is."""
        return None if self.ready or self.package is None else install_line(self.package)


_CLIP: tuple[Modality, ...] = ("image", "text")
_CLAP: tuple[Modality, ...] = ("audio", "text")
_ULIP: tuple[Modality, ...] = ("points", "image", "text")
_OWN = "of your data"

KNOWN: tuple[Listed, ...] = (
    Listed("mini-clip", _CLIP, 128, "Apache-2.0", what="numbers of the demo"),
    Listed("mini-clap", _CLAP, 96, "Apache-2.0", what="numbers of the demo"),
    Listed("mini-ulip", _ULIP, 128, "Apache-2.0", what="numbers of the demo"),
    Listed("mini:FILE", (), None, _OWN, what="what `mcr fit` made"),
    Listed("clip:ViT-B-32,openai", _CLIP, 512, "MIT", "open_clip", "OpenAI CLIP, C-MCR's"),
    Listed("clip:ViT-B-32,laion2b_s34b_b79k", _CLIP, 512, "MIT", "open_clip", "OpenCLIP"),
    Listed("clip:ViT-L-14,openai", _CLIP, 768, "MIT", "open_clip", "OpenAI CLIP"),
    Listed(
        "clip:ViT-bigG-14,laion2b_s39b_b160k", _CLIP, 1280, "MIT", "open_clip", "ULIP-2's partner"
    ),
    Listed("clip:MODEL,TAG", _CLIP, None, "by model", "open_clip", "`mcr encoders clip`"),
    Listed("clip:MODEL,FILE", _CLIP, None, _OWN, "open_clip", "a checkpoint"),
    Listed("clip:hf-hub:ORG/REPO", _CLIP, None, "by model", "open_clip", "of the hub"),
    Listed("clip:local-dir:FOLDER", _CLIP, None, _OWN, "open_clip", "of a folder"),
    Listed(
        "clap:630k-fusion-best", _CLAP, 512, "CC0-1.0 (code)", "laion_clap", "LAION CLAP, C-MCR's"
    ),
    Listed(
        "clap:630k-audioset-best", _CLAP, 512, "CC0-1.0 (code)", "laion_clap", "LAION CLAP, sounds"
    ),
    Listed(
        "clap:music_audioset_epoch_15_esc_90.14",
        _CLAP,
        512,
        "CC0-1.0 (code)",
        "laion_clap",
        "music",
    ),
    Listed("clap:FILE", _CLAP, 512, _OWN, "laion_clap", "a checkpoint of LAION's code"),
    Listed("clap:laion/clap-htsat-unfused", _CLAP, 512, "Apache-2.0", "transformers", "of the hub"),
    Listed("clap:FOLDER", _CLAP, None, _OWN, "transformers", "of a folder"),
    Listed("ulip:FILE", _ULIP, 512, "BSD-3 (code)", what="pointbert_ULIP-2.pt, texts need [clip]"),
    Listed("ulip:FILE", _ULIP, 1280, "BSD-3 (code)", what="ULIP-2 with OpenCLIP bigG, [clip]"),
)


def listed() -> list[Listed]:
    """Known encoders, then those that installed packages offer."""
    return [
        *KNOWN,
        *(
            Listed(name, (), None, "of its package", what=point.value)
            for name, point in sorted(installed_encoders().items())
        ),
    ]


def open_clip_models() -> list[tuple[str, int]]:
    """`clip:MODEL,TAG` of every published model of open_clip, with its dimension.

    Raises UserError if open_clip is missing.
    """
    from features.extras import require_package

    open_clip = require_package("open_clip", "the list of CLIP models")
    return [
        (f"clip:{model},{tag}", int(open_clip.get_model_config(model)["embed_dim"]))
        for model, tag in open_clip.list_pretrained()
    ]
