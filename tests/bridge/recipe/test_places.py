"""The lines that mistakes in a recipe are told with."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.recipe.places import Places

TEXT = """folder = "x"  # where
[train]
hub = [
  "a",
]
'epochs' = 3
[ memory . "my pictures" ] # mine
modality = "image"
where = { split = "train" }
[eval.a]
query = "x"
[memory.b]
modality = "text"
"""


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("folder",), 1),
        (("train",), 2),
        (("train", "hub"), 3),
        (("train", "epochs"), 6),
        (("train", "gone"), 2),  # the table that it would be in
        (("memory", "my pictures"), 7),
        (("memory", "my pictures", "modality"), 8),
        (("memory", "my pictures", "where", "split"), 9),
        (("memory", "b", "modality"), 13),
        (("eval", "a", "query"), 11),
    ],
)
def test_a_key_is_found_in_its_own_table(key, line):
    assert Places(Path("r.toml"), TEXT).of(*key) == f"r.toml, line {line}"


def test_what_stands_nowhere_is_in_the_file():
    assert Places(Path("r.toml"), TEXT).of("report") == "r.toml"
