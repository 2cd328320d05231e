"""A few damaged files of every kind: noticed, or the same as whole ones."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from features.errors import UserError
from features.memories.memory import Memory
from tests.faults.damage import DAMAGES, TARGETS, Target, inject, judge
from tests.faults.damaged_place import whole_place

KINDS = list(DAMAGES)


@pytest.mark.parametrize("place", range(len(TARGETS)), ids=[one.stage for one in TARGETS])
def test_damage_is_noticed_or_does_no_harm(place: int, tmp_path: Path) -> None:
    inject(TARGETS[place], KINDS[place % len(KINDS)], tmp_path, random.Random(place))


def test_a_flipped_bit_of_any_byte_of_a_memory_is_noticed(tmp_path: Path) -> None:
    whole = (whole_place() / "shared.h5").read_bytes()
    path = tmp_path / "m.h5"
    for place in range(0, len(whole), 37):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"is damaged, .*extract|is not a readable memory"):
            Memory(path).verify()


def test_a_process_that_reads_a_zeroed_header_ends_with_a_sentence(tmp_path: Path) -> None:
    whole = (whole_place() / "shared.h5").read_bytes()
    path = tmp_path / "m.h5"
    path.write_bytes(whole[:64] + bytes(700) + whole[764:])
    command = [sys.executable, "-c", "from cli.main import run; run()", "info", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "m.h5 is damaged, its header is not what was written: copy it again" in ended.stderr


def test_the_judge_is_not_fooled_by_a_file_that_is_another(tmp_path: Path) -> None:
    """What says nothing and makes something else is a failure of the suite."""
    place = whole_place()
    files = ("image.h5", "audio.h5")
    target = Target("memory", files, ("export",), files)
    (tmp_path / "image.h5").write_bytes((place / "audio.h5").read_bytes())
    with pytest.raises(AssertionError, match="made something else"):
        judge(target, "export", tmp_path, tmp_path / "image.h5")
