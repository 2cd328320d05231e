"""Shards: an extraction in parts that machines make independently.

`features.memories.merging` joins them.

A shard is a run of whole batches of the source, so that every item is embedded in the same
company as in one run, and the merged memory has the same bytes. Which items it has depends on
the source, the batch size and the number of shards alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from features.errors import UsageError

_FORM = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True)
class Shard:
    """Shard `number` of `of`, counted from 1."""

    number: int
    of: int

    @classmethod
    def named(cls, text: str) -> Shard:
        """The shard that `I/N` names. Raises UsageError unless 1 <= I <= N."""
        found = _FORM.fullmatch(text)
        shard = cls(int(found[1]), int(found[2])) if found else cls(0, 0)
        if not 1 <= shard.number <= shard.of:
            raise UsageError(
                f"--shard {text} is not a shard: write I/N, such as 1/8 for the first of eight"
            )
        return shard

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def path(self, out: Path) -> Path:
        """Where the shard of the memory `out` is: `NAME.2-of-8.h5`."""
        digits = len(str(self.of))
        return out.with_name(f"{out.stem}.{self.number:0{digits}d}-of-{self.of}{out.suffix}")

    def rows(self, items: int, batch_size: int) -> slice:
        """The shard's part of a source's items; all shards have the same number of batches, or
        one less."""
        batches = -(-items // batch_size)
        first, last = (batches * number // self.of for number in (self.number - 1, self.number))
        return slice(first * batch_size, min(items, last * batch_size))


def shards_beside(out: Path) -> list[Path]:
    """The shards of the memory `out` that are there, by name."""
    name = re.compile(rf"{re.escape(out.stem)}\.\d+-of-\d+{re.escape(out.suffix)}")
    if not out.parent.is_dir():
        return []
    return sorted(one for one in out.parent.iterdir() if name.fullmatch(one.name))
