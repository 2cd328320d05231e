"""`mcr info`: everything about a memory, a bridge or an index."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import choices
from cli.options import Json
from cli.output import print_json

if TYPE_CHECKING:
    from features.memories.memory import Memory


def info(
    path: Annotated[
        str,
        typer.Argument(
            help="A memory, a bridge's folder or an index, also an address of Milvus.",
            autocompletion=choices.file_or_address,
        ),
    ],
    json: Json = False,
) -> None:
    """Describe a memory, a bridge or an index.

    Says everything that the files know, and checks a memory's content against its fingerprint.
    """
    from features.search.backends import is_address

    answer = _address(path) if is_address(path) else _on_disk(Path(path))
    if json:
        print_json(answer)
    else:
        _print(answer)


def _on_disk(path: Path) -> dict[str, Any]:
    from features.errors import UserError
    from features.memories.sharded import shards_of

    if not (path.exists() or shards_of(path)):
        raise UserError(f"{path} does not exist: give a memory, a bridge's folder or an index")
    if path.is_dir():
        return _bridge(path)
    return _index(path) if path.suffix == ".faiss" else _memory(path)


def _address(place: str) -> dict[str, Any]:
    from features.search.backends import open_index

    index = open_index(place)
    return {"kind": "index", "path": str(index.path), **index.about}


def _memory(path: Path) -> dict[str, Any]:
    from features.memories.sharded import open_memory

    memory = open_memory(path)
    memory.verify()
    return {
        "kind": "memory",
        "path": str(path),
        "items": len(memory),
        **asdict(memory.header),
        "labels": None if memory.labels is None else len(set(memory.labels)),
        "columns": list(memory.metadata),
        "first_ids": memory.ids[:3],
        "megabytes": _megabytes(*(part.path for part in memory.parts)),
        "fingerprint": memory.fingerprint,
        "pseudo_pairs": _pairs(path),
        **_shards(memory),
    }


def _shards(memory: Memory) -> dict[str, Any]:
    """The files of a memory that is not merged."""
    if memory.parts == (memory,):
        return {}
    return {
        "shards": [
            {
                "path": str(part.path),
                "items": len(part),
                "megabytes": _megabytes(part.path),
                "fingerprint": part.fingerprint,
            }
            for part in memory.parts
        ]
    }


def _megabytes(*files: Path) -> float:
    return round(sum(file.stat().st_size for file in files) / 1e6, 3)


def _pairs(memory: Path) -> dict[str, Any] | None:
    """Pseudo pairs kept beside a leaf memory."""
    from bridge.pseudo_pairs.cache import kept_pairs, pairs_folder

    kept = kept_pairs(memory)
    if not kept:
        return None
    return {
        "folder": str(pairs_folder(memory)),
        "sets": len(kept),
        "megabytes": _megabytes(*kept),
        "note": "computed again where it is removed",
    }


def _bridge(path: Path) -> dict[str, Any]:
    from bridge.artefact import load

    return {"kind": "bridge", "path": str(path), **load(path, device="cpu").about()}


def _index(path: Path) -> dict[str, Any]:
    from features.search.index import open_index

    index = open_index(path)
    return {
        "kind": "index",
        "path": str(path),
        **index.about,
        "megabytes": _megabytes(path),
    }


def _print(answer: Any, indent: int = 0) -> None:
    for name, value in answer.items():
        start = f"{'  ' * indent}{name}:"
        if isinstance(value, dict) and value:
            typer.echo(start)
            _print(value, indent + 1)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            typer.echo(start)
            for one in value:
                _print(one, indent + 1)
                typer.echo()
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            typer.echo(f"{start} {shown}")
