"""What a device has left is what the machine and the process's control groups say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from features import room
from features.room import all_bytes, free_bytes

CPU = torch.device("cpu")
GIB = 1 << 30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Write files of a system that has 8 GiB available, and others by name."""
    monkeypatch.setattr(room, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(room, "_CGROUPS", tmp_path / "cgroup")

    def write(**files: str) -> None:
        files = {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable: {8 << 20} kB\n", **files}
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


def group(folder: str, limit: object, used: int, cache: int = 0) -> dict[str, str]:
    return {
        f"cgroup{folder}/memory.max": f"{limit}\n",
        f"cgroup{folder}/memory.current": f"{used}\n",
        f"cgroup{folder}/memory.stat": f"anon 7\ninactive_file {cache}\n",
    }


def test_without_groups_it_is_what_the_machine_has(machine):
    machine()
    assert free_bytes(CPU) == 8 * GIB


def test_a_group_with_a_limit_has_less(machine):
    machine(
        **{"proc/self/cgroup": "0::/job/one\n"},
        **group("/job/one", 4 * GIB, 3 * GIB, GIB // 2),
    )
    assert free_bytes(CPU) == GIB + GIB // 2


def test_all_that_there_is_is_the_machine_s_or_the_least_limit_of_a_group(machine):
    machine()
    whole = all_bytes()
    assert whole == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    machine(
        **{"proc/self/cgroup": "0::/job/one\n"},
        **group("/job/one", GIB // 4, 0),
        **group("/job", GIB // 2, 0),
    )
    assert all_bytes() == min(whole, GIB // 4)


def test_a_group_around_it_counts_as_well(machine):
    machine(
        **{"proc/self/cgroup": "0::/job/one\n"},
        **group("/job/one", "max", 3 * GIB),
        **group("/job", 5 * GIB, 3 * GIB),
        **group("", 9 * GIB, 3 * GIB),
    )
    assert free_bytes(CPU) == 2 * GIB


def test_a_full_group_has_nothing(machine):
    machine(**{"proc/self/cgroup": "0::/\n"}, **group("", GIB, 2 * GIB))
    assert free_bytes(CPU) == 0


def test_groups_of_the_first_version(machine):
    machine(
        **{
            "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n",
            "cgroup/memory/memory.limit_in_bytes": f"{3 * GIB}\n",
            "cgroup/memory/memory.usage_in_bytes": f"{2 * GIB}\n",
            "cgroup/memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {GIB}\n",
        }
    )
    assert free_bytes(CPU) == 2 * GIB


def test_no_limit_of_the_first_version_is_a_huge_number(machine):
    machine(
        **{
            "proc/self/cgroup": "4:memory:/\n",
            "cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "cgroup/memory/memory.usage_in_bytes": f"{2 * GIB}\n",
        }
    )
    assert free_bytes(CPU) == 8 * GIB


@pytest.mark.parametrize("text", ["", "MemTotal: 99 kB\n"])
def test_a_system_that_does_not_say_has_all_its_memory(machine, text):
    machine(**{"proc/meminfo": text})
    assert free_bytes(CPU) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_this_machine_has_some():
    assert 0 < free_bytes(CPU) <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert Path("/proc") == room._PROC


@pytest.mark.skipif(sys.platform != "linux", reason="as the C library of Linux keeps memory")
def test_what_was_freed_goes_back_to_the_system() -> None:
    """In a process of its own, so that nothing else is freed."""
    program = (
        "from pathlib import Path\n"
        "from features.room import give_back\n"
        "def resident(): return int(Path('/proc/self/statm').read_text().split()[1])\n"
        "blocks = [bytes(50_000) for _ in range(4000)]\n"  # below what the library maps alone
        "last = bytes(50_000)\n"  # keeps the heap from shrinking by itself
        "del blocks\n"
        "before = resident()\n"
        "give_back()\n"
        "print(before - resident())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) * os.sysconf("SC_PAGE_SIZE") > 100e6
