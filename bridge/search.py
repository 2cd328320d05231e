"""Cross-modal search: a query of any modality against an index or a memory."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from bridge.artefact import Bridge
from bridge.nearest_items import nearest_items
from bridge.projection import check_memory, is_projected
from bridge.tcl.fusion import Tokens
from features.encoders import Encoder, LocalEncoder, load_encoder
from features.errors import ItemError, UserError
from features.extraction.decode import SUFFIXES
from features.memories.memory import Memory
from features.memories.provenance import check_encoders, for_modality
from features.search.backends import Index
from features.search.filters import TableFilters, Where
from features.search.index import Hit, hit_table
from features.space import MODALITIES, Modality
from features.tasks import Tasks

_FILE_NAME = re.compile(r"\S*[^\s.]\.[A-Za-z][A-Za-z0-9]{1,4}")


@dataclass(frozen=True)
class Query:
    """What is looked up: a sentence, or a file of any modality."""

    modality: Modality
    value: str | Path

    @classmethod
    def parse(cls, text: str, modality: Modality | None = None) -> Query:
        """A query from the command line: a file by its suffix, anything else a sentence.

        Raises UserError for a file that does not exist.
        """
        path = Path(text)
        if modality is None:
            modality = _modality_of_suffix(path.suffix.lower())
            if path.suffix.lower() in SUFFIXES["text"] and path.is_file():
                return cls("text", path)
            if modality == "text" and text.strip() and path.is_dir():
                raise UserError(
                    f"{text} is a folder: give a file, or pass --as text if it is a sentence"
                )
            if modality == "text" and _FILE_NAME.fullmatch(text):
                known = ", ".join(suffix for m in MODALITIES for suffix in SUFFIXES[m])
                raise UserError(
                    f"'{text}' looks like a file of a kind that is not known ({known}): say what "
                    "it is with --as, which may be text for a sentence"
                )
        if modality == "text":
            if not text.strip():
                raise UserError("the query is empty: give a sentence or a file")
            return cls("text", text)
        if not path.is_file():
            raise UserError(
                f"the {modality} file {text} does not exist: check the path, or pass --as text if "
                "it is a sentence"
            )
        return cls(modality, path)


def _modality_of_suffix(suffix: str) -> Modality:
    for modality in MODALITIES:
        if modality != "text" and suffix in SUFFIXES[modality]:
            return modality
    return "text"


class Embedder:
    """Embeds queries with the encoders that made the memories, each loaded once.

    overrides: space -> encoder spec, for a space whose own spec does not load here.
    trust_encoder: do not compare the encoders with those of the memories.
    """

    def __init__(
        self,
        *,
        device: str = "auto",
        overrides: Mapping[str, str] | None = None,
        trust_encoder: bool = False,
    ) -> None:
        self.device = device
        self.trust_encoder = trust_encoder
        self.overrides = dict(overrides or {})
        self._loaded: dict[str, Encoder] = {}

    def embed(
        self, queries: Sequence[Query], space: str, description: Mapping[str, Any]
    ) -> Float[Tensor, "q d"]:
        """Unit embeddings of queries of one modality in `space`.

        description: the encoder that the answer must come from. Raises UserError if it is not
        known or cannot be loaded, has other weights, or a query cannot be read.
        """
        encoder, arrays = self._read(queries, space, description)
        return encoder.encode(arrays, queries[0].modality).float()

    def embed_local(self, query: Query, space: str, description: Mapping[str, Any]) -> Tokens:
        """A query in `space`, with its parts. Raises UserError as `embed`, or if it has none."""
        encoder, arrays = self._read([query], space, description)
        parts = encoder.local_length(query.modality) if isinstance(encoder, LocalEncoder) else 0
        if not isinstance(encoder, LocalEncoder) or not parts:
            raise UserError(
                f"the encoder {encoder.description.name} has no local embeddings of "
                f"{query.modality}: leave --rerank out"
            )
        found = encoder.encode_local(arrays, query.modality)
        return Tokens.of(found.pooled.float(), found.local.float(), found.mask)

    def _read(
        self, queries: Sequence[Query], space: str, description: Mapping[str, Any]
    ) -> tuple[Encoder, list[NDArray[Any]]]:
        """The encoder of `space`, and queries of one modality as it takes them."""
        encoder, modality = self._encoder(space, description), queries[0].modality
        make_input = encoder.input(modality)  # after it, the description is complete
        check_encoders(
            (f"the space {space}", for_modality(description, modality)),
            ("the query", for_modality(encoder.description.as_dict(), modality)),
            remedy=f"name the encoder that made the memories with --encoder {space}=SPEC",
            trust=self.trust_encoder,
        )
        arrays = []
        for query in queries:
            try:
                arrays.append(make_input(query.value))
            except ItemError as error:
                raise UserError(f"the query {query.value}: {error}; give another") from error
        return encoder, arrays

    def load(self, space: str, description: Mapping[str, Any]) -> Encoder:
        """The encoder of `space`, also before the first query. Raises UserError as `embed`."""
        return self._encoder(space, description)

    def _encoder(self, space: str, description: Mapping[str, Any]) -> Encoder:
        if space not in self._loaded:
            spec = self.overrides.get(space) or description.get("spec")
            if spec is None:
                raise UserError(
                    f"the memories of {space} do not say which encoder made them: name it with "
                    f"--encoder {space}=SPEC, ask in another of a bridge's spaces with --via, or "
                    "embed the query yourself and use Bridge.project and bridge.search_memory"
                )
            self._loaded[space] = self._load(spec, space)
        return self._loaded[space]

    def check_overrides(self, spaces: Collection[str]) -> None:
        """Raise UserError if an override names none of `spaces`."""
        for name in self.overrides:
            if name not in spaces:
                raise UserError(
                    f"--encoder {name}={self.overrides[name]} names the space {name} but the "
                    f"search is in {' and '.join(spaces)}: name one of these"
                )

    def _load(self, spec: str, space: str) -> Encoder:
        named = space in self.overrides  # by the user, not by a file
        try:
            return load_encoder(spec, device=self.device, own_code=named)
        except UserError as error:
            if named:
                raise
            raise UserError(
                f"{error}; if it is yours, or elsewhere now, name it with --encoder {space}=SPEC"
            ) from error


def embed_for_bridge(
    queries: Sequence[Query], bridge: Bridge, embedder: Embedder, *, via: str | None = None
) -> Float[Tensor, "q e"]:
    """Queries of one modality in the bridge's shared space.

    A modality that both spaces know, such as the hub's, is embedded in both and averaged,
    unless `via` names one of them. Raises UserError for a modality that none knows.
    """
    embedder.check_overrides(bridge.spaces)
    spaces = bridge.spaces_of(queries[0].modality)
    if via is not None:
        bridge.space_named(via)
        spaces = [space for space in spaces if space.name == via]
        if not spaces:
            raise UserError(
                f"the space {via} does not embed {queries[0].modality}: leave --via out"
            )
    embedded = {space.name: embedder.embed(queries, space.name, space.encoder) for space in spaces}
    return project_queries(embedded, bridge, queries[0].modality)


def project_queries(
    embedded: Mapping[str, Float[Tensor, "q d"]], bridge: Bridge, modality: Modality | None
) -> Float[Tensor, "q e"]:
    """Queries that are embedded in one or several of the bridge's spaces, in the shared one.

    embedded: space -> unit embeddings of the same queries; their projections are averaged.
    """
    projected = [bridge.project(rows, space, modality) for space, rows in embedded.items()]
    return F.normalize(torch.stack(projected).mean(dim=0), dim=-1)


def search_index(
    queries: Float[Tensor, "q e"],
    index: Index,
    k: int,
    *,
    bridge: Bridge | None = None,
    where: Where | None = None,
) -> list[list[Hit]]:
    """The k nearest items of an index, best first.

    where: of those that have these values of metadata columns, or lie in these ranges.
    Raises UserError if the index does not hold the space that the queries are in.
    """
    check_index(index, bridge)
    return index.search(queries.cpu().numpy(), k, where)


def check_index(index: Index, bridge: Bridge | None) -> None:
    """Raise UserError unless the index holds the space of `bridge`, or of no bridge if None."""
    made_by = index.header.extra.get("bridge")
    if bridge is None and made_by is not None:
        raise UserError(
            f"{index.path} holds the space of the bridge {index.header.space}: name the bridge "
            "with --bridge"
        )
    if bridge is not None and made_by is None:
        raise UserError(
            f"{index.path} holds the space {index.header.space}, not that of the bridge "
            f"{bridge.name}: project its memory with `mcr project` and index the result"
        )
    if bridge is not None and made_by != bridge.fingerprint:
        raise UserError(
            f"{index.path} was made with another bridge ({index.header.space}, {made_by}) than "
            f"{bridge.name} ({bridge.fingerprint}): project and index its memory again"
        )


def search_memory(
    queries: Float[Tensor, "q e"],
    memory: Memory,
    k: int,
    *,
    bridge: Bridge | None = None,
    trust_encoder: bool = False,
    tasks: Tasks | None = None,
    where: Where | None = None,
) -> list[list[Hit]]:
    """The k nearest items of a memory by exact search, best first.

    With a bridge, the memory is projected on the way, unless it is already. Many queries that are
    on a CUDA device are looked up there. tasks: processes or a cluster that parts of the memory
    are searched in, with the same hits. where: as of `search_index`.
    """
    if bridge is not None:
        check_memory(bridge, memory, trust_encoder=trust_encoder)
    width = bridge.dimension if bridge is not None else memory.dimension
    if queries.shape[1] != width:
        raise UserError(
            f"{memory.path} holds {width}-d embeddings but the queries have "
            f"{queries.shape[1]} dimensions: use the encoder that made the memory"
        )
    projecting = None if bridge is None or is_projected(memory) else bridge
    table = hit_table(memory)
    passing = TableFilters(table).passing(where or {})
    kept = None if passing is None else np.flatnonzero(passing)
    scores, found = nearest_items(queries, memory, k, projecting, tasks=tasks, kept=kept)
    return [
        table.hits(row, score) for row, score in zip(found.tolist(), scores.tolist(), strict=True)
    ]
