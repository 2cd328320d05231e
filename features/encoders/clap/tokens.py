"""Tokenizers with their vocabulary: transformers may silently make one that has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xxhash

from features.encoders.hub import hub_access
from features.errors import UserError

ROBERTA = "roberta-base"
FILES = ("vocab.json", "merges.txt")
REMEDY = "give roberta=FOLDER with the vocab.json and merges.txt of roberta-base"


def roberta_folder(option: str | None) -> Path:
    """The folder of RoBERTa's tokenizer: the one given, or the hub's or its cache's.

    Raises UserError if its files are not there.
    """
    if option is None:
        from huggingface_hub import hf_hub_download

        with hub_access(f"the tokenizer {ROBERTA}", REMEDY):
            paths = [Path(hf_hub_download(ROBERTA, name)) for name in FILES]
        return paths[0].parent
    folder = Path(option)
    has_files = all((folder / name).is_file() for name in FILES)
    if not has_files and not (folder / "tokenizer.json").is_file():
        raise UserError(
            f"roberta={option} has no {' and '.join(FILES)}, nor a tokenizer.json: {REMEDY}"
        )
    return folder


def roberta_tokenizer(folder: Path, embeddings: int) -> Any:
    """RoBERTa's tokenizer for a model with so many token embeddings.

    Raises UserError if the vocabulary is another, or cannot be read.
    """
    from transformers import RobertaTokenizer

    try:
        tokenizer = RobertaTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # of the JSON, tokenizers and transformers packages
        raise _unreadable(folder, error) from error
    if len(tokenizer) != embeddings:
        raise UserError(
            f"the tokenizer in {folder} knows {len(tokenizer)} tokens but the checkpoint has "
            f"embeddings of {embeddings}: {REMEDY}"
        )
    return tokenizer


def own_tokenizer(folder: Path, embeddings: int) -> Any:
    """The tokenizer that lies with a model of transformers.

    Raises UserError if it has no vocabulary, or more tokens than the model.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        raise _unreadable(folder, error) from error
    if not len(tokenizer.all_special_ids) < len(tokenizer) <= embeddings:
        raise UserError(
            f"the tokenizer in {folder} knows {len(tokenizer)} tokens but the model has "
            f"embeddings of {embeddings}: give the folder that was published for this model, "
            "with its tokenizer's files"
        )
    return tokenizer


def vocabulary_hash(tokenizer: Any) -> str:
    """XXH3-128 of the tokens and their numbers."""
    digest = xxhash.xxh3_128()
    for token, number in sorted(tokenizer.get_vocab().items()):
        digest.update(f"{token}\0{number}\n".encode())
    return str(digest.hexdigest())


def _unreadable(folder: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return UserError(
        f"the tokenizer in {folder} cannot be read ({reason}): download its files again"
    )
