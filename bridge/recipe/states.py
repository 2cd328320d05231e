"""What a step's inputs and output are right now, in a few letters each.

Memories and bridges are known by their fingerprints, so that one that was made again with the same
content counts as unchanged; sources by their items and the sizes and times of their files; all
else by size and time. Results and descriptions of indices are small and known by their content, so
that a copy of a folder is as good as the folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import astuple
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from bridge.recipe.fixed import BRIDGES, BY_NAME, HOW, READS
from bridge.recipe.step import DATA, Step
from bridge.runs.layout import ABOUT_FILE
from features.encoders.own import own_file
from features.errors import UserError
from features.file_states import content_state, digest_of, path_state
from features.files import MEMORY_SUFFIX
from features.sealed import read_sealed

if TYPE_CHECKING:
    from features.extraction.items import Source

NUMBER_TABLES = ("images.csv", "sounds.csv", "points.csv", "texts.csv")
_SMALL = 1 << 24  # bytes of a file that is read whole
INDEX_FILES = (".faiss", ".ids.h5", ".json")
Parts = Mapping[str, Mapping[str, Any]]


def source_of(step: Step, location: str | None = None) -> Source:
    """The items of an extraction. Raises UserError if they cannot be read.

    location: to read them from instead of the step's source.
    """
    from features.extraction.sources import read_source
    from features.space import modality_named

    options = step.options
    return read_source(
        location or options["source"],
        modality_named(options["modality"]),
        column=options.get("column"),
        id_column=options.get("id_column"),
        label_column=options.get("label_column"),
        where=dict(one.split("=", 1) for one in options.get("where", ())),
    )


def key_parts(step: Step, steps: Mapping[str, Step]) -> dict[str, dict[str, Any]]:
    """Everything that decides what a step makes: options, inputs, code.

    steps: all of the recipe, by name. Raises UserError if an input cannot be read.
    """
    return {
        "options": _options(step),
        "inputs": {
            **{name: output_state(steps[name]) for names in step.needs.values() for name in names},
            **_read_files(step),
        },
        # A patch of this program changes no result that is worth hours of embedding again.
        "code": {"mcr-bridge": ".".join(version("mcr-bridge").split(".")[:2])},
    }


def digest_parts(parts: Parts) -> str:
    """The key of a step."""
    return str(xxhash.xxh3_128_hexdigest(json.dumps(parts, sort_keys=True).encode()))


def output_state(step: Step) -> str | None:
    """What a step has made, None if nothing is there or it cannot be read."""
    from features.search.backends import is_address, open_index

    if step.command == DATA:
        found = [step.out / name for name in NUMBER_TABLES]
        return "".join(map(content_state, found)) if all(f.exists() for f in found) else None
    if step.command == "index" and is_address(step.options["out"]):
        try:
            return str(open_index(step.options["out"]).about["digest"])
        except UserError:
            return None
    if step.command == "index":
        files = [step.out.with_suffix(suffix) for suffix in INDEX_FILES]
        if not all(file.exists() for file in files):
            return None
        sizes = [file.stat().st_size for file in files]
        return f"{content_state(files[-1])} {sizes}"  # which has the checksum of the index
    return _made_state(step.out) if step.out.exists() else None


def _made_state(path: Path) -> str | None:
    from features.memories.sharded import open_memory

    if path.suffix == MEMORY_SUFFIX:
        try:
            return open_memory(path).fingerprint
        except UserError:
            return None
    about = path / ABOUT_FILE
    if not about.exists():
        if path.is_dir():
            return None
        return content_state(path) if path.stat().st_size < _SMALL else path_state(path)
    try:
        return str(read_sealed(about)["fingerprint"])
    except (ValueError, KeyError, TypeError):
        return None


def _options(step: Step) -> dict[str, Any]:
    """The options that decide the result; of training, its settings whole."""
    told = {name: _told(value) for name, value in step.options.items() if name not in HOW}
    if step.command == "train":
        from dataclasses import asdict

        from bridge.config import load_settings, setting_fields

        settings = {s.name: told.pop(s.name) for s in setting_fields() if s.name in told}
        config = told.pop("config", None)
        preset = told.pop("preset", None)
        chosen = load_settings(None if config is None else Path(config), settings, preset=preset)
        told |= asdict(chosen)
    return told


def _told(value: Any) -> Any:
    if isinstance(value, list):
        return [_told(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _read_files(step: Step) -> dict[str, str]:
    found: dict[str, str] = {}
    if step.command == "extract":
        source, digest = source_of(step), xxhash.xxh3_128()
        for item in source.items:
            digest.update(json.dumps(astuple(item)).encode())
        states = digest_of(source.file_states())
        found[step.options["source"]] = f"{digest.hexdigest()} {states}"
    for spec in _specs(step):
        own = own_file(spec)
        if own is not None:
            found[str(own)] = path_state(own)
    for option, files in step.files.items():
        # The settings that a file holds are among the options, and a source's items are above.
        if option in READS - {"config"} and (step.command, option) != ("extract", "source"):
            found |= {file: _input_state(Path(file)) for file in files}
    return found


def _specs(step: Step) -> Iterator[str]:
    """The encoders that a step may load: those it names, and in an evaluation those of its inputs.

    Only evaluations embed with an encoder that they are not told.
    """
    named = step.options.get("encoder")
    if isinstance(named, list):
        yield from (one.partition("=")[2] for one in named)  # SPACE=SPEC
    elif named is not None:
        yield str(named)
    if step.stage == "eval":
        for option in (BY_NAME | BRIDGES) & step.options.keys():
            inputs = step.options[option]
            for one in inputs if isinstance(inputs, list) else [inputs]:
                yield from _recorded_specs(Path(one))


def _recorded_specs(path: Path) -> list[str]:
    """The encoders that a memory or a bridge says it is of; none if it cannot be read."""
    from features.memories.sharded import open_memory

    encoders: list[Any] = []
    with suppress(UserError, OSError, ValueError, KeyError, TypeError):
        if path.suffix == MEMORY_SUFFIX:
            encoders = [open_memory(path).header.encoder]
        else:
            about = read_sealed(path / ABOUT_FILE)
            encoders = [space["encoder"] for space in about["spaces"]]
    return [str(one["spec"]) for one in encoders if one.get("spec")]


def _input_state(path: Path) -> str:
    return _made_state(path) or path_state(path)
