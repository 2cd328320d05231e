"""`python -m tests.fuzz.reader NAME FOLDER ARGUMENTS`: one reader under atheris, in this process.

atheris ends the process itself: after so many runs with 0; with another code where an input
crashes it, hangs, or takes too much memory. That input then lies in FOLDER. Inputs that make a
reader raise what it should not lie in FOLDER/failed, one for each place in the code, and do not
end anything. ARGUMENTS are libFuzzer's.
"""

from __future__ import annotations

import gc
import json
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random

import atheris

_READERS = ["features", "bridge", "tomllib"]
_EDITED = 1000  # HDF5 files
_CHECKED = 10_000  # inputs between two looks at the memory
_ROOT = str(Path(__file__).parents[2])
_LEAK = 256 << 20  # bytes that a process may have grown by

with atheris.instrument_imports(include=_READERS, enable_loader_override=False):
    from tests.fuzz.mutations import mutated
    from tests.fuzz.readers import target_named
    from tests.fuzz.watching import MisbehavedError, Watched

    if __name__ == "__main__":
        _TARGET = target_named(sys.argv[1])


def main() -> None:
    """Fuzz until atheris ends the process."""
    folder, *arguments = sys.argv[2:]
    target = _TARGET
    place, corpus = Path(folder), Path(folder) / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as made:
        seeds = list(target.seeds(Path(made)))
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    work = Path(tempfile.mkdtemp(dir=place))
    watched = Watched(target, work)
    watched.warm(seeds)
    tell = _teller(place / "done.json", watched)
    structured = Random(0)
    # HDF5 itself edits its files: before it has seen a bad one, after which it may crash.
    edited = [
        mutated(structured.choice(seeds), target.form, structured)
        for _ in range(_EDITED if target.form == "hdf5" else 0)
    ]

    failed = place / "failed"
    failed.mkdir(exist_ok=True)

    def one(content: bytes) -> None:
        try:
            watched(content)
        except Exception as error:
            name = _where(error)
            if not (failed / name).exists():
                (failed / name).write_bytes(content)
                (failed / f"{name}.txt").write_text("".join(traceback.format_exception(error)))
        tell()

    def change(content: bytes, most: int, seed: int) -> bytes:
        structured.seed(seed)
        if target.form == "bytes" or structured.random() < 0.4:
            return bytes(atheris.Mutate(content, most))
        if edited:
            made = structured.choice(edited)
            more = structured.random() < 0.7
            return (mutated(made, "bytes", structured) if more else made)[:most]
        return mutated(content, target.form, structured)[:most]

    longest = max(4096, 2 * max(map(len, seeds)))
    options = [sys.argv[0], f"-max_len={longest}", "-mutate_depth=2", *arguments, str(corpus)]
    atheris.Setup(options, one, custom_mutator=change)
    atheris.Fuzz()


def _where(error: BaseException) -> str:
    """The place in the project's code that raised an error, as the name of a file."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(_ROOT)]
    last = frames[-1] if frames else traceback.FrameSummary("unknown", 0, "")
    told = f"{type(error).__name__}-{Path(last.filename).stem}-{last.lineno}"
    if isinstance(error, MisbehavedError):
        told += "-" + re.sub(r"\W+", "-", str(error))[:40]
    return told


def _teller(path: Path, watched: Watched) -> Callable[[], None]:
    """Notes now and then how far it is, and looks for leaks."""
    started, first = time.monotonic(), None

    def tell() -> None:
        nonlocal first
        if watched.inputs % 100 == 0 or watched.inputs < 3:
            told = {"inputs": watched.inputs, "refused": watched.refused}
            path.write_text(json.dumps({**told, "seconds": time.monotonic() - started}))
        if watched.inputs % _CHECKED == 0:
            gc.collect()
            first = first or _resident()
            if _resident() - first > _LEAK:
                raise MisbehavedError(f"{(_resident() - first) >> 20} MiB more than at first")

    return tell


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


if __name__ == "__main__":
    main()
