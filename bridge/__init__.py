"""Bridges between frozen embedding spaces: train, load, project, search, evaluate.

Names are imported when they are used, so that `import bridge` does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridge.artefact import Bridge, load
    from bridge.config import TrainSettings, load_settings
    from bridge.evaluation.comparison import compare_retrieval
    from bridge.evaluation.retrieval import evaluate_retrieval
    from bridge.projection import project_memory
    from bridge.search import Embedder, Query, embed_for_bridge, search_index, search_memory
    from bridge.training.train import train
    from bridge.tuning import tune

_HOMES = {
    "Bridge": "bridge.artefact",
    "load": "bridge.artefact",
    "compare_retrieval": "bridge.evaluation.comparison",
    "TrainSettings": "bridge.config",
    "load_settings": "bridge.config",
    "project_memory": "bridge.projection",
    "evaluate_retrieval": "bridge.evaluation.retrieval",
    "Embedder": "bridge.search",
    "Query": "bridge.search",
    "embed_for_bridge": "bridge.search",
    "search_index": "bridge.search",
    "search_memory": "bridge.search",
    "train": "bridge.training.train",
    "tune": "bridge.tuning",
}

__all__ = [
    "Bridge",
    "Embedder",
    "Query",
    "TrainSettings",
    "compare_retrieval",
    "embed_for_bridge",
    "evaluate_retrieval",
    "load",
    "load_settings",
    "project_memory",
    "search_index",
    "search_memory",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'bridge' has no attribute '{name}'")
