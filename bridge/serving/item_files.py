"""The files of items, and what a page shows of them: thumbnails, waveforms, points."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import anyio
import anyio.to_thread
import xxhash

from bridge.serving import shown
from bridge.serving.decoders import Decoders
from bridge.serving.kept import Kept
from bridge.serving.limits import Limits
from bridge.serving.refusal import NOT_FOUND, Refusal, too_slow
from bridge.serving.state import Served

PICTURES = Literal["thumbnail", "waveform", "points"]
_PICTURE_BYTES = 64 << 20  # of thumbnails and the like that are kept


@dataclass(frozen=True)
class Picture:
    """A thumbnail, a waveform or points."""

    content: bytes
    media_type: str
    etag: str


class ItemFiles:
    """Files that served memories name, and pictures of them, each made once."""

    def __init__(self, served: Served, decoders: Decoders, limits: Limits) -> None:
        self.served, self.decoders, self.limits = served, decoders, limits
        self.kept = Kept[tuple[str, int, str], Picture](_PICTURE_BYTES)
        # A gallery asks for dozens at once: one process and all other threads are left to searches.
        self.drawing = anyio.CapacityLimiter(max(1, decoders.processes - 1))

    def file(self, collection: str, row: int) -> tuple[Path, str]:
        """An item's file and its type. Raises Refusal if it has none."""
        path = self._path(collection, row)
        return path, shown.TYPES.get(path.suffix.lower(), "application/octet-stream")

    async def picture(self, collection: str, row: int, kind: PICTURES) -> Picture:
        """A picture of an item. Raises Refusal if it has none of this kind."""
        known = self.kept.get((collection, row, kind))
        if known is not None:
            return known
        deadline = time.monotonic() + self.limits.seconds
        # Ends by itself soon after the deadline; only the wait for a thread is given up.
        with anyio.move_on_after(self.limits.seconds):
            return await anyio.to_thread.run_sync(
                self._draw, collection, row, kind, deadline, limiter=self.drawing
            )
        raise too_slow(self.limits)

    def _draw(self, collection: str, row: int, kind: PICTURES, deadline: float) -> Picture:
        known = self.kept.get((collection, row, kind))
        if known is not None:  # asked for twice, and made meanwhile
            return known
        path = self._path(collection, row)
        one = self.served.collections[collection]
        if shown.PICTURE.get(one.modality) != kind:
            raise Refusal(NOT_FOUND, f"{collection} holds {one.modality}, which has no {kind}")
        content = self.decoders.run(kind, path, deadline).content
        media_type = "application/json" if content[:1] == b"{" else _picture_type(content)
        made = Picture(content, media_type, f'"{xxhash.xxh3_64_hexdigest(content)}"')
        self.kept.keep((collection, row, kind), made, len(content))
        return made

    def _path(self, collection: str, row: int) -> Path:
        one = shown.collection_named(self.served, collection)
        path = shown.item_file(one, row) if row < len(one) else None
        if path is None:
            raise Refusal(NOT_FOUND, f"item {row} of {collection} has no file that is served")
        return path


def _picture_type(content: bytes) -> str:
    return "image/png" if content.startswith(b"\x89PNG") else "image/webp"
