"""Embeddings of queries that may be asked again by a key; what was asked itself is not kept."""

from __future__ import annotations

import json
import threading
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import xxhash
from torch import Tensor

from features.files import remove_leftovers, replacing
from features.sealed import read_sealed, sealed
from features.space import Modality, modality_named

KEY = 32  # hexadecimal digits


class NotTaken(UserWarning):
    """Queries that were kept are of no use now."""


@dataclass(frozen=True)
class SavedQuery:
    """vectors: place (a space, or `bridge NAME`) -> the query's unit embedding (d,) there."""

    modality: Modality | None
    filename: str | None
    vectors: Mapping[str, Tensor]


class SavedQueries:
    """The queries that were used last, in RAM, and in a folder if one is given."""

    def __init__(
        self, most: int, folder: Path | None = None, made_by: Mapping[str, str] | None = None
    ) -> None:
        """most: how many are kept; the one that was used longest ago goes first.

        made_by: place -> what makes its vectors now. Vectors of the folder that something else
        made, such as a bridge before it was trained anew, are not taken; a warning says so.
        """
        self.most, self.folder, self.made_by = most, folder, dict(made_by or {})
        self._kept: OrderedDict[str, SavedQuery] = OrderedDict()
        self._lock = threading.Lock()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder)  # of a server that was killed
            self._take(folder)
            self._forget()

    def __len__(self) -> int:
        return len(self._kept)

    def _take(self, folder: Path) -> None:
        """Read what an earlier server left; also of what is of no use only so many files stay."""
        paths = [path for path in folder.glob("*.json") if len(path.stem) == KEY]
        unusable: list[Path] = []
        for path in sorted(paths, key=lambda one: one.stat().st_mtime):
            query = _read(path, self.made_by)
            if query is None:
                unusable.append(path)
            else:
                self._kept[path.stem] = query
        if unusable:
            warnings.warn(
                f"{len(unusable)} of {len(paths)} queries in {folder} are damaged, or of other "
                "bridges and encoders than those served: their addresses lead nowhere here, and "
                "the files may be deleted",
                NotTaken,
                stacklevel=4,
            )
        for path in unusable[: max(0, len(unusable) - self.most)]:
            path.unlink(missing_ok=True)

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
                _write(self.folder / f"{key}.json", query, self.made_by)
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


def _write(path: Path, query: SavedQuery, made_by: Mapping[str, str]) -> None:
    told = {
        "modality": query.modality,
        "filename": query.filename,
        "made_by": {place: made_by.get(place) for place in query.vectors},
        "vectors": {place: vector.tolist() for place, vector in query.vectors.items()},
    }
    with replacing(path, synced=False) as temporary:
        temporary.write_text(json.dumps(sealed(told)), encoding="utf-8")


def _read(path: Path, made_by: Mapping[str, str]) -> SavedQuery | None:
    """A saved query, in the places whose maker is the same; None if there is none.

    A file that is damaged is as if it were forgotten.
    """
    try:
        told = read_sealed(path)
        modality = None if told["modality"] is None else modality_named(told["modality"])
        vectors = {
            str(place): torch.tensor(vector, dtype=torch.float32)
            for place, vector in told["vectors"].items()
            if told["made_by"][place] == made_by.get(place)
        }
        return SavedQuery(modality, told["filename"], vectors) if vectors else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
