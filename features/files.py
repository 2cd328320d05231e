"""Writing files so that a reader never sees half of one, and saying why when it fails."""

from __future__ import annotations

import errno
import glob
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from features.errors import UserError

SPARE_BYTES = 1 << 20  # for what a file format adds
_TOLD = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


@contextmanager
def replacing(path: Path, *, synced: bool = True) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well.

    synced: wait for the disk before, so that a power cut leaves the old file or the new one.

    Raises UserError if the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.tmp")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())  # some writers make files for the owner alone
            if synced:
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's reasons for not writing `path` into a UserError."""
    try:
        yield
    except UserError:
        raise  # it is explained already
    except Exception as error:
        number = _reason(error)
        why = os.strerror(number)
        if number in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(_existing(path)).free
            raise UserError(
                f"the disk is full: {path} could not be written with {free / 1e6:.1f} MB free"
                f"{f' ({why})' * (number == errno.EDQUOT)}; make room and run the same command "
                "again"
            ) from error
        if number == errno.EFBIG:
            raise UserError(
                f"{path} could not be written: it is larger than files may be here ({why}, see "
                "`ulimit -f`); raise the limit, or choose another output"
            ) from error
        if number == errno.EIO:
            raise UserError(
                f"{path} could not be written: the disk failed ({why}); check it and run the same "
                "command again, or choose another output"
            ) from error
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UserError(f"{path} may not be written ({why}): choose another output") from error
        if isinstance(error, NotADirectoryError | FileExistsError):
            raise UserError(
                f"{path} cannot be made because a part of its path is a file: choose another output"
            ) from error
        raise


def _reason(error: Exception) -> int:
    """The operating system's number of an error, 0 if it has none.

    HDF5, FAISS and safetensors say in their messages only what failed.
    """
    if isinstance(error, OSError) and error.errno:
        return error.errno
    return next((number for number in _TOLD if os.strerror(number) in str(error)), 0)


def require_space(path: Path, size: int) -> None:
    """Raise UserError unless `size` bytes, and a little more, fit beside `path`."""
    free = shutil.disk_usage(_existing(path)).free
    if size + SPARE_BYTES > free:
        raise UserError(
            f"the disk is full: {path} needs {size / 1e6:.1f} MB and {free / 1e6:.1f} MB are free; "
            "make room and run the same command again"
        )


def refuse_existing(
    path: Path, *, overwrite: bool, remedy: str = "--overwrite (overwrite=True)"
) -> None:
    """Raise UserError if `path` exists and may not be replaced, or is a folder."""
    refuse_folder(path)
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists: pass {remedy} or choose another output")


def require_h5(path: Path) -> Path:
    """`path`, the output of a command. Raises UserError unless it is called NAME.h5."""
    if path.suffix != ".h5":
        raise UserError(f"a memory is called NAME.h5, not {path.name}: write {path.name}.h5")
    return path


def refuse_folder(path: Path) -> None:
    """Raise UserError if `path` is a folder."""
    if path.is_dir():
        raise UserError(f"{path} is a folder but the output is a file: choose another output")


def require_file(path: Path, what: str) -> Path:
    """`path` if it is a file. Raises UserError that says what was expected there."""
    if not path.exists():
        raise UserError(f"{what} {path} does not exist: check the path")
    if not path.is_file():
        raise UserError(f"{what} {path} is a folder, not a file: check the path")
    if not os.access(path, os.R_OK):
        raise UserError(f"{what} {path} may not be read: change its permissions")
    return path


def _remove_leftovers(path: Path) -> None:
    """Delete temporary files of processes that were killed while writing `path`."""
    start = f".{path.name}.{platform.node()}-"  # of this machine alone: disks may be shared
    for leftover in path.parent.glob(f"{glob.escape(start)}*.tmp"):
        process = leftover.name.removeprefix(start).removesuffix(".tmp")
        if process.isdigit() and not _alive(int(process)):
            leftover.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _existing(path: Path) -> Path:
    return next(folder for folder in [path, *path.absolute().parents] if folder.exists())
