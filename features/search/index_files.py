"""The three files of a FAISS index (`features.search.index`), read and checked one by one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash

from features.errors import UserError
from features.files import MEMORY_SUFFIX, require_file
from features.hdf5 import refuse_links
from features.memories.container import opened, told_fingerprint
from features.memories.memory import MemoryHeader
from features.memories.sharded import open_memory, shards_of
from features.memories.strings import StringColumn
from features.room import free_bytes
from features.sealed import read_sealed
from features.search.faiss_format.checking import check_faiss
from features.space import modality_named

FORMAT = "mcr-bridge index 1"
REBUILD = "copy the index again, or rebuild it with `mcr index --overwrite`"
SAMPLE_BYTES = 1 << 20
_DAMAGED = (
    OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError, OverflowError,
    MemoryError,
)  # fmt: skip
_REQUIRED = {"header", "memory", "fingerprint", "items", "factory", "faiss_checksum"}


def read_about(path: Path) -> dict[str, Any]:
    about_path = require_file(path.with_suffix(".json"), "the index's description")
    try:
        about = read_sealed(about_path)
    except ValueError as error:
        raise UserError(f"{about_path} is damaged ({error}): {REBUILD}") from error
    if about.get("format") != FORMAT or not about.keys() >= _REQUIRED or not _is_header(about):
        raise UserError(f"{about_path} does not describe an index: rebuild it with `mcr index`")
    return about


def read_columns(
    path: Path,
) -> tuple[dict[str, StringColumn], dict[str, StringColumn], str | None]:
    """Ids, items and labels; the metadata; and the fingerprint of the memory they are of."""
    try:
        with opened(require_file(path, "the index's table of ids"), REBUILD) as file:
            refuse_links(file.file)
            file.require_sums()
            names = ("ids", *({"items", "labels"} & {*file.file}))
            columns = {name: file.strings(name) for name in names}
            return columns, file.named("columns"), told_fingerprint(file.file, path)
    except _DAMAGED as error:
        raise UserError(f"{path} is damaged ({_oneline(error)}): {REBUILD}") from error


def read_faiss(path: Path, about: Mapping[str, Any]) -> Any:
    """FAISS's own index, mapped; its bytes are checked before FAISS sees them."""
    import faiss
    import torch

    # Checking reads all of it once. What the page cache cannot hold would have to be read again
    # for each search, and is left to `mcr verify`.
    whole = (
        about.get("faiss_digest") if path.stat().st_size < free_bytes(torch.device("cpu")) else None
    )
    sample = sampled_checksum(path)
    if sample != about["faiss_checksum"] or (whole is not None and full_checksum(path) != whole):
        raise UserError(
            f"{path} is damaged, or it, its .ids.h5 and its .json do not belong together: rebuild "
            "them with `mcr index --overwrite`"
        )
    check_faiss(path)
    _limit_vectors(faiss, path.stat().st_size)
    try:
        # The former maps inverted lists only; the latter, of FAISS 1.11, maps vectors and graphs.
        return faiss.read_index(str(path), getattr(faiss, "IO_FLAG_MMAP_IFC", faiss.IO_FLAG_MMAP))
    except (RuntimeError, MemoryError) as error:
        raise UserError(f"{path} cannot be read by FAISS ({_oneline(error)}): {REBUILD}") from error


def check_memory(path: Path | str, about: Mapping[str, Any]) -> None:
    """A memory that was moved away is no harm; one that changed makes the index wrong.

    Nor is it if shards were merged meanwhile. Raises UserError if it changed, or if the description
    names a file that is called otherwise than memories are: it may be of a stranger.
    """
    memory_path = Path(about["memory"])
    if memory_path.suffix != MEMORY_SUFFIX:
        raise UserError(
            f"{path} says that it was built from {memory_path}, and a memory is called NAME.h5: "
            "rebuild the index with `mcr index --overwrite`"
        )
    try:
        shards = shards_of(memory_path)
        if not (memory_path.is_file() or shards):
            return
    except (OSError, ValueError):  # nor is a place that cannot be
        return
    try:
        now = open_memory(memory_path).fingerprint
    except UserError:
        if shards:  # some of which were moved away
            return
        raise
    if now not in (about["fingerprint"], about.get("merged_fingerprint")):
        raise UserError(
            f"{path} was built from the memory {about['fingerprint']} but {memory_path} is now "
            f"{now}: rebuild the index with `mcr index --overwrite`"
        )


def sampled_checksum(path: Path) -> str:
    """Hash of a file's size, start, middle and end: tells files apart without reading them."""
    size = path.stat().st_size
    digest = xxhash.xxh3_64(str(size).encode())
    with path.open("rb") as file:
        for start in (0, size // 2, max(0, size - SAMPLE_BYTES)):
            file.seek(start)
            digest.update(file.read(SAMPLE_BYTES))
    return str(digest.hexdigest())


def full_checksum(path: Path) -> str:
    """Hash of all of a file's content."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(SAMPLE_BYTES):
            digest.update(block)
    return str(digest.hexdigest())


def _limit_vectors(faiss: Any, size: int) -> None:
    """Let no array that FAISS reads be longer than its file: a few bytes can claim terabytes."""
    if hasattr(faiss, "set_deserialization_vector_byte_limit"):  # since FAISS 1.14
        faiss.set_deserialization_vector_byte_limit(size + SAMPLE_BYTES)


def _is_header(about: Mapping[str, Any]) -> bool:
    """Whether the description holds what a memory's header does, and says where that lies."""
    try:
        header = MemoryHeader(**about["header"])
        modality_named(header.modality)
    except (TypeError, UserError):
        return False
    return (
        isinstance(about["memory"], str)
        and "\0" not in about["memory"]
        and isinstance(header.space, str)
        and type(header.dimension) is int
        and isinstance(header.root, str | None)
        and isinstance(header.encoder, dict)
    )


def _oneline(error: Exception) -> str:
    return " ".join(str(error).split())
