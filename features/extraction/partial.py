"""The unfinished output of an extraction: an append-only file of rows and a journal.

A batch is committed by appending its rows and then one line to the journal; a line that
was cut off, or whose rows do not match its checksum, does not count. So a process may be
killed at any moment: what was committed before stays, and the next run goes on from there.

    NAME.h5.partial/plan.json      what is being made; another plan cannot continue it
    NAME.h5.partial/rows.bin       committed embeddings, one after another
    NAME.h5.partial/journal.jsonl  one line a batch: rows, checksum, failures
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import xxhash

from features.errors import UserError
from features.files import explained, replacing
from features.locks import take_lock
from features.memories.provenance import side_by_side
from features.parsing import parse_json
from features.sealed import read_sealed, sealed, sealed_line, unsealed, unsealed_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CONTENT = ("rows.bin", "journal.jsonl")
BLOCK_BYTES = 64 << 20
SYNC_SECONDS = 2.0  # at most this much is lost when the machine, not the process, stops


@dataclass(frozen=True)
class Failure:
    """An item that could not be embedded, and why."""

    id: str
    item: str
    reason: str


def write_failures(path: Path, failures: Sequence[Failure]) -> None:
    """Write a list of failures, a JSON object a line; without any, remove an older list."""
    if not failures:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as temporary:
        lines = (json.dumps(sealed(asdict(one))) + "\n" for one in failures)
        temporary.write_text("".join(lines), encoding="utf-8")


def read_failures(path: Path) -> list[Failure]:
    """The failures in a list that `write_failures` wrote, none if there is no list.

    Raises UserError if it is damaged.
    """
    lines = path.read_bytes().splitlines() if path.exists() else []
    try:
        return [_failure(unsealed(parse_json(line))) for line in lines]
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({error}): copy it again, or extract again with --overwrite"
        ) from error


def _failure(told: Any) -> Failure:
    """Raises TypeError for what is no failure."""
    failure = Failure(**told)
    if not all(isinstance(one, str) for one in (failure.id, failure.item, failure.reason)):
        raise TypeError("a failure is an id, an item and a reason")
    return failure


class Partial:
    """An unfinished output, open for appending by this process alone."""

    def __init__(self, folder: Path, plan: Mapping[str, Any], row_bytes: int) -> None:
        """Start the output in `folder`, or continue it if it was started with the same plan.

        Raises UserError if another process is writing it or it was started otherwise.
        """
        self.folder = folder
        self.row_bytes = row_bytes
        self.batches = 0
        self.rows = 0
        self.continued = False  # whether an earlier process began it
        self.failures: list[Failure] = []
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(folder)
            try:
                self._agree_on(plan)
                self._journal = (folder / "journal.jsonl").open("ab+")
                self._data = (folder / "rows.bin").open("ab+")
                self._recover()
            except BaseException:
                self._lock.close()
                raise
        self._synced = time.monotonic()

    def commit(self, rows: NDArray[Any], failures: Sequence[Failure]) -> None:
        """Append one batch; it survives from the moment this returns."""
        content = np.ascontiguousarray(rows).tobytes()
        entry = {
            "batch": self.batches,
            "rows": len(rows),
            "checksum": xxhash.xxh3_64_hexdigest(content),
            "failures": [asdict(failure) for failure in failures],
        }
        with explained(self.folder):
            self._data.write(content)
            self._data.flush()
            self._journal.write(sealed_line(entry))
            self._journal.flush()
            if time.monotonic() - self._synced > SYNC_SECONDS:
                self._sync()
        self.batches += 1
        self.rows += len(rows)
        self.failures += failures

    def stored(self, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
        """All committed rows in order, in blocks of some megabytes, as `dtype` lays them out."""
        with explained(self.folder):
            self._sync()
        if not self.rows:
            return
        rows = np.memmap(self.folder / "rows.bin", dtype=dtype, mode="r", shape=(self.rows,))
        block = max(1, BLOCK_BYTES // dtype.itemsize)
        for start in range(0, self.rows, block):
            yield rows[start : start + block]

    def close(self) -> None:
        """Let other processes continue; what was committed is written already."""
        for file in (self._data, self._journal, self._lock):
            # After a failed write the rest is still buffered, and fails again here.
            with suppress(OSError):
                file.close()

    def remove(self) -> None:
        """Delete the folder, once its content lives elsewhere, and close."""
        _delete(self.folder)
        self.close()

    def _agree_on(self, plan: Mapping[str, Any]) -> None:
        path = self.folder / "plan.json"
        if not path.exists():
            # Rows without a plan are what is left of a deletion that was cut short.
            for name in _CONTENT:
                (self.folder / name).unlink(missing_ok=True)
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(sealed(plan), indent=1, sort_keys=True))
            return
        started = _plan(path)
        if not started:
            raise UserError(
                f"{path} is damaged: pass --overwrite to extract from the start, or delete "
                f"{self.folder}"
            )
        wanted = json.loads(json.dumps(plan))
        if started == wanted:
            self.continued = True
            return
        name = next(k for k in sorted({*started, *wanted}) if started.get(k) != wanted.get(k))
        then, now = started.get(name), wanted.get(name)
        told, details = f"{name}: {then} then, {now} now", ""
        if isinstance(then, dict) and isinstance(now, dict):
            told, details = name, side_by_side(("then", then), ("now", now))
        raise UserError(
            f"{self.folder} was started with other settings ({told}): use the same settings to "
            "continue, or --overwrite",
            details=details,
        )

    def _recover(self) -> None:
        """Keep the longest run of whole batches; cut off what follows them."""
        journal_bytes, available = 0, os.fstat(self._data.fileno()).st_size
        self._journal.seek(0)
        self._data.seek(0)
        for line in self._journal:
            entry = _entry(line)
            if entry is None or entry["batch"] != self.batches:
                break
            if entry["rows"] * self.row_bytes > available - self._data.tell():
                break  # before so many bytes are asked for
            content = self._data.read(entry["rows"] * self.row_bytes)
            if xxhash.xxh3_64_hexdigest(content) != entry["checksum"]:
                break
            journal_bytes += len(line)
            self.batches += 1
            self.rows += entry["rows"]
            self.failures += entry["failures"]
        self._journal.truncate(journal_bytes)
        self._data.truncate(self.rows * self.row_bytes)

    def _sync(self) -> None:
        for file in (self._data, self._journal):
            file.flush()
            os.fsync(file.fileno())
        self._synced = time.monotonic()


def has_plan(folder: Path) -> bool:
    """Whether `folder` is an unfinished output, and not the rest of a deleted one."""
    return (folder / "plan.json").exists()


def continues(folder: Path, plan: Mapping[str, Any]) -> bool:
    """Whether `folder` is an unfinished output of this plan."""
    path = folder / "plan.json"
    return path.exists() and _plan(path) == json.loads(json.dumps(plan))


def _plan(path: Path) -> dict[str, Any]:
    try:
        return read_sealed(path)
    except (OSError, ValueError):
        return {}  # equal to no plan


def discard(folder: Path) -> None:
    """Delete an unfinished output. Raises UserError if another process is writing it."""
    with _locked(folder):
        _delete(folder)


def _delete(folder: Path) -> None:
    """Delete the plan first: without it, nobody takes the rest for an unfinished output."""
    (folder / "plan.json").unlink(missing_ok=True)
    shutil.rmtree(folder)


def _locked(folder: Path) -> IO[str]:
    told = f"another process is writing {folder}: wait for it or choose another output"
    return take_lock(folder / "lock", told)


def _entry(line: bytes) -> dict[str, Any] | None:
    """The entry of a journal line, or None if the line is not as it was written."""
    try:
        entry: dict[str, Any] = unsealed_line(line)
        entry["failures"] = [_failure(one) for one in entry["failures"]]
        counts = (entry["batch"], entry["rows"])
        whole = all(type(one) is int and one >= 0 for one in counts) and "checksum" in entry
    except (TypeError, KeyError):
        return None
    return entry if whole else None
