"""Embeddings of queries that may be asked again by a key; what was asked itself is not kept."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import xxhash
from torch import Tensor

from features.files import replacing
from features.space import Modality, modality_named

KEY = 32  # hexadecimal digits


@dataclass(frozen=True)
class SavedQuery:
    """vectors: place (a space, or `bridge NAME`) -> the query's unit embedding (d,) there."""

    modality: Modality | None
    filename: str | None
    vectors: Mapping[str, Tensor]


class SavedQueries:
    """The queries that were used last, in RAM, and in a folder if one is given."""

    def __init__(self, most: int, folder: Path | None = None) -> None:
        """most: how many are kept; the one that was used longest ago goes first."""
        self.most, self.folder = most, folder
        self._kept: OrderedDict[str, SavedQuery] = OrderedDict()
        self._lock = threading.Lock()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.glob("*.json"), key=lambda one: one.stat().st_mtime):
                query = _read(path)
                if query is not None and len(path.stem) == KEY:
                    self._kept[path.stem] = query
            self._forget()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, query: SavedQuery) -> str | None:
        """Keep a query; returns its key, or None if none are kept."""
        if not self.most:
            return None
        digest = xxhash.xxh3_128(f"{query.modality}".encode())
        for place, vector in sorted(query.vectors.items()):
            digest.update(place.encode())
            digest.update(vector.numpy().tobytes())
        key = str(digest.hexdigest())
        with self._lock:
            if key not in self._kept and self.folder is not None:
                _write(self.folder / f"{key}.json", query)
            self._kept[key] = query
            self._kept.move_to_end(key)
            self._forget()
        return key

    def get(self, key: str) -> SavedQuery | None:
        """The query of a key, if it is still kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _forget(self) -> None:
        while len(self._kept) > self.most:
            key, _ = self._kept.popitem(last=False)
            if self.folder is not None:
                (self.folder / f"{key}.json").unlink(missing_ok=True)


def _write(path: Path, query: SavedQuery) -> None:
    told = {
        "modality": query.modality,
        "filename": query.filename,
        "vectors": {place: vector.tolist() for place, vector in query.vectors.items()},
    }
    with replacing(path, synced=False) as temporary:
        temporary.write_text(json.dumps(told), encoding="utf-8")


def _read(path: Path) -> SavedQuery | None:
    """A saved query; None for a file that is damaged, which is as if it were forgotten."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        modality = None if told["modality"] is None else modality_named(told["modality"])
        vectors = {
            str(place): torch.tensor(vector, dtype=torch.float32)
            for place, vector in told["vectors"].items()
        }
        return SavedQuery(modality, told["filename"], vectors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
