"""What recipes decide themselves about the commands of their steps."""

from __future__ import annotations

from bridge.recipe.vocabulary import Key

# Options that no table says: outputs have their places, and are kept or replaced as needed.
FIXED = frozenset({"out", "name", "shard", "overwrite", "resume", "json", "dry_run"})
# Options that name memories or files; of several spellings in the commands.
BY_NAME = frozenset(
    {
        "hub", "leaf", "pairs", "memory", "memories", "query", "gallery", "items", "sounds",
        "pictures", "crops",
    }
)  # fmt: skip
EVALUATIONS = frozenset({"result", "results"})  # that name evaluations; unset: all of the recipe's
BRIDGES = frozenset({"bridge", "bridges", "run"})  # unset: the one that the recipe trains
ALWAYS_FILES = frozenset(
    {"source", "config", "ids", "encoder_json", "annotations", "classes", "templates", "regions"}
)
READS = BY_NAME | ALWAYS_FILES | EVALUATIONS | BRIDGES | {"encoder"}
GROUPS = {"eval": "protocol", "plot": "kind"}  # key that says which command of a group
# Options that change how a result comes, not what it is.
HOW = frozenset(
    {"device", "workers", "overwrite", "resume", "json", "cache", "track", "out", "dry_run"}
)
# Steps behind training, with the outputs of those that a recipe names.
STAGES = {
    "train": "",
    "project": "",
    "index": "",
    "eval": "evaluations/{name}.json",
    "plot": "pictures/{name}.svg",
    "report": "report.html",
}
DEFAULTS = {"eval": "retrieval"}
MEMORIES = Key("memories", "", many=True)
PLACE = Key("place", "")  # of indices that are not files here
