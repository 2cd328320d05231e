"""Settings of TCL's terms, which `--objective tcl` trains beside those of C-MCR."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from bridge.setting import setting
from features.errors import UserError

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.001, 0.5  # that a learnt one is kept within
LMI_FROM = ("items", "parts", "both")
_setting = partial(setting, of="tcl")


class Need(NamedTuple):
    """Which of the costly terms are trained."""

    lmi: bool
    itm: bool
    mlm: bool

    @property
    def fusion(self) -> bool:
        """Whether there is a fusion encoder."""
        return self.itm or self.mlm


@dataclass(frozen=True)
class TclSettings:
    """TCL (Yang et al., CVPR 2022) at the level of projectors; defaults as published."""

    cma_weight: float = _setting(
        1.0, "Weight of cross-modal alignment with momentum projectors and soft targets.", low=0
    )
    imc_weight: float = _setting(
        1.0, "Weight of contrast within each modality, between two augmentations.", low=0
    )
    lmi_weight: float = _setting(
        0.0, "Weight of contrast between items and their parts; needs `mcr extract --local`.", low=0
    )
    itm_weight: float = _setting(
        0.0,
        "Weight of matching by a fusion encoder, for `mcr query --rerank`; needs `mcr extract "
        "--local`.",
        low=0,
    )
    itm_temperature: float | None = _setting(
        None,
        "With --itm-weight, temperature over which cosines add up with a match in re-ranking. "
        "Unset: that of InfoNCE; lower where that is high.",
        low=LOWEST_TEMPERATURE,
    )
    mlm_weight: float = _setting(
        0.0,
        "Weight of guessing masked words from the other item's parts; needs a text memory and "
        "`mcr extract --local`.",
        low=0,
    )
    tcl_momentum: float = _setting(
        0.995, "Share that momentum weights keep at every step.", low=0, below=1
    )
    tcl_queue: int = _setting(
        65_536, "Earlier embeddings that are negatives; at most the items of an epoch.", low=0
    )
    tcl_alpha: float = _setting(
        0.4, "Share of soft targets; rises from 0 over the first epoch.",
        low=0, high=1,
    )  # fmt: skip
    tcl_temperature: float = _setting(
        0.07,
        "Temperature that TCL's contrastive terms begin with.",
        low=LOWEST_TEMPERATURE,
        high=HIGHEST_TEMPERATURE,
    )
    tcl_learn_temperature: bool = _setting(
        True, "Learn that temperature, as published, or keep it as it is."
    )
    local_batch: int = _setting(128, "Items a step, of each memory, of terms on parts.", low=2)
    lmi_grid: int = _setting(
        4, "Square pictures of more patches are pooled to so many a side for LMI; 0: none.", low=0
    )
    lmi_from: str = _setting(
        "items",
        "What LMI trains through: items, told from other items' parts (published), parts, told "
        "which item they are of, or both, the mean of the two.",
        choices=LMI_FROM,
    )
    fusion_width: int = _setting(64, "Width of the fusion encoder.", low=1)
    fusion_layers: int = _setting(2, "Layers of the fusion encoder.", low=1)
    fusion_heads: int = _setting(4, "Attention heads of the fusion encoder.", low=1)
    mlm_masking: float = _setting(0.15, "Share of the words that are masked.", above=0, below=1)
    mlm_vocabulary: int = _setting(
        4096, "Words that can be guessed, the most frequent ones.", low=1
    )

    @property
    def need(self) -> Need:
        """Which of the costly terms have a weight."""
        return Need(self.lmi_weight > 0, self.itm_weight > 0, self.mlm_weight > 0)

    @property
    def tcl_weights(self) -> dict[str, float]:
        """By term; those of costly terms only where they are trained."""
        costly = {"lmi": self.lmi_weight, "itm": self.itm_weight, "mlm": self.mlm_weight}
        return {
            "cma": self.cma_weight,
            "imc": self.imc_weight,
            **{name: weight for name, weight in costly.items() if weight},
        }

    def check_fusion(self) -> None:
        """Raise UserError unless the fusion encoder's width can be shared by its heads."""
        if self.fusion_width % self.fusion_heads:
            raise UserError(
                f"fusion_width is {self.fusion_width}, which {self.fusion_heads} heads cannot "
                "share: make it a multiple of fusion_heads"
            )
