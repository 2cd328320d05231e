"""What runs in a worker process: an encoder's input function, over parts of a batch."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.errors import ItemError, UserError
from features.room import all_bytes

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from numpy.typing import NDArray

    from features.encoders import ItemInput

POLITENESS = 10  # niceness of workers: an encoder that wants the cores gets them first
EXPENDABLE = 500  # of at most 1000: where memory runs out, Linux ends a worker, not the extraction
IDLE = -1
# The first byte of an answer says what follows.
DECODED, STOPPED, TOO_LARGE = b"d", b"s", b"l"

Decoded = list["NDArray[Any] | ItemError"]


def decode(make_input: ItemInput, items: Sequence[str | Path]) -> Decoded:
    """Items as network inputs, in this process; bad items as ItemError."""
    return [decode_one(make_input, item) for item in items]


def decode_one(make_input: ItemInput, item: str | Path) -> NDArray[Any] | ItemError:
    """An item as a network input, or why it is bad. Raises UserError where all would be."""
    try:
        return make_input(item)
    except ItemError as error:
        return error
    except UserError:
        raise  # a missing package, say: every item of the kind would fail
    except MemoryError:
        return ItemError("decoding it needs more memory than there is")
    except Exception as error:
        # The boundary to decoders of any library: one bad file among millions must not end
        # the extraction, and its reason is kept.
        return ItemError(f"{type(error).__name__}: {' '.join(str(error).split())}")


def work(connection: Connection, make_input: ItemInput, place: Any) -> None:
    """Decode parts of batches until nobody asks.

    place: shared with the parent; which item of the part is decoded now, or IDLE.
    """
    _behave()
    connection.send_bytes(DECODED)  # ready
    while True:
        try:
            items = connection.recv()
        except EOFError:
            return
        connection.send_bytes(_answer(make_input, items, place))


def _answer(make_input: ItemInput, items: Sequence[str | Path], place: Any) -> bytes:
    try:
        decoded: Decoded = []
        for number, item in enumerate(items):
            place.value = number
            decoded.append(decode_one(make_input, item))
        place.value = IDLE
        return b"".join((DECODED, ForkingPickler.dumps(decoded)))
    except MemoryError:
        place.value = IDLE
        return TOO_LARGE
    except UserError as error:
        return b"".join((STOPPED, ForkingPickler.dumps(error)))


def _behave() -> None:
    """Yield to the parent, leave Ctrl-C to it, and end with it even if it is killed."""
    if hasattr(os, "nice"):
        os.nice(POLITENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        _limit_memory()
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _limit_memory() -> None:
    """Let an item that wants more memory than the machine has fail as an item."""
    import resource

    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(EXPENDABLE))
    limit, hard = all_bytes(), resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard in (resource.RLIM_INFINITY, -1) or limit < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
