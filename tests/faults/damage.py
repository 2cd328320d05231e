"""Files that were damaged after they were written, each read by the commands that read it.

What is damaged is noticed before it is used: a command gives what it gives of whole files, or says
in one sentence which file is damaged. Caches are made again.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bridge.pseudo_pairs import cache as kept_pairs
from features.errors import UserError
from features.memories.memory import Memory
from tests.faults.damaged_place import TRAINED, extract_items, mcr, partners, whole_place
from tests.faults.fault import Fault

PAGE = 4096
FINISHED = (0, 3)  # 3: items failed, and are listed
_MANY_LINES = 12  # of what a command says when it refuses, notes included

Damage = Callable[[bytes, random.Random], bytes]


def truncate(content: bytes, rng: random.Random) -> bytes:
    """Cut off anywhere."""
    return content[: rng.randrange(len(content))]


def flip_bits(content: bytes, rng: random.Random) -> bytes:
    """Turn one to three bits over."""
    made = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 3))):
        made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
    return bytes(made)


def zero_page(content: bytes, rng: random.Random) -> bytes:
    """Lose a page, as a file system does that kept the size and not the content."""
    size = min(PAGE, max(1, len(content) // 4))
    start = rng.randrange(-(-len(content) // size)) * size
    return (content[:start] + bytes(size) + content[start + size :])[: len(content)]


def swap_blocks(content: bytes, rng: random.Random) -> bytes:
    """Exchange two blocks of equal length."""
    size = min(512, max(1, len(content) // 4))
    one, other = sorted(rng.sample(range(len(content) // size), 2))
    one, other = one * size, other * size
    return b"".join([content[:one], content[other : other + size], content[one + size : other],
                     content[one : one + size], content[other + size :]])  # fmt: skip


def cut_and_append(content: bytes, rng: random.Random) -> bytes:
    """End in other bytes than were written, as where a disk filled up and went on elsewhere."""
    kept = content[: rng.randint(len(content) // 2, len(content))]
    return kept + rng.randbytes(rng.choice((1, 16, 500, PAGE)))


DAMAGES: dict[str, Damage] = {
    "cut off": truncate, "flipped bits": flip_bits, "zeroed page": zero_page,
    "swapped blocks": swap_blocks, "other end": cut_and_append,
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What a command made: its answer and files, or what it said when it refused."""

    code: int
    made: str
    told: str


@dataclass(frozen=True)
class Target:
    """A kind of file: which of the place's, and what reads them.

    copied: what of the place the readers need. mends: a damaged file is made again.
    """

    stage: str
    files: Sequence[str]
    readers: Sequence[str]
    copied: Sequence[str]
    mends: bool = False


def read_by(reader: str, folder: Path) -> Outcome:
    """Run a reading command in a folder that is like the place."""
    image, audio, shared = (folder / f"{name}.h5" for name in ("image", "audio", "shared"))
    bridge, out = folder / "runs" / "bridge", folder / "out"
    index = folder / "shared.faiss"
    ask = ["query", "the number 7", "-b", bridge, "-i", index, "-k", "5", "--json",
           "--device", "cpu"]  # fmt: skip
    if reader == "continue":
        return _extracted(folder)
    if reader == "retrieve":
        return _retrieved(folder)
    arguments: Sequence[object] = {
        "info": ["info", image, "--json"],
        "info index": ["info", index, "--json"],
        "info bridge": ["info", bridge, "--json"],
        "verify": ["verify", image],
        "verify index": ["verify", index],
        "verify bridge": ["verify", bridge],
        "verify stopped": ["verify", folder / "stopped"],
        "project": ["project", image, "-b", bridge, "-o", out / "p.h5", "--device", "cpu"],
        "index": ["index", shared, "-o", out / "i.faiss"],
        "eval": ["eval", "--bridge", bridge, "--query", audio, "--gallery", image, "--json",
                 "--resamples", "100"],
        "merge": ["merge", image, "-o", out / "m.h5"],
        "export": ["export", image, "-o", out / "e.npz"],
        "train": ["train", *partners(folder), "-o", out / "b", *TRAINED],
        "merge shards": ["merge", folder / "all.1-of-2.h5", folder / "all.2-of-2.h5", "-o",
                         out / "all.h5"],
        "query": ask,
        "query memory": ["query", "--from-memory", image, "--id", "image-3"],
        "continue training": ["train", *partners(folder), "-o", folder / "stopped", *TRAINED],
        "config": ["train", *partners(folder), "-o", out / "b", "--config",
                   bridge / "settings.toml", "--device", "cpu"],
        "runs": ["runs", folder / "runs", "--json"],
        "report": ["report", bridge, "-o", out / "r.html"],
        "curves": ["plot", "training", bridge, "-o", out / "c.svg"],
        "run": ["run", folder / "recipe.toml"],
        "encode": ["extract", folder / "texts.txt", "-e", f"mini:{folder / 'sees.safetensors'}",
                   "-m", "text", "-o", out / "t.h5", "--device", "cpu"],
    }[reader]  # fmt: skip
    result = mcr(*arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise AssertionError(f"{reader} ended in a traceback") from result.exception
    # A recipe also says what it made again.
    said = "" if reader == "run" else result.stdout
    made = json.dumps([said, _written(folder)]).replace(str(folder), "@")
    return Outcome(result.exit_code, made, (result.stderr + result.stdout).strip())


def _extracted(folder: Path) -> Outcome:
    try:
        extract_items(folder)
    except UserError as error:
        return Outcome(1, "", str(error))
    failed = (folder / "half.failures.jsonl").read_bytes().hex()
    return Outcome(0, (folder / "half.h5").read_bytes().hex() + failed, "")


def _retrieved(folder: Path) -> Outcome:
    """A training that reads kept pseudo pairs."""
    least, kept_pairs.LEAST_SCORES = kept_pairs.LEAST_SCORES, 1
    try:
        return read_by("train", folder)
    finally:
        kept_pairs.LEAST_SCORES = least


def _written(folder: Path) -> list[str]:
    """What does not tell of times and places, of what was written."""
    found = [*folder.glob("out/*.h5"), *folder.glob("out/*.faiss"), *folder.glob("out/*.npz"),
             *folder.glob("out/b/*.safetensors"), *folder.glob("stopped/*.safetensors"),
             *folder.glob("made/memories/*.h5"), *folder.glob("out/*.jsonl")]  # fmt: skip
    return [f"{path.name} {_content(path)}" for path in sorted(found)]


def _content(path: Path) -> str:
    """What a file holds, but not the paths that a memory says it was made from."""
    return Memory(path).fingerprint if path.suffix == ".h5" else path.read_bytes().hex()


_MEMORIES = ("image.h5", "audio.h5", "text-sees.h5", "text-hears.h5")
_USED = (*_MEMORIES, "shared.h5", "runs", "sees.safetensors", "hears.safetensors")
_INDEX = ("shared.faiss", "shared.ids.h5", "shared.json")
TARGETS = (
    Target("memory", ("image.h5",), ("info", "verify", "project", "eval", "merge", "export",
           "train"), _USED),
    Target("projected memory", ("shared.h5",), ("index", "query"), (*_USED, *_INDEX)),
    Target("index", _INDEX, ("query", "verify index", "info index"), (*_USED, *_INDEX)),
    Target("bridge", ("runs/bridge/bridge.safetensors", "runs/bridge/bridge.json"),
           ("query", "project", "verify bridge", "info bridge"), (*_USED, *_INDEX)),
    Target("run", ("runs/bridge/run.json", "runs/bridge/metrics.jsonl",
           "runs/bridge/results/*.json"), ("runs", "report", "curves", "verify bridge"), _USED),
    Target("settings", ("runs/bridge/settings.toml",), ("config",), _USED),
    Target("checkpoint", ("stopped/checkpoint.json", "stopped/checkpoint-*.safetensors"),
           ("continue training", "verify stopped"), (*_MEMORIES, "stopped")),
    Target("shard", ("all.1-of-2.h5", "all.2-of-2.h5", "all.1-of-2.failures.jsonl"),
           ("merge shards",), ("all.1-of-2.h5", "all.2-of-2.h5", "all.1-of-2.failures.jsonl")),
    Target("unfinished extraction", ("half.h5.partial/plan.json", "half.h5.partial/rows.bin",
           "half.h5.partial/journal.jsonl"), ("continue",), ("half.h5.partial",), mends=True),
    Target("pseudo pairs", ("*.pairs/*.safetensors",), ("retrieve",), (*_MEMORIES, "*.pairs"),
           mends=True),
    Target("recipe", ("made/journal.json", "made/memories/one.h5"), ("run",),
           ("made", "recipe.toml", "texts.txt", "sees.safetensors"), mends=True),
    Target("encoder", ("sees.safetensors",), ("encode", "query"), (*_USED, *_INDEX, "texts.txt")),
)  # fmt: skip


def inject(target: Target, damage: str, folder: Path, rng: random.Random) -> str:
    """Damage a file of the target in a copy of the place, and read it."""
    _copy(target, folder)
    pattern, reader = rng.choice(target.files), rng.choice(target.readers)
    path = rng.choice(sorted(folder.glob(pattern)))
    whole = path.read_bytes()
    damaged = DAMAGES[damage](whole, rng)
    path.write_bytes(damaged)
    told = judge(target, reader, folder, path)
    return f"{path.name}, {damage}, {reader}: {told}"


def judge(target: Target, reader: str, folder: Path, path: Path) -> str:
    """What a reader said of a file that may be damaged; AssertionError where that is not enough."""
    found = read_by(reader, folder)
    if found.code in FINISHED:
        wanted = undisturbed(target, reader)
        # What may have been edited is a note, and a list tells what it leaves out.
        edited = target.stage == "settings" and "it was edited or is damaged" in found.told
        edited |= reader == "runs" and "left out: " in found.told
        same = (found.made, found.code) == (wanted.made, wanted.code)
        assert edited or same, f"{reader} made something else: {found.told}"
        return "the same" if same else "told"
    lines = [line for line in found.told.splitlines() if not line.startswith("note: ")]
    assert found.code in (1, 2), found
    assert "Traceback" not in found.told
    assert len(lines) <= _MANY_LINES, found.told
    assert not target.mends or path.suffix in (".json", ".h5"), f"it is not mended: {found.told}"
    named = {path.name, path.stem, path.parent.name, path.name.removesuffix(".ids.h5")}
    assert any(name in found.told for name in named), f"{path} is not named: {found.told}"
    return "refused"


@cache
def undisturbed(target: Target, reader: str) -> Outcome:
    """What a reader makes of whole files."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _copy(target, folder)
        found = read_by(reader, folder)
    assert found.code in FINISHED, found.told
    return found


def _copy(target: Target, folder: Path) -> None:
    place = whole_place()
    for pattern in target.copied:
        for path in place.glob(pattern):
            if path.is_dir():
                shutil.copytree(path, folder / path.name)
            else:
                shutil.copy2(path, folder / path.name)


def _kind(target: Target, damage: str) -> Fault:
    def injected(folder: Path, rng: random.Random) -> str:
        return inject(target, damage, folder, rng)

    return Fault(target.stage, damage, injected)


FAULTS = [_kind(target, damage) for target in TARGETS for damage in DAMAGES]
