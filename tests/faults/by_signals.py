"""SIGKILL, SIGTERM and Ctrl-C at any moment of any stage; the same command then continues.

Half of the moments are drawn from the time that the command takes, most of the others from its
writes: the folder is watched, and the signal comes when one of its files has just changed. A
command may get several in a row, each after another start.
"""

from __future__ import annotations

import random
import signal
import time
from functools import partial
from pathlib import Path

from tests.faults.commands import GROWING, STAGES, Stage, Whole, content, digest, listing
from tests.faults.fault import Fault, MissedError
from tests.faults.process import PATIENCE, Ended, Process

IN_A_ROW = 2
SAID = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: 137}


def inject(stage: Stage, number: signal.Signals, folder: Path, rng: random.Random) -> str:
    """Signal the command, or all that it started, and continue it to its end."""
    folder, whole = folder.resolve(), stage.whole()
    stage.begin(folder)
    told, hit = [], False
    for _ in range(rng.randint(1, IN_A_ROW)):
        process = stage.start(folder)
        to_all = rng.random() < 0.5
        where = _wait(process, whole, folder, rng)
        process.send(number, None if to_all else process.popen.pid)
        ended = process.end()
        told.append(f"{'group ' * to_all}{where}: {ended.code}")
        hit |= ended.code == SAID[number]
        if done_before(ended):
            break
        check_ended(ended, number, stage)
        check_parts(stage, folder)
        if ended.code in (0, stage.code):
            break
    finish(stage, folder)
    if not hit:
        raise MissedError(f"ended before the signal: {'; '.join(told)}")
    return "; ".join(told)


def inject_worker(stage: Stage, folder: Path, rng: random.Random) -> str:
    """Kill one of the processes that the command started; it goes on to its end."""
    folder, whole = folder.resolve(), stage.whole()
    stage.begin(folder)
    process = stage.start(folder)
    hit = 0
    stop = time.monotonic() + whole.first_change + rng.uniform(-0.5, 2)
    while process.running():
        others = process.others()
        if time.monotonic() > stop and others:
            hit += process.send(signal.SIGKILL, rng.choice(others))
            break
        time.sleep(0.005)
    ended = process.end()
    assert ended.code in (stage.code, 1), ended
    assert "Traceback" not in ended.stderr, ended
    assert not ended.left, ended
    check_parts(stage, folder)
    finish(stage, folder)
    if not hit:
        raise MissedError("ended before the signal")
    return f"{hit} killed: {ended.code}"


def check_ended(ended: Ended, number: signal.Signals, stage: Stage) -> None:
    """It ended by the signal, or before it; it left no process; and it said so in a sentence."""
    assert not ended.left, ended
    assert "Traceback" not in ended.stderr, ended
    if ended.code in (0, stage.code, SAID[signal.SIGKILL]):
        return
    said = [line for line in ended.sentences if line.startswith("stopped")]
    # Without a word, if it had not begun or was done already.
    assert ended.code == SAID[number], ended
    assert len(said) <= 1, ended
    assert said or not ended.sentences or ended.stdout, ended


def done_before(ended: Ended) -> bool:
    """Whether the command says that what it makes is there."""
    return ended.code == 1 and any(" exists" in one or "holds a" in one for one in ended.sentences)


def check_parts(stage: Stage, folder: Path) -> None:
    """What is there under the name of a finished file is finished."""
    expected = stage.whole().content
    for name, wanted in expected.items():
        path = folder / name
        if path.exists() and path.name not in GROWING:
            assert digest(path, folder) == wanted, f"{name} is not what it should be"


def finish(stage: Stage, folder: Path) -> None:
    """Run the command to its end: the result is the undisturbed one, and nothing is left over."""
    expected = stage.whole().content
    ended = stage.start(folder).end()
    assert "Traceback" not in ended.stderr, ended
    assert not ended.left, ended
    assert ended.code == stage.code or done_before(ended), ended
    found = content(folder)
    assert found.keys() == expected.keys(), (
        f"left over: {sorted(found.keys() - expected.keys())}, "
        f"missing: {sorted(expected.keys() - found.keys())}; {ended}"
    )
    differing = [name for name in expected if found[name] != expected[name]]
    assert not differing, differing


def _wait(process: Process, whole: Whole, folder: Path, rng: random.Random) -> str:
    """Until the moment of the signal; says which it is."""
    started = time.monotonic()
    while not process.begun() and process.running():
        time.sleep(0.002)
    kind = rng.random()
    if kind < 0.6:
        changes = rng.randint(1, 8)
        stop = started + PATIENCE
    else:
        changes = 0
        # Where it computes and writes, rather than where it imports.
        first = min(whole.first_change, whole.seconds) if kind < 0.8 else 0.0
        stop = started + rng.uniform(first, whole.seconds)
    seen, before = 0, listing(folder)
    while process.running() and time.monotonic() < stop:
        time.sleep(0.001)
        if changes:
            now = listing(folder)
            seen += now != before
            before = now
            if seen >= changes:
                break
    if changes:
        time.sleep(rng.choice((0, 0, 0.002, 0.01)))
        return f"at change {seen}"
    return f"after {time.monotonic() - started:.1f} s"


FAULTS = [
    Fault(stage.name, number.name, partial(inject, stage, number))
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
    for stage in STAGES
] + [Fault("extract", "SIGKILL of a worker", partial(inject_worker, STAGES[0]))]
