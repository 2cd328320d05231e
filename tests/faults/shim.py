"""Faults of the system: which calls fail, and the preloaded library that makes them."""

from __future__ import annotations

import errno
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)


@dataclass(frozen=True)
class Kind:
    """A way in which the system fails.

    calls: groups of calls that fail, see shim.c. error: its number; 0 makes writes short.
    stays: whether it goes on from then, as a full disk does.
    said: what the message has to have, in any of these words.
    """

    name: str
    calls: str
    error: int
    stays: bool
    said: tuple[str, ...]


FULL = ("the disk is full",)
DISK = ("Input/output error",)
UNSAID = "(error closing file)"  # Arrow does not say why
KINDS = (
    Kind("ENOSPC", "write,truncate", errno.ENOSPC, True, FULL),
    Kind("ENOSPC once", "write,truncate", errno.ENOSPC, False, FULL),
    Kind("EDQUOT", "write,truncate", errno.EDQUOT, True, FULL),
    Kind("EIO of writes", "write", errno.EIO, False, DISK),
    Kind("EIO of the disk", "write,sync,truncate,rename", errno.EIO, True, DISK),
    Kind("EIO of fsync", "sync", errno.EIO, False, DISK),
    Kind("EIO of close", "close", errno.EIO, False, (*DISK, UNSAID)),
    Kind("ENOSPC of close", "close", errno.ENOSPC, False, (*FULL, UNSAID)),
    Kind("EIO of rename", "rename", errno.EIO, False, DISK),
    Kind("short write", "write", 0, False, ()),
    Kind("short writes", "write", 0, True, ()),
    Kind("EROFS", "open,rename,write", errno.EROFS, True, ("may not be written",)),
    Kind("EACCES", "open,rename", errno.EACCES, True, ("may not be written",)),
)


@cache
def library(folder: Path) -> Path:
    """The shim, compiled into `folder`."""
    assert COMPILER is not None
    out = folder / "shim.so"
    subprocess.run(
        [COMPILER, "-shared", "-fPIC", "-O1", "-o", str(out), str(SOURCE), "-ldl", "-pthread"],
        check=True, capture_output=True,
    )  # fmt: skip
    return out


def variables(kind: Kind | None, folder: Path, at: int, log: Path | None = None) -> dict[str, str]:
    """The environment that makes call number `at` below `folder` fail; 0 only counts."""
    if kind is None:
        return {}
    return {
        "MCR_FAULT_FOLDER": str(folder),
        "MCR_FAULT_CALLS": kind.calls,
        "MCR_FAULT_AT": str(at),
        "MCR_FAULT_ERRNO": str(kind.error),
        "MCR_FAULT_ON": str(int(kind.stays)),
        **({} if log is None else {"MCR_FAULT_LOG": str(log)}),
    }
