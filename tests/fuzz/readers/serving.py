"""What comes over the network: requests, files in them, and queries that were kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from pydantic import ValidationError

from bridge.serving.limits import Limits
from bridge.serving.refusal import Refusal
from bridge.serving.requests import EmbedRequest, SearchRequest
from bridge.serving.saved import SavedQueries, SavedQuery
from bridge.serving.tasks import TASKS
from features.errors import ItemError, UserError
from tests.fuzz.readers.clouds import XYZ
from tests.fuzz.readers.exchange import npz
from tests.fuzz.readers.media import pictures, sounds
from tests.fuzz.target import Target

_KEY = "0" * 32
_REQUEST = {
    "queries": [
        {"text": "a cat"}, {"content": "QQ==", "filename": "a.png"},
        {"item": {"collection": "c", "id": "i"}}, {"saved": _KEY},
        {"embedding": [0.5, 0.5], "space": "s", "modality": "image"},
    ],
    "collections": ["c"], "k": 5, "offset": 2, "where": {"x": ["a"], "n": {"min": 1, "max": 2}},
}  # fmt: skip
# The process that decodes files answers every exception with a refusal.
_DECODED = (Refusal, ItemError, UserError, Exception)


def _requested(path: Path) -> None:
    content = path.read_bytes()
    for model in (SearchRequest, EmbedRequest):
        try:
            model.model_validate_json(content)
        except ValidationError as error:
            error.errors(include_url=False)


def _task(name: str, file: str, seeds: Callable[[Path], Iterable[bytes]], form: str) -> Target:
    def read(path: Path) -> None:
        TASKS[name](path, Limits())

    title = f"upload-{name.replace('_', '-')}"
    # Pictures may have 179 million pixels, of 3 bytes each.
    memory = (1 if "image" in name else 0.5) * (1 << 30)
    return Target(
        title, file, read, seeds, form=form, allowed=_DECODED, weight=0.5, memory=int(memory)
    )


def _keep(folder: Path) -> bytes:
    queries = SavedQueries(3, folder, {"s": "m"})
    key = queries.keep(SavedQuery("image", "a.png", {"s": torch.ones(3)}))
    (file,) = (one for one in folder.rglob("*") if one.is_file() and str(key) in one.name)
    return file.read_bytes()


def _kept(path: Path) -> None:
    SavedQueries(3, path.parent, {"s": "m"}).get(_KEY)


TARGETS = (
    Target("request", "r.json", _requested, lambda _: [json.dumps(_REQUEST).encode()], form="json",
           weight=2),
    Target("kept-query", f"{_KEY}.json", _kept, lambda folder: [_keep(folder)], form="json"),
    _task("query_image", "a.png", pictures, "bytes"),
    _task("query_audio", "a.wav", sounds, "bytes"),
    _task("item_image", "a.png", pictures, "bytes"),
    _task("item_audio", "a.wav", sounds, "bytes"),
    _task("query_points", "a.npz", lambda _: [npz(xyz=XYZ)], "archive"),
    _task("waveform", "a.wav", sounds, "bytes"),
)  # fmt: skip
