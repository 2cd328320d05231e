"""From a recipe's file to its steps, all of it checked before anything is computed.

    folder = "audio-image"            everything goes there; unset: the file's name
    device = "auto"                   for all steps
    [numbers]                         the demo's made-up data, in FOLDER/data
    [extract] [import]                options for all memories that are made so
    [memory.NAME]                     extract = SOURCE, import = EMBEDDINGS or file = MEMORY
    [train] [project] [index]         options of the commands; memories go by their names, and
                                      place = "milvus:NAME.db" keeps the indices in Milvus
    [eval.NAME] [plot.NAME] [report]

Paths are relative to the folder that the file is in, which is the current one while it is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge.recipe.fixed import (
    BRIDGES,
    DEFAULTS,
    EVALUATIONS,
    FIXED,
    GROUPS,
    MEMORIES,
    PLACE,
    READS,
    STAGES,
)
from bridge.recipe.indices import index_outputs
from bridge.recipe.references import References
from bridge.recipe.step import DATA, Recipe, Step
from bridge.recipe.tables import Tables
from bridge.recipe.vocabulary import Key, Vocabulary
from bridge.runs.naming import is_plain_name
from features.encoders import ENCODERS
from features.encoders.own import require_known
from features.errors import UnknownNameError, UserError
from features.extraction.shards import shards_beside
from features.suggest import did_you_mean

_TOP = ("folder", "device", "numbers", "extract", "import", "memory", *STAGES)
_WAYS = {"extract": "source", "import": "source"}  # key of [memory.NAME] -> option of the command
_SETTING = re.compile(r"^the setting (\w+) is ")
_SEED = {"seed": Key("seed", "", kind=int, low=0, default=0)}


def read_recipe(path: Path, vocabulary: Vocabulary) -> Recipe:
    """The recipe in a file.

    vocabulary: what the commands take. Raises UserError, with the place in the file, for anything
    that is unknown, of a wrong type or missing.
    """
    return _Reader(Tables(path), vocabulary).read()


class _Reader:
    def __init__(self, tables: Tables, vocabulary: Vocabulary) -> None:
        self.tables = tables
        self.vocabulary = vocabulary
        tables.require_known(tables.content, _TOP)
        self.folder = Path(self._top("folder", tables.path.stem))
        self.device = self._top("device", None)
        self.references = References(tables, self.folder)
        self.steps: list[Step] = []

    def read(self) -> Recipe:
        if "numbers" in self.tables.content:
            seed = self.tables.values(_SEED, "numbers").get("seed", 0)
            self._add(Step("numbers", DATA, {"seed": seed}, self.folder / "data"))
        for name in self.tables.table("memory"):
            self._memory(name)
        if "train" in self.tables.content:
            self._train()
        projected = self._project()
        self._index(projected)
        for stage in ("eval", "plot"):
            for name in self.tables.table(stage):
                self._measure(stage, name)
        if "report" in self.tables.content:
            self._measure("report")
        if not self.steps:
            raise UserError(f"{self.tables.path} has no step: write one with `mcr init`")
        return Recipe(self.tables.path, self.folder, tuple(self.steps))

    def _top(self, name: str, default: str | None) -> Any:
        value = self.tables.content.get(name, default)
        if value is not None and (not isinstance(value, str) or not value):
            raise self.tables.wrong(name, told=f"is {value!r} but must be a string")
        return value

    def _keys(self, command: str, *where: str) -> dict[str, Key]:
        """What a table may say: the command's options but for those that the recipe decides."""
        if command not in self.vocabulary:
            raise UserError(
                f"{self.tables.places.of(*where)}: [{'.'.join(where)}] needs `mcr {command}`, "
                "which this version does not have: leave the table out"
            )
        fixed = FIXED | ({"source"} if command in _WAYS else set())
        return {name: key for name, key in self.vocabulary[command].items() if name not in fixed}

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        self.references.made[step.name] = step

    def _memory(self, name: str) -> None:
        where = ("memory", name)
        table = self.tables.table(*where)
        ways = [way for way in ("extract", "import", "file") if way in table]
        if len(ways) != 1:
            raise UserError(
                f"{self.tables.places.of(*where)}: [memory.{name}] has "
                f"{' and '.join(ways) or 'no source'}: give one of extract = a folder, list or "
                "table, import = a file of embeddings, and file = a memory that is made already"
            )
        self._check_name(name, where)
        (way,) = ways
        if way == "file":
            self.tables.require_known(table, ["file"], *where)
            self.references.existing[name] = self._path(table["file"], *where, "file")
            return
        keys = self._keys(way, *where)
        self.tables.require_known(table, [way, *keys], *where)
        own = {
            key: self.tables.value(keys[key], value, *where)
            for key, value in table.items()
            if key != way
        }
        options = {**self.tables.values(keys, way), **own}
        options["source"] = self._source(way, table[way], name)
        options["out"] = self.folder / "memories" / f"{name}.h5"
        self._finish(f"{way}/{name}", way, options, where)
        self.references.memories[name] = f"{way}/{name}"

    def _check_name(self, name: str, where: tuple[str, ...]) -> None:
        """Raise UserError unless a table's name can be that of a file in the recipe's folder."""
        if not is_plain_name(name):
            raise UserError(
                f"{self.tables.places.of(*where)}: '{name}' of [{where[0]}] cannot be the name of "
                "its file: use letters, digits, '.', '_', '+' and '-'"
            )

    def _source(self, way: str, value: Any, name: str) -> Any:
        where = ("memory", name, way)
        if not isinstance(value, str):
            raise self.tables.wrong(*where, told=f"is {value!r} but must be a string")
        if not self.references.is_made(value) and not self.references.exists(value):
            raise self.tables.wrong(*where, told=f"is {value}, which does not exist: mend the path")
        return Path(value) if way == "import" else value

    def _path(self, value: Any, *where: str) -> str:
        path = Path(value) if isinstance(value, str) else None
        if path is None or not (path.is_file() or shards_beside(path)):
            raise self.tables.wrong(*where, told=f"is {value!r}, which is no file: mend the path")
        return str(value)

    def _train(self) -> None:
        from bridge.config import load_settings, setting_fields

        keys = self._keys("train", "train")
        options = self.tables.values(keys, "train")
        if ("hub" in options) == ("pairs" in options):
            raise UserError(
                f"{self.tables.places.of('train')}: [train] needs either hub or pairs, a list of "
                "the names of two memories"
            )
        for name in ("hub", "pairs"):
            if name in options and len(options[name]) != 2:
                raise self.tables.wrong(
                    "train", name, told=f"names {len(options[name])} memories: name two"
                )
        settings = {s.name: options[s.name] for s in setting_fields() if s.name in options}
        try:
            load_settings(options.get("config"), settings, preset=options.get("preset"))
        except UserError as error:
            told = _SETTING.search(str(error))
            named = told[1] if told else "config"
            kind = UnknownNameError if isinstance(error, UnknownNameError) else UserError
            raise kind(f"{self.tables.places.of('train', named)}: {error}") from error
        options["out"] = self.folder / "bridges" / self.folder.resolve().name
        self._finish("train", "train", options, ("train",))
        self.references.bridge = options["out"]

    def _project(self) -> list[str]:
        if "project" not in self.tables.content:
            return []
        keys = self._keys("project", "project")
        keys.pop("memory")
        keys["memories"] = MEMORIES
        options = self.tables.values(keys, "project")
        names = options.pop("memories", None)
        if not names:
            raise self.tables.wrong("project", "memories", told="is missing: name some memories")
        for name in names:
            out = self.folder / "shared" / f"{name}.h5"
            values = {**options, "memory": name, "out": out}
            self._finish(f"project/{name}", "project", values, ("project",), said="memories")
            self.references.projected[name] = f"project/{name}"
        return list(names)

    def _index(self, projected: list[str]) -> None:
        if "index" not in self.tables.content:
            return
        keys = self._keys("index", "index")
        keys.pop("memory")
        keys |= {"memories": MEMORIES, "place": PLACE}
        options = self.tables.values(keys, "index")
        names = options.pop("memories", projected)
        if not names:
            raise self.tables.wrong("index", "memories", told="is missing: name some memories")
        places = index_outputs(options.pop("place", None), names, self.folder, self.tables)
        for name, out in places.items():
            values = {**options, "memory": name, "out": out}
            self._finish(f"index/{name}", "index", values, ("index",), said="memories")

    def _measure(self, stage: str, name: str | None = None) -> None:
        """A step that reads memories and the bridge: an evaluation, a picture, the report."""
        where = (stage,) if name is None else (stage, name)
        if name is not None:
            self._check_name(name, where)
        table = dict(self.tables.table(*where))
        command = stage if stage not in GROUPS else self._member(stage, table, where)
        keys = self._keys(command, *where)
        self.tables.require_known(table, [*keys, *filter(None, [GROUPS.get(stage)])], *where)
        options = {key: self.tables.value(keys[key], one, *where) for key, one in table.items()}
        if "out" in self.vocabulary[command]:
            options["out"] = self.folder / STAGES[stage].format(name=name)
        measured = [step.name for step in self.steps if step.stage == "eval"]
        for key in EVALUATIONS & keys.keys() - options.keys():
            if measured and "query" not in options:
                options[key] = [Path(name.partition("/")[2]) for name in measured]
        self._finish("/".join(where), command, options, where)

    def _member(self, group: str, table: dict[str, Any], where: tuple[str, ...]) -> str:
        """The command of a group, such as `eval retrieval`, taken from its table."""
        known = [one.partition(" ")[2] for one in self.vocabulary if one.startswith(f"{group} ")]
        key = GROUPS[group]
        if not known:
            self._keys(group, *where)  # this version does not have it
        wanted = table.pop(key, DEFAULTS.get(group))
        if wanted is None:
            raise self.tables.wrong(*where, key, told=f"is missing: give one of {', '.join(known)}")
        if wanted not in known:
            meant = did_you_mean(str(wanted), known)
            raise self.tables.wrong(
                *where, key, unknown=True,
                told=f"is {wanted!r} but must be one of {', '.join(known)}{meant}",
            )  # fmt: skip
        return f"{group} {wanted}"

    def _finish(
        self,
        name: str,
        command: str,
        options: dict[str, Any],
        where: tuple[str, ...],
        *,
        said: str | None = None,
    ) -> None:
        """Add a step, its memories, bridge and files looked up.

        said: the key that names what the option `memory` is, for sentences about it.
        """
        keys = self.vocabulary[command]
        if self.device is not None and "device" in keys:
            options.setdefault("device", self.device)
        for option in BRIDGES & keys.keys() - options.keys():
            if self.references.bridge is not None:
                trained = self.references.bridge
                options[option] = [trained] if keys[option].many else trained
        for key in keys.values():
            if key.required and key.name not in options:
                raise UserError(
                    f"{self.tables.places.of(*where)}: [{'.'.join(where)}] lacks {key.name}: add it"
                )
        if command in ("extract", "import") and options.get("encoder") is not None:
            try:
                require_known(options["encoder"], ENCODERS)
            except UnknownNameError as error:
                raise UnknownNameError(
                    f"{self.tables.places.of(*where, 'encoder')}: {error}"
                ) from error
        needs, files = {}, {}
        for option in [name for name in options if name in READS]:
            resolved = self.references.resolve(option, options[option], where, said or option)
            options[option], needs[option], files[option] = resolved
        out = Path(options["out"])
        self._add(Step(name, command, _plain(options), out, _kept(needs), _kept(files)))


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _kept(found: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {name: those for name, those in found.items() if those}
