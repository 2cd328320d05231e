"""Faults of the system at every stage: full and dying disks, short writes, folders not to write."""

from __future__ import annotations

import errno
import random
import shutil
import sys
from functools import partial
from pathlib import Path

from tests.faults.fault import Fault, MissedError
from tests.faults.forked import Ended
from tests.faults.shim import COMPILER, KINDS, Kind
from tests.faults.stages import STAGES, Stage, content, shop

MERE_CACHE = "pseudo-pairs"  # what cannot be kept is told, and the training goes on


def inject(stage: Stage, kind: Kind, folder: Path, generator: random.Random) -> str:
    """One fault at a random call of a stage, and the same command again when it has passed."""
    out = folder / "out"
    out.mkdir()
    stage.fills(shop(), out)
    calls = shop().calls(stage, kind)
    if not calls:
        raise MissedError(f"makes no call that {kind.name} could disturb")
    at = generator.randint(1, calls)
    ended = shop().run(stage, out, kind, at)
    what = f"{kind.name} at call {at} of {calls}"
    check_told(stage, kind, ended, out)
    left = [path for path in out.rglob("*.tmp") if path.is_file()]
    assert not left, f"{what}: left over {left}"
    if ended.code == 0:
        how = "done all the same"
    else:
        how = ended.stderr.strip().splitlines()[-1].replace(str(folder), "")
    if ended.code or stage.name == MERE_CACHE:
        again = shop().run(stage, out)
        assert again.code == 0, f"{what}, and then: {again.stderr}"
    compare(content(out), shop().undisturbed(stage), what)
    shutil.rmtree(out)
    return f"{what}: {how}"


def inject_limit(stage: Stage, folder: Path, generator: random.Random) -> str:
    """A limit on the size of files (ulimit -f), and the same command again without one."""
    out = folder / "out"
    out.mkdir()
    stage.fills(shop(), out)
    made = max(map(len, shop().undisturbed(stage).values()))
    most = generator.randint(min(1000, made - 1), made - 1)  # the error is also written to a file
    ended = shop().commands.run(stage.arguments(shop(), out), {}, file_bytes=most)
    what = f"files of at most {most} bytes"
    check_told(stage, LIMIT, ended, out)
    again = shop().run(stage, out)
    assert again.code == 0, f"{what}, and then: {again.stderr}"
    compare(content(out), shop().undisturbed(stage), what)
    return f"{what}: {ended.stderr.strip().splitlines()[-1].replace(str(folder), '')}"


def check_told(stage: Stage, kind: Kind, ended: Ended, out: Path) -> None:
    """What was said is a sentence that names what happened, and where."""
    assert "Traceback" not in ended.stderr, ended.stderr
    if stage.name == MERE_CACHE or not kind.error:
        assert ended.code == 0, ended.stderr
    assert ended.code in (0, 1), f"{ended.code}: {ended.stderr}"
    where = f"paths in the error are relative to {out}"
    lines = [one for one in ended.stderr.splitlines() if "rror" in one and one != where]
    if ended.code:
        assert ended.stdout == "", ended.stdout
        assert len(lines) == 1, ended.stderr
        assert lines[0].startswith("error: "), ended.stderr
        assert any(said in lines[0] for said in kind.said), lines[0]
        assert str(out) in lines[0] or (
            where in ended.stderr.splitlines() and " made/" in lines[0]
        ), ended.stderr


def compare(found: dict[str, bytes], wanted: dict[str, bytes], what: str) -> None:
    """Raise AssertionError unless both are the same files."""
    assert sorted(found) == sorted(wanted), f"{what}: {sorted(found)}, not {sorted(wanted)}"
    other = [name for name in wanted if found[name] != wanted[name]]
    assert not other, f"{what}: other content in {other}"


LIMIT = Kind("file size", "write", errno.EFBIG, True, ("is larger than files may be here",))
LIMITED = ("extract", "merge", "project", "index", "export .npy", "export .parquet")
FAULTS = [
    Fault(stage.name, kind.name, partial(inject, stage, kind))
    for kind in (KINDS if COMPILER and sys.platform == "linux" else ())
    for stage in STAGES
] + [
    Fault(stage.name, LIMIT.name, partial(inject_limit, stage))
    for stage in (STAGES if COMPILER else ())
    if stage.name in LIMITED
]
