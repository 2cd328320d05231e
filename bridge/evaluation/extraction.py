"""Memories for an evaluation: those that are there, or made on the way from files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from bridge.artefact import Bridge
from features.encoders import LocalEncoder, load_encoder
from features.errors import UserError
from features.extraction.decode import SUFFIXES
from features.extraction.extract import Extraction, extract
from features.extraction.sources import read_source
from features.progress import SILENT, Progress
from features.space import Modality


def modality_of(location: str) -> Modality:
    """What the files of a folder are, by the first that is of a known kind.

    Raises UserError for what is no folder, and if no file is of a known kind.
    """
    folder = Path(location)
    kinds: tuple[Modality, ...] = ("image", "audio", "points")
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        for modality in kinds:
            if path.suffix.lower() in SUFFIXES[modality]:
                return modality
    raise UserError(
        f"{location} is neither a memory (NAME.h5) nor a folder of {', '.join(kinds[:-1])} or "
        f"{kinds[-1]}: make a memory of it with `mcr extract`"
    )


def extraction_of(
    location: str,
    modality: Modality,
    folder: Path,
    *,
    bridge: Bridge | None,
    local: bool = False,
    overrides: Mapping[str, str] | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
) -> Extraction:
    """Embed the files of `location` with the encoder that the bridge was trained with.

    The memory is written to `folder`; what is there already from the same files is kept.
    overrides: space -> encoder spec. Raises UserError without a bridge, if it knows the modality in
    several spaces, or its encoder cannot be loaded.
    """
    source = read_source(location, modality)
    if bridge is None:
        raise UserError(
            f"{location} is no memory (NAME.h5), and without a bridge it is not known with "
            "which encoder to make one: make it with `mcr extract`"
        )
    spaces = bridge.spaces_of(modality)
    if len(spaces) > 1:
        raise UserError(
            f"{location} holds {modality}, which {' and '.join(s.name for s in spaces)} both "
            "embed: make a memory of it with `mcr extract` and the encoder that you mean"
        )
    space, named = spaces[0], dict(overrides or {})
    spec = named.get(space.name) or space.encoder.get("spec")
    if spec is None:
        raise UserError(
            f"the bridge {bridge.name} does not say which encoder made the embeddings of "
            f"{space.name}: name it with --encoder {space.name}=SPEC, or give a memory"
        )
    encoder = load_encoder(spec, device=device, own_code=space.name in named)
    if local and not (isinstance(encoder, LocalEncoder) and encoder.local_length(modality)):
        raise UserError(
            f"the encoder {encoder.description.name} of {space.name} has no local embeddings of "
            f"{modality}, which say where things are: cut the pictures with `mcr crops` and give "
            "--crops and --regions"
        )
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", str(Path(location).absolute()).strip("/"))[-60:]
    out = folder / f"{stem}-{space.name}-{modality}{'-local' * local}.h5"
    return extract(source, encoder, modality, out, local=local, resume=True, progress=progress)
