"""`mcr query`: the nearest items of any modality to a sentence or a file."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import choices
from cli.options import (
    Device,
    EncoderOverrides,
    Engine,
    Json,
    RayAddress,
    ShardProcesses,
    TrustEncoder,
    each,
    pairs,
)
from cli.output import print_json

if TYPE_CHECKING:
    from bridge.search import Embedder, Query
    from features.search.index import Hit
    from features.tasks import Tasks


def query(
    what: Annotated[
        str, typer.Argument(help="A sentence, or an image, sound or point-cloud file.")
    ],
    bridge: Annotated[
        Path | None,
        typer.Option(
            "--bridge", "-b", help="From `mcr train`. Unset: search in the gallery's own space."
        ),
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(
            "--index",
            "-i",
            autocompletion=choices.file_or_address,
            help="Search this index, from `mcr index`: a .faiss file, or an address of Milvus.",
        ),
    ] = None,
    memory: Annotated[
        Path | None, typer.Option("--memory", help="Search this memory, or its shards, exactly.")
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="How many hits to print.")] = 10,
    modality: Annotated[
        str | None, typer.Option("--as", help="What the query is; unset, by its suffix.")
    ] = None,
    via: Annotated[
        str | None,
        typer.Option(help="Embed the query in this space. Unset: in all that know it, averaged."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=VALUE",
            help="Only items with this metadata; numbers also as MIN..MAX. Any of the values of a "
            "column that is given again, and all of several columns.",
        ),
    ] = None,
    rerank: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Order so many of the first hits again, at least those of -k, by the fusion "
            "encoder of a bridge that was trained with --itm-weight, say 16; a score is then a "
            "logit.",
        ),
    ] = None,
    parts: Annotated[
        Path | None,
        typer.Option(
            help="For --rerank, where --memory is not given or projected: the memory of the "
            "gallery's items from `mcr extract --local`."
        ),
    ] = None,
    encoder: EncoderOverrides = None,
    trust_encoder: TrustEncoder = False,
    device: Device = "auto",
    shard_processes: ShardProcesses = None,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    json: Json = False,
) -> None:
    """Find the items nearest to a sentence or a file.

    Prints one hit a line, best first: cosine (or the score of --rerank), id, class where known,
    and what was embedded where the id does not say it, separated by tabs.
    """
    gc.disable()  # else the import of torch takes a fifth longer, and frees nothing
    from bridge.search import Embedder, Query
    from features.errors import UserError
    from features.space import modality_named
    from features.tasks import open_tasks

    gc.freeze()
    gc.enable()
    if (index is None) == (memory is None):
        raise UserError("say what to search: give either --index or --memory")
    parsed = Query.parse(what, None if modality is None else modality_named(modality))
    embedder = Embedder(
        device=device,
        overrides=pairs("--encoder", encoder, form="SPACE=SPEC"),
        trust_encoder=trust_encoder,
    )
    if rerank is None and parts is not None:
        raise UserError("--parts is for re-ranking: give --rerank as well, or leave it out")
    if rerank is not None and k > rerank:
        raise UserError(
            f"--rerank {rerank} scores {rerank} hits but {k} are to be printed, with scores of two "
            f"kinds: give -k {rerank} or less, or --rerank {k}"
        )
    if memory is None and (shard_processes is not None or engine != "local"):
        raise UserError(
            "--shard-processes and --engine search a memory in parts, and --index is given: give "
            "--memory, or leave them out"
        )
    wanted = each("--where", where, form="COLUMN=VALUE")
    with open_tasks(engine, processes=shard_processes, address=ray_address) as tasks:
        hits = _search(parsed, embedder, bridge, index, memory, rerank or k, via, wanted, tasks)
    if rerank is not None:
        hits = _reranked(parsed, hits, embedder, bridge, parts or memory)[:k]
    if json:
        print_json({"query": what, "modality": parsed.modality, "hits": [asdict(h) for h in hits]})
        return
    for hit in hits:
        item = "" if hit.item == hit.id else hit.item
        typer.echo(f"{hit.score:.4f}\t{hit.id}\t{hit.label or ''}\t{item}".rstrip())


def _reranked(
    query: Query,
    hits: list[Hit],
    embedder: Embedder,
    bridge_folder: Path | None,
    parts: Path | None,
) -> list[Hit]:
    from bridge.artefact import load
    from bridge.tcl.rerank import rerank
    from features.errors import UserError
    from features.memories.sharded import open_memory

    if bridge_folder is None or parts is None:
        missing = "--bridge" if bridge_folder is None else "--parts"
        raise UserError(
            "--rerank takes a bridge's fusion encoder and the parts of the gallery's items: give "
            f"{missing}"
        )
    bridge = load(bridge_folder, device=embedder.device)
    return rerank(query, hits, open_memory(parts), bridge, embedder)


def _search(
    query: Query,
    embedder: Embedder,
    bridge_folder: Path | None,
    index_path: str | None,
    memory_path: Path | None,
    k: int,
    via: str | None,
    where: Sequence[tuple[str, str]],
    tasks: Tasks | None,
) -> list[Hit]:
    from bridge.artefact import load
    from bridge.search import embed_for_bridge, search_index, search_memory
    from features.errors import UserError
    from features.memories.sharded import open_memory
    from features.search.backends import open_index
    from features.search.filters import TableFilters, parse_where
    from features.search.index import hit_table

    gallery = open_memory(memory_path) if memory_path is not None else None
    index = open_index(index_path) if index_path is not None else None
    if bridge_folder is not None:
        bridge = load(bridge_folder, device=embedder.device)
        rows = embed_for_bridge([query], bridge, embedder, via=via)
    else:
        bridge = None
        header = gallery.header if gallery is not None else index.header if index else None
        assert header is not None
        if via is not None:
            raise UserError("--via names one of a bridge's spaces: give --bridge, or leave it out")
        if "bridge" in header.extra:
            raise UserError(
                f"{memory_path or index_path} holds the space of the bridge {header.space}: name "
                "the bridge with --bridge"
            )
        embedder.check_overrides([header.space])
        rows = embedder.embed([query], header.space, header.encoder)
    if gallery is not None:
        wanted = parse_where(TableFilters(hit_table(gallery)), where)
        trust = embedder.trust_encoder
        return search_memory(
            rows, gallery, k, bridge=bridge, trust_encoder=trust, tasks=tasks, where=wanted
        )[0]
    assert index is not None
    wanted = parse_where(index.filters, where)
    return search_index(rows, index, k, bridge=bridge, where=wanted)[0]
