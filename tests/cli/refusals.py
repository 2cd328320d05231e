"""How the tests of bad input call commands, and read the one sentence that answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import SMALL, Workshop, mcr

UNKNOWN_NAMES = (  # of which an error is wrong usage
    "FAISS cannot make the index", "no index of Milvus", "milvus-lite has no index",
    "is not an encoder", "is not a modality", "there is no preset", "' but must be one of ",
    "', which does not exist", "' is not a device", "' is not a precision", " should read ",
    "there is no theme", "there is no width", "there is no method", "there is no choice",
    "there is no relevance", "there is no fit", "there is no engine", "there is no tracker",
    "there is no projection", "is no format that can be written", "is not a shard",
    "is no repository", "cannot be sorted by",
    "a memory stores float16 or float32",
)  # fmt: skip
Arguments = tuple[object, ...]
Cases = dict[str, tuple[Callable[[Workshop, Path], Arguments], str]]


def sentence_of(stderr: str) -> str:
    """The error, which is the last line but for indented details; notes may come before it."""
    lines = [line for line in stderr.splitlines() if not line.startswith("  ")]
    errors = [line for line in lines if line.startswith("error: ")]
    assert "Traceback" not in stderr
    assert errors == lines[-1:], stderr
    return errors[0].removeprefix("error: ")


def refused(*arguments: object) -> str:
    result = mcr(*arguments)
    sentence = sentence_of(result.stderr)
    code = 2 if any(told in sentence for told in UNKNOWN_NAMES) else 1
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    assert result.stdout == ""
    return sentence


def extract(w: Workshop, source: object, out: Path, *more: object) -> Arguments:
    return ("extract", source, "-e", w.specs["sees"], "-m", "image", "-o", out / "out.h5", *more)


def train(w: Workshop, out: Path, *more: object) -> Arguments:
    hub = ("--hub", w.memory("text-hears"), "--hub", w.memory("text-sees"))
    return ("train", *hub, "-o", out / "bridge", *SMALL, *more)


def query(w: Workshop, *more: object) -> Arguments:
    return ("query", "one", "-b", w.sound_bridge, "-i", w.index, *more)


def file(path: Path, content: str | bytes = "") -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
