"""Other processes beside the one that writes: a second writer, and readers all the time."""

from __future__ import annotations

import random
import time
from functools import partial
from pathlib import Path

from tests.faults.by_signals import done_before, finish
from tests.faults.commands import BY_NAME, GROWING, STAGES, Stage, digest
from tests.faults.fault import Fault
from tests.faults.process import Ended, Process

_REFUSALS = ("another process", "by another process meanwhile")
_OLDER = b"what was there before"
# Stages whose outputs are files, of which each is replaced for itself.
_OF_FILES = ("merge", "import", "export", "fit")
_SHOWN = {"index": "out/many.faiss", "extract": "out/pictures.h5", "train": "out/bridge"}


def inject_writer(stage: Stage, folder: Path, rng: random.Random) -> str:
    """The same command twice at a time: both make the result, or one says why it does not."""
    folder, whole = folder.resolve(), stage.whole()
    stage.begin(folder)
    pause = rng.choice((0.0, rng.uniform(0, whole.seconds)))
    first = stage.start(folder)
    time.sleep(pause)
    both = [stage.start(folder).end(), first.end()]
    for ended in both:
        assert "Traceback" not in ended.stderr, ended
        assert not ended.left, ended
        assert ended.code == stage.code or _refused(ended), ended
    assert any(ended.code == stage.code for ended in both), both
    finish(stage, folder)
    return f"{pause:.1f} s apart: {both[1].code} and {both[0].code}"


def inject_reader(stage: Stage, folder: Path, rng: random.Random) -> str:
    """Who reads while the command writes finds nothing, what was there before, or the result."""
    folder, whole = folder.resolve(), stage.whole()
    stage.begin(folder)
    replaces = stage.name in _OF_FILES and rng.random() < 0.5
    for name in whole.content if replaces else ():
        (folder / name).write_bytes(_OLDER)
    process = stage.start(folder, more=("--overwrite",) if replaces else ())
    stop = time.monotonic() + rng.uniform(0, whole.seconds)
    reads, shown = 0, stage.name not in _SHOWN
    while process.running():
        for name, wanted in whole.content.items():
            reads += _read(folder / name, folder, wanted, replaces=replaces)
        if not shown and time.monotonic() > stop:
            shown = True
            ended = Process(["info", _SHOWN[stage.name]], folder).end()
            assert ended.code in (0, 1), ended
            assert "Traceback" not in ended.stderr, ended
        time.sleep(0.002)
    ended = process.end()
    assert ended.code == stage.code, ended
    finish(stage, folder)
    return f"{reads} files read{', over older ones' * replaces}"


def _read(path: Path, folder: Path, wanted: str, *, replaces: bool) -> int:
    if path.name in GROWING:
        return 0
    try:
        if replaces and path.read_bytes() == _OLDER:
            return 1
        found = digest(path, folder)
    except FileNotFoundError:
        return 0
    assert found == wanted, f"{path} was seen when it was not whole"
    return 1


def _refused(ended: Ended) -> bool:
    told = [line for line in ended.sentences if line.startswith("error: ")]
    return ended.code == 1 and len(told) == 1 and (
        done_before(ended) or any(one in told[0] for one in _REFUSALS)
    )  # fmt: skip


FAULTS = [Fault(stage.name, "two writers", partial(inject_writer, stage)) for stage in STAGES] + [
    Fault(name, "reader", partial(inject_reader, BY_NAME[name]))
    for name in ("extract", "merge", "import", "index", "train", "fit", "export", "run")
]
