"""Decoding in this process, without being caught by a file whose decoding never ends."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from features.extraction.decode_worker import Decoded, decode, decode_one

if TYPE_CHECKING:
    from features.encoders import ItemInput


def decode_here(make_input: ItemInput, items: Sequence[str | Path], patience: float) -> Decoded:
    """Items as network inputs; only those before the first that takes more than `patience` seconds.

    That one is left to a thread of its own, which nothing waits for. Raises UserError if a decoder
    does.
    """
    if math.isinf(patience) or not any(isinstance(item, Path) for item in items):
        return decode(make_input, items)
    aside = _Aside(make_input, items)
    aside.start()
    done = 0
    while not aside.ended.wait(patience):
        if len(aside.decoded) == done:
            return aside.decoded[:done]
        done = len(aside.decoded)
    if aside.error is not None:
        raise aside.error
    return aside.decoded


class _Aside(threading.Thread):
    """Decodes items one after another."""

    def __init__(self, make_input: ItemInput, items: Sequence[str | Path]) -> None:
        super().__init__(daemon=True)
        self.make_input, self.items = make_input, items
        self.decoded: Decoded = []
        self.error: BaseException | None = None
        self.ended = threading.Event()

    def run(self) -> None:
        try:
            for item in self.items:
                self.decoded.append(decode_one(self.make_input, item))
        except BaseException as error:  # for the one who waits
            self.error = error
        finally:
            self.ended.set()
