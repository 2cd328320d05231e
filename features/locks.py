"""Locks that end with the process that holds them, however it ends."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from features.errors import UserError

_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # what some file systems of clusters say


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Let no other process make the output `path` during the block; one that consists of parts.

    Raises UserError if one does already.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock_path = path.with_name(f".{path.name}.lock")
    told = f"another process is writing {path}: wait for it, or choose another output"
    with take_lock(lock_path, told):
        try:
            yield
        finally:
            lock_path.unlink(missing_ok=True)


def take_lock(path: Path, told: str) -> IO[str]:
    """Lock the file `path`, made if it is not there, until what is returned is closed.

    told: the sentence of the UserError that is raised if another process holds the lock. Where the
    file system has no locks, there is none.
    """
    while True:
        lock = path.open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise UserError(told) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                lock.close()
                raise
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                return lock
        lock.close()  # whoever held it has removed it meanwhile
