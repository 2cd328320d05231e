"""Writing files so that a reader never sees half of one, and saying why when it fails."""

from __future__ import annotations

import errno
import glob
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from features.errors import UserError

COMING = "coming"  # begins the names of folders that are being filled, after a dot
_ENDING = ".tmp"
MEMORY_SUFFIX = ".h5"  # ends the names of memories
SPARE_BYTES = 1 << 20  # for what a file format adds
_TOLD = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM,
)  # fmt: skip
_UNSAID = "error closing file"  # Arrow's, for any reason


@contextmanager
def replacing(path: Path, *, synced: bool = True, new: bool = False) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well.

    synced: wait for the disk before, so that a power cut leaves the old file or the new one.
    new: there must be no other file at `path`, also if another process was faster.

    Raises UserError if the disk is full, the folder cannot be written, or the file is not new.
    """
    temporary = _temporary(path)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())  # some writers make files for the owner alone
            if synced:
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
            _place(temporary, path, new=new)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def coming_folder(parent: Path, name: str) -> Iterator[Path]:
    """A new folder called `name`, in a hidden one of `parent`, to be moved where it belongs.

    What is left in the hidden one goes with it; those of processes that were killed go first.
    """
    with explained(parent / name):
        parent.mkdir(parents=True, exist_ok=True)
        coming = parent / COMING
        _remove_leftovers(coming)
        start = _temporary(coming).name.removesuffix(_ENDING)
        with TemporaryDirectory(prefix=f"{start}-", suffix=_ENDING, dir=parent) as held:
            made = Path(held) / name
            made.mkdir()
            yield made


def move_folder(folder: Path, path: Path) -> None:
    """Rename `folder` to `path`, which is not there. Raises UserError if it has come meanwhile."""
    try:
        folder.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise _not_new(path) from error
        raise


def remove_leftovers(folder: Path) -> None:
    """Delete all temporary files in `folder` of processes of this machine that were killed."""
    for leftover in folder.glob(f".*{_ENDING}"):
        name, _, _ = leftover.name.rpartition(f".{platform.node()}-")
        if name:
            _remove_leftovers(folder / name[1:])


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
        if str(error) == _UNSAID:
            raise UserError(
                f"{path} could not be written ({error}): check the disk and run the same command "
                "again"
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
    _remove_leftovers(path)  # also of one that was killed when its file had just taken its place
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists: pass {remedy} or choose another output")


def require_h5(path: Path) -> Path:
    """`path`, the output of a command. Raises UserError unless it is called NAME.h5."""
    if path.suffix != MEMORY_SUFFIX:
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
    for leftover in path.parent.glob(f"{glob.escape(start)}*{_ENDING}"):
        # A folder has some letters behind the number of the process.
        process, _, _ = leftover.name.removeprefix(start).removesuffix(_ENDING).partition("-")
        if process.isdigit() and not _alive(int(process)):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                with suppress(OSError):  # of a folder that may not be written, say
                    leftover.unlink()


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}{_ENDING}")


def _place(temporary: Path, path: Path, *, new: bool) -> None:
    if new:
        try:
            os.link(temporary, path)
        except FileExistsError as error:
            raise _not_new(path) from error
        except OSError:  # where the file system has no hard links
            pass
        else:
            return
    temporary.replace(path)


def _not_new(path: Path) -> UserError:
    return UserError(
        f"{path} was made by another process meanwhile: keep it, pass --overwrite "
        "(overwrite=True), or choose another output"
    )


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
