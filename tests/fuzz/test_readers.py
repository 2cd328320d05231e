"""A few inputs for every reader, made by hypothesis from files that are whole."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutations import mutated
from tests.fuzz.readers import every_target, target_named
from tests.fuzz.target import Target
from tests.fuzz.watching import MisbehavedError, Watched

_INPUTS, _FEW = 25, 8  # of each reader, and of slow ones; the fuzzer tries many more
_READERS = every_target()
_GROWS = """
import sys
from pathlib import Path
from tests.fuzz.target import Target
from tests.fuzz.watching import Watched

def grow(_):
    (b"a" * (100 << 20)).count(b"b")

Watched(Target("t", "a.txt", grow, list, memory=50 << 20), Path(sys.argv[1]))(b"")
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's own, whose path hypothesis would keep from test to test."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def _watched(target: Target, folder: Path) -> tuple[Watched, list[bytes]]:
    (folder / "seeds").mkdir()
    (folder / "work").mkdir()
    seeds = list(target.seeds(folder / "seeds"))
    watched = Watched(target, folder / "work")
    watched.warm(seeds)
    return watched, seeds


@pytest.mark.parametrize("name", list(_READERS))
def test_a_reader_bears_what_is_almost_a_file(name: str, folder: Path) -> None:
    watched, seeds = _watched(_READERS[name], folder)
    inputs = _INPUTS if _READERS[name].weight >= 1 else _FEW

    @settings(
        max_examples=inputs, deadline=None, database=None, derandomize=True,
        phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(seed=st.sampled_from(seeds), number=st.integers(0, 2**32))
    def read(seed: bytes, number: int) -> None:
        watched(mutated(seed, _READERS[name].form, Random(number)))

    read()
    assert watched.inputs >= inputs


def _reading(read: object, folder: Path) -> Watched:
    return Watched(Target("t", "a.txt", read, lambda _: [b"a"]), folder)  # type: ignore[arg-type]


def test_what_a_reader_must_not_do_is_seen(folder: Path) -> None:
    outside = folder.with_name(f"{folder.name}-outside")

    def crash(path: Path) -> None:
        raise KeyError(path.name)

    with pytest.raises(KeyError):
        _reading(crash, folder)(b"")
    with pytest.raises(MisbehavedError, match="it did open"):
        _reading(lambda _: Path("/etc/hostname").read_text(), folder)(b"")
    with pytest.raises(MisbehavedError, match="it did open"):
        _reading(lambda _: outside.write_text(""), folder)(b"")
    outside.unlink()
    with pytest.raises(MisbehavedError, match=r"it did os\.system"):
        _reading(lambda _: __import__("os").system("true"), folder)(b"")

    def spin(_: Path) -> None:
        sum(range(2_000_000))

    slow = Target("t", "a.txt", spin, lambda _: [b"a"], seconds=0.001)
    with pytest.raises(MisbehavedError, match="of processor time"):
        Watched(slow, folder)(b"")


def test_memory_that_a_reader_takes_is_seen(folder: Path) -> None:
    """In a process of its own: what one ever took at most is all that the system tells."""
    told = subprocess.run(
        [sys.executable, "-c", _GROWS, folder], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert "MisbehavedError: it took " in told.stderr
    assert told.stderr.strip().endswith(" MiB of memory")


def test_every_reader_is_found_by_its_name() -> None:
    assert len(_READERS) > 60
    assert all(target_named(name) is target for name, target in _READERS.items())
