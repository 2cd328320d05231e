"""Which files of a folder are shared, and how they come into another one.

Only what a bridge is made of: safetensors, JSON, TOML and the model card at the top, and results
of `mcr eval`. Everything else stays where it is, and is named: pickles above all, but also
memories, pictures, and what trackers wrote, which tells of the machine.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from bridge.artefact import load
from bridge.runs.layout import (
    ABOUT_FILE,
    CARD_FILE,
    EVALUATION,
    METRICS_FILE,
    RESULTS_FOLDER,
    RUN_FILE,
    SETTINGS_FILE,
)
from bridge.tcl.matcher import MATCHER_FILE
from features.errors import UserError
from features.files import COMING, coming_folder, explained, move_folder
from features.sealed import read_sealed

PATTERNS = ("*.safetensors", "*.json", "*.jsonl", "*.toml", CARD_FILE)
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib")
_PLAIN = re.compile(r"\w[\w.+ -]*")  # names that are no patterns, hidden or beyond the folder
RECORDS = (MATCHER_FILE, METRICS_FILE, RUN_FILE, SETTINGS_FILE)  # that not all bridges have
_CACHES = (".cache", ".git", ".gitattributes")  # that hubs and repositories add by themselves


@dataclass(frozen=True)
class Share:
    """What of a folder is shared: names relative to it, `/` between parts.

    left_out: everything else; of folders below the top, the folder alone.
    """

    names: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def told(self) -> str | None:
        """A sentence about what is left out, or None if nothing is."""
        if not self.left_out:
            return None
        pickles = [name for name in self.left_out if name.lower().endswith(PICKLES)]
        because = f"; {', '.join(pickles)} may run code when it is loaded" if pickles else ""
        return (
            f"left out: {', '.join(self.left_out)} (only safetensors, JSON, TOML, {CARD_FILE} and "
            f"{RESULTS_FOLDER}/*.json are shared{because})"
        )


def shared(names: Sequence[str]) -> Share:
    """Sort the names of all files of a folder into those that are shared and the others."""
    chosen, others = [], []
    for name in sorted(names):
        parts = PurePosixPath(name).parts
        if parts[0] in _CACHES:
            continue
        if _is_shared(parts):
            chosen.append(name)
        elif len(parts) > 1 and parts[0] != RESULTS_FOLDER and not name.lower().endswith(PICKLES):
            others.append(f"{parts[0]}/")
        else:
            others.append(name)
    return Share(tuple(chosen), tuple(dict.fromkeys(others)))


def share_of(folder: Path, *, links: bool = False) -> Share:
    """What of `folder` is shared. links: follow those that lead out of it, as a hub's cache has."""
    inside = folder.resolve()
    names: list[str] = []
    outside: list[str] = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        name = path.relative_to(folder).as_posix()
        leads_out = not links and not path.resolve().is_relative_to(inside)
        (outside if leads_out else names).append(name)
    share = shared(names)
    foreign = [
        name
        for name in share.names
        if name.startswith(f"{RESULTS_FOLDER}/") and not _is_result(folder / name)
    ]
    kept = tuple(name for name in share.names if name not in foreign)
    return Share(kept, (*share.left_out, *foreign, *outside))


@contextmanager
def placed(out: Path, *, overwrite: bool, what: str) -> Iterator[Path]:
    """A folder to fill, whose files come into `out` once the bridge in it has been loaded.

    Files of an earlier bridge there are replaced, everything else stays.
    what: names the source in messages. Raises UserError if `out` holds something that may not be
    replaced, or what was put into the folder is not a bridge.
    """
    refuse_occupied(out, overwrite=overwrite)
    out = out.resolve()  # `.` has no name and no parent
    with explained(out):
        near = out if out.exists() else out.parent
        with coming_folder(near, out.name) as temporary:
            yield temporary
            check_bridge(temporary, what)
            refuse_occupied(out, overwrite=overwrite)  # by another process, meanwhile
            _move(temporary, out)


def refuse_occupied(out: Path, *, overwrite: bool) -> None:
    """Raise UserError if `out` exists, and is not a bridge that may be replaced."""
    if out.is_dir() and all(one.name.startswith(f".{COMING}") for one in out.iterdir()):
        return
    if out.exists() and not (out / ABOUT_FILE).exists():
        raise UserError(f"{out} exists and is not a bridge's folder: choose another")
    if out.exists() and not overwrite:
        raise UserError(f"{out} holds a bridge: pass --overwrite to replace it, or choose another")


def check_bridge(folder: Path, what: str) -> str:
    """The fingerprint of the bridge in `folder`. Raises UserError, in words of `what`, if none."""
    if not (folder / ABOUT_FILE).exists():
        raise UserError(f"{what} is not a bridge, it has no {ABOUT_FILE}: check the name")
    try:
        return load(folder, device="cpu").fingerprint
    except UserError as error:
        raise UserError(str(error).replace(str(folder), what)) from error


def copy_files(source: Path, names: Sequence[str], out: Path) -> int:
    """Copy files, and nothing of their permissions or owners. Returns their bytes."""
    size = 0
    for name in names:
        to = out / name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, to)
        size += to.stat().st_size
    return size


def _is_shared(parts: Sequence[str]) -> bool:
    if not all(_PLAIN.fullmatch(part) for part in parts):
        return False
    if len(parts) == 1:
        return any(fnmatchcase(parts[0], pattern) for pattern in PATTERNS)
    return len(parts) == 2 and parts[0] == RESULTS_FOLDER and parts[1].endswith(".json")


def _is_result(path: Path) -> bool:
    with suppress(OSError, ValueError, AttributeError):
        return bool(read_sealed(path).get("format") == EVALUATION)
    return False


def _move(temporary: Path, out: Path) -> None:
    """Move a bridge into `out`, `bridge.json` last: killed before, it can be moved there again."""
    if not out.exists():
        move_folder(temporary, out)
        return
    coming = {path.relative_to(temporary) for path in temporary.rglob("*") if path.is_file()}
    for name in coming - {Path(ABOUT_FILE)}:
        (out / name).parent.mkdir(exist_ok=True)
        (temporary / name).replace(out / name)
    for record in RECORDS:
        if Path(record) not in coming:
            (out / record).unlink(missing_ok=True)  # it tells of the bridge that is replaced
    (temporary / ABOUT_FILE).replace(out / ABOUT_FILE)
