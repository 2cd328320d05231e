"""Settings of a training run, each default written here and nowhere else.

Settings are frozen, can be read from TOML, and every one is an option of `mcr train`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from bridge.setting import setting as _setting
from bridge.tcl.settings import TclSettings
from features.errors import UnknownNameError, UserError
from features.parsing import read_toml
from features.sealed import text_is_changed
from features.suggest import did_you_mean

PUBLISHED_BATCH = 10_240
CLOSED_FORMS = ("procrustes", "ridge", "cca", "relative", "routing")
METHODS = ("projectors", *CLOSED_FORMS, "mixture")
OBJECTIVES = ("cmcr", "cwcl", "distil", "tcl")
PSEUDO_PAIRS = ("hub", "leaf", "all", "each")
RETRIEVAL = ("auto", "exact", "sparse", "approximate")
STREAM = ("auto", "always", "never")
STARTS = ("random", "procrustes", "ridge", "cca")
SHAPES = ("mlp2", "mlp1", "linear")
CENTRING = ("auto", "none", "hub", "modality")
CWCL_TERMS = ("hub", "leaf", "both")
PSEUDO_PAIR_KINDS = "cmcr cwcl tcl mixture"  # that train on pseudo pairs
GRADIENT_KINDS = "cmcr cwcl distil tcl mixture"
PRESETS: dict[str, dict[str, Any]] = {
    "published": {},
    "best": {"method": "mixture"},
}
TRAIN_PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True)
class TrainSettings(TclSettings):
    """How two projectors come to be; the defaults are C-MCR's published recipe."""

    method: str = _setting(
        "projectors",
        "How the bridge is made: projectors trained by gradients, a closed form (procrustes, "
        "ridge, cca, relative, routing), or a mixture weighed on held-out hub items.",
        choices=METHODS,
    )
    objective: str = _setting(
        "cmcr",
        "What projectors are trained for: cmcr (published), cwcl (the same, its pairs weighted by "
        "similarity in a frozen space), distil (hub routing's answers as soft targets) or tcl (the "
        "same as cmcr, with TCL's terms beside it).",
        choices=OBJECTIVES,
    )
    projector: str = _setting(
        "mlp2",
        "Shape of the projectors: mlp2, mlp1 (both published) or linear.",
        choices=SHAPES,
        of=GRADIENT_KINDS,
    )
    start: str = _setting(
        "random",
        "Weights that projectors begin with: random, or those of a closed form of the hub items "
        "(linear and mlp2 can compute it).",
        choices=STARTS,
        of=GRADIENT_KINDS,
    )
    dimension: int = _setting(
        512,
        "Width of the shared space, of each part of a mixture or ensemble.",
        low=1,
        of=f"{GRADIENT_KINDS} procrustes ridge cca",
    )
    hidden: int = _setting(1024, "Width of mlp2's hidden layer.", low=1, of=GRADIENT_KINDS)
    centring: str = _setting(
        "auto",
        "Means to subtract before projecting: none, of each space's hub items, or of each modality "
        "(the gap). auto: none for projectors, modality for closed forms.",
        choices=CENTRING,
    )
    retrieval_temperature: float = _setting(
        0.01, "Softmax temperature of pseudo-pair retrieval.", above=0, of=PSEUDO_PAIR_KINDS
    )
    retrieval: str = _setting(
        "auto",
        "How pseudo pairs are retrieved: exact, by all items, sparse, by the nearest ones and "
        "a model of the rest, or approximate, by those that a FAISS index finds (LEAF.faiss, or "
        "one built for it). auto: on a CPU, sparse for large memories, where it is faster.",
        choices=RETRIEVAL,
        of=PSEUDO_PAIR_KINDS,
    )
    stream: str = _setting(
        "auto",
        "Which leaf memories are read from the disk block by block instead of loaded: always, "
        "never, or auto, those that do not fit into half of the device's free memory.",
        choices=STREAM,
    )
    inter_hub_temperature: float = _setting(
        0.01, "InfoNCE temperature between the spaces' hub embeddings.", above=0, of=GRADIENT_KINDS
    )
    inter_leaf_temperature: float = _setting(
        0.01, "InfoNCE temperature between the spaces' pseudo pairs.", above=0, of=PSEUDO_PAIR_KINDS
    )
    noise_variance: float = _setting(
        0.004,
        "Variance, in every dimension, of the noise on unit embeddings.",
        low=0,
        of=GRADIENT_KINDS,
    )
    inter_hub_weight: float = _setting(
        1.0, "Weight of InfoNCE between hub embeddings.", low=0, of=GRADIENT_KINDS
    )
    inter_leaf_weight: float = _setting(
        1.0, "Weight of InfoNCE between pseudo pairs.", low=0, of=PSEUDO_PAIR_KINDS
    )
    intra_weight: float = _setting(
        0.1, "Weight of the distance that closes the gap.", low=0, of=PSEUDO_PAIR_KINDS
    )
    pseudo_pairs: str = _setting(
        "hub",
        "Items that pseudo pairs are centred on: hub (published), leaf, all of both, or each of "
        "them in projectors of their own, whose similarities are averaged.",
        choices=PSEUDO_PAIRS,
        of=PSEUDO_PAIR_KINDS,
    )
    cwcl_terms: str = _setting(
        "both",
        "Pairs that CWCL weighs: of hub embeddings, of pseudo pairs (leaf), or both.",
        choices=CWCL_TERMS,
        of="cwcl",
    )
    cwcl_space: str | None = _setting(
        None,
        "Space whose frozen embeddings (less the means that are subtracted) weigh the pairs. "
        "Unset: the first --hub's.",
        of="cwcl",
    )
    cwcl_sharpness: float = _setting(
        1.0, "Exponent of CWCL's weights; more comes closer to InfoNCE.", above=0, of="cwcl"
    )
    cwcl_symmetric: bool = _setting(
        False, "Weigh both directions, not only the published one.", of="cwcl"
    )
    distil_weight: float = _setting(1.0, "Weight of the soft targets.", low=0, of="distil")
    distil_temperature: float = _setting(
        0.05, "Softmax temperature of the projectors that learn soft targets.", above=0, of="distil"
    )
    distil_sharpness: float = _setting(
        1.0, "Exponent of the soft targets before they are normalised.", above=0, of="distil"
    )
    distil_batch: int = _setting(512, "Items a step of each leaf memory.", low=2, of="distil")
    routing_temperature: float = _setting(
        0.1, "Softmax temperature of the hub items' posteriors.", above=0, of="routing distil"
    )
    smoothing: float = _setting(
        0.5, "Share of its neighbours' in an item's posterior.", low=0, below=1, of="distil"
    )
    smoothing_temperature: float = _setting(
        0.02,
        "Softmax temperature of these neighbours, in the item's own memory.",
        above=0,
        of="distil",
    )
    anchors: int = _setting(
        1024,
        "Hub items to compare with at most; of more, as many are drawn by the seed.",
        low=2,
        of="relative routing mixture",
    )
    penalty: float = _setting(
        1.0,
        "Ridge penalty, in units of an item's share of the second moments.",
        low=0,
        of="ridge cca mixture",
    )
    correlation_power: float = _setting(
        0.5, "Exponent of the correlations that weigh CCA's directions.", low=0, of="cca"
    )
    batch: int | None = _setting(
        None,
        f"Items a step. Unset: {PUBLISHED_BATCH:,} as published, or a sixteenth of the items "
        "where that is less, but at least 128.",
        low=2,
        of=GRADIENT_KINDS,
    )
    ensemble: int = _setting(
        1,
        "How many projectors of different seeds to train; their similarities are averaged.",
        low=1,
        of="cmcr cwcl distil",
    )
    epochs: int = _setting(36, "Passes over the items.", low=1, of=GRADIENT_KINDS)
    learning_rate: float = _setting(
        1e-3, "AdamW's, at the start of the cosine decay.", above=0, of=GRADIENT_KINDS
    )
    weight_decay: float = _setting(0.01, "AdamW's.", low=0, of=GRADIENT_KINDS)
    holdout: float = _setting(
        0.05, "Share of the hub items kept out of training, to measure on.", low=0, below=1
    )
    patience: int | None = _setting(
        None,
        "Stop after so many epochs without a better held-out score, and keep the best epoch. "
        "Unset: train to the end and keep the last.",
        low=1,
        of=GRADIENT_KINDS,
    )
    precision: str = _setting(
        "auto",
        "Of the projectors' products: auto (bf16 where the device gains), fp32 or bf16.",
        choices=TRAIN_PRECISIONS,
        of=GRADIENT_KINDS,
    )
    seed: int = _setting(0, "Of initial weights, batches and noise.", low=0)

    def __post_init__(self) -> None:
        for setting in fields(self):
            _check(setting.name, getattr(self, setting.name), setting.metadata)
        self._check_owners()
        self._check_start()
        self.check_fusion()

    @property
    def kind(self) -> str:
        """What decides which settings apply: the method, or the objective of projectors."""
        return self.objective if self.method == "projectors" else self.method

    @property
    def means(self) -> str:
        """Which means are subtracted: `centring`, decided."""
        if self.centring != "auto":
            return self.centring
        return "modality" if self.method in CLOSED_FORMS else "none"

    @property
    def centres(self) -> tuple[str, ...]:
        """What pseudo pairs are centred on, in projectors of their own each."""
        return ("hub", "leaf") if self.pseudo_pairs == "each" else (self.pseudo_pairs,)

    @property
    def has_parts(self) -> bool:
        """Whether several projectors of each space make a mixture or an ensemble."""
        return self.method == "mixture" or self.ensemble * len(self.centres) > 1

    def _check_owners(self) -> None:
        if self.method != "projectors" and self.objective != "cmcr":
            raise UserError(
                f"the objective is '{self.objective}' but the method '{self.method}' trains no "
                "projectors by it: leave one of them out"
            )
        for setting in fields(self):
            owners = setting.metadata.get("of", self.kind).split()
            if getattr(self, setting.name) != setting.default and self.kind not in owners:
                raise UserError(
                    f"the setting {setting.name} is {getattr(self, setting.name)!r} but belongs "
                    f"to {' and '.join(owners)}, and this bridge is made by {self.kind}: leave it "
                    "out, or choose another method or objective"
                )

    def _check_start(self) -> None:
        if self.start == "random" or self.projector == "linear":
            return
        if self.projector != "mlp2":
            raise UserError(
                f"start is '{self.start}' but the projector {self.projector} gives no negative "
                "numbers and cannot compute it: choose --projector linear or mlp2"
            )
        if self.hidden < 2 * self.dimension:
            raise UserError(
                f"start is '{self.start}', which needs a hidden layer at least twice as wide as "
                f"the shared space, but hidden is {self.hidden} and dimension {self.dimension}: "
                "change one of them"
            )

    def batch_for(self, items: int) -> int:
        """Items a step when training on `items` of them."""
        wanted = self.batch or min(PUBLISHED_BATCH, max(128, items // 16))
        return min(wanted, items)


def setting_fields() -> list[Field[Any]]:
    """The settings, those of TCL last."""
    last = {setting.name for setting in fields(TclSettings)}
    return sorted(fields(TrainSettings), key=lambda setting: setting.name in last)


class SettingsChanged(UserWarning):
    """A file of settings is not as a run wrote it."""


def load_settings(
    path: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    preset: str | None = None,
) -> TrainSettings:
    """Settings of a preset, those of a TOML file on top, and `overrides` that are not None.

    preset: None is `best`, or `published` if a file is given. An objective or a shape of the
    projectors, without a method, makes the method `projectors`.

    Raises UserError for a file that is not TOML, an unknown setting or preset, a value out of
    range, or a setting that what was chosen does not have.
    """
    wanted = preset
    preset = preset or ("best" if path is None else "published")
    if preset not in PRESETS:
        meant = did_you_mean(preset, PRESETS)
        raise UnknownNameError(
            f"there is no preset '{preset}'{meant}: choose {' or '.join(PRESETS)}"
        )
    values: dict[str, Any] = {}
    if path is not None:
        values, text = read_toml(path, "settings file")
        if text_is_changed(text):
            warnings.warn(
                f"{path} is not as the run wrote it, it was edited or is damaged: its settings are "
                "taken as they are",
                SettingsChanged,
                stacklevel=2,
            )
    known = get_type_hints(TrainSettings)
    for name, value in values.items():
        if name not in known:
            raise UnknownNameError(
                f"{path} has the setting '{name}', which does not exist"
                f"{did_you_mean(name, known)}: `mcr train --help` lists all {len(known)}"
            )
        values[name] = _converted(name, value, known[name])
    values |= {name: value for name, value in (overrides or {}).items() if value is not None}
    chosen = [name for name in ("objective", "projector") if name in values]
    if chosen and wanted == "best" and "method" not in values:
        raise UserError(
            f"the preset best is a mixture but the setting {chosen[0]} is "
            f"{values[chosen[0]]!r}, of projectors alone: leave the preset or the setting out, or "
            "give --method mixture for a mixture with such projectors"
        )
    if chosen:
        values = {"method": "projectors", **values}
    return TrainSettings(**{**PRESETS[preset], **values})


def _converted(name: str, value: Any, hint: Any) -> Any:
    types = get_args(hint) if get_origin(hint) is UnionType else (hint,)
    if float in types and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, bool) != (bool in types) or not isinstance(value, types):
        wanted = " or ".join(one.__name__ for one in types if one is not type(None))
        raise UserError(f"the setting {name} is {value!r} but must be of type {wanted}")
    return value


def _check(name: str, value: Any, limits: Mapping[str, Any]) -> None:
    if value is None:
        return
    if "choices" in limits and value not in limits["choices"]:
        meant = did_you_mean(value, limits["choices"]) if isinstance(value, str) else ""
        raise UnknownNameError(
            f"the setting {name} is '{value}' but must be one of "
            f"{', '.join(limits['choices'])}{meant}"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"the setting {name} is {value} but must be a finite number")
    wrong: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "low": ("at least", lambda bound: value < bound),
        "high": ("at most", lambda bound: value > bound),
        "above": ("more than", lambda bound: value <= bound),
        "below": ("less than", lambda bound: value >= bound),
    }
    for limit in wrong.keys() & limits.keys():
        words, is_wrong = wrong[limit]
        if is_wrong(limits[limit]):
            raise UserError(f"the setting {name} is {value} but must be {words} {limits[limit]}")
