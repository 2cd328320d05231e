"""`mcr import`: embeddings that another tool made into a memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Device, Json, Overwrite
from cli.output import end_with_failures, note, print_memory

if TYPE_CHECKING:
    from features.exchange.importing import Imported
    from features.exchange.made_by import MadeBy
    from features.space import Modality


def import_memory(
    source: Annotated[
        Path,
        typer.Argument(
            help="A .npy, .npz, .parquet, .safetensors, .hdf5, .fbin or .f16bin file, or the "
            "folder of clip-retrieval."
        ),
    ],
    modality: Annotated[
        str, typer.Option("--modality", "-m", help="What was embedded: text, image, audio, points.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The memory to write, NAME.h5.")],
    space: Annotated[
        str | None, typer.Option("--space", "-s", help="Name of the space. Unset: the encoder's.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", "-e", help="The encoder that made them, to record its weights."),
    ] = None,
    encoder_json: Annotated[
        Path | None, typer.Option(help="A JSON file that describes the encoder, instead.")
    ] = None,
    ids: Annotated[
        Path | None,
        typer.Option(help="The ids: a text file, one a line, or a table with --id-column."),
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(help="The column with the ids, of --ids or of the source.")
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="The column with the items' classes.")
    ] = None,
    item_column: Annotated[
        str | None, typer.Option(help="The column with what was embedded, such as captions.")
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="A further column to keep, to filter by; repeatable, or `none`. Unset: all.",
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="Of a file with several arrays, tensors or columns: the embeddings."),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float16 or float32, as stored. Unset: the source's.")
    ] = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make a memory of embeddings that exist.

    Rows that are not of unit norm are normalised. Rows that are zero or NaN are listed in
    NAME.failures.jsonl, and the exit code is 3.
    """
    from cli.progress import BarProgress
    from features.exchange.choose import ColumnNames, choose_columns
    from features.exchange.importing import import_memory as run_import
    from features.exchange.made_by import header_for
    from features.exchange.opening import open_embeddings
    from features.files import refuse_existing, require_h5
    from features.space import modality_named

    kind = modality_named(modality)
    refuse_existing(require_h5(out), overwrite=overwrite)
    file = open_embeddings(source, kind, key=key)
    wanted = ColumnNames(
        ids, id_column, label_column, item_column, [] if keep == ["none"] else keep
    )
    columns, notes = choose_columns(file, kind, wanted)
    made_by = _encoder(encoder, encoder_json, space, kind, device)
    for sentence in (*file.notes, *notes):
        note(sentence)
    if not made_by.description:
        note(
            "the encoder is not recorded: queries with new sentences or files will need "
            f"--encoder {made_by.space}=SPEC"
        )
    header = header_for(file, made_by, kind, dtype=dtype)
    done = run_import(file, columns, out, header, overwrite=overwrite, progress=BarProgress())
    _answer(done, json)


def _encoder(
    spec: str | None, file: Path | None, space: str | None, modality: Modality, device: str
) -> MadeBy:
    from features.errors import UserError
    from features.exchange.made_by import MadeBy, described_by, loaded_encoder

    if spec is not None and file is not None:
        raise UserError("--encoder and --encoder-json both describe the encoder: give one of them")
    if spec is not None:
        return loaded_encoder(spec, space, modality, device=device)
    if not space:
        raise UserError(
            "the space has no name: give --space, such as --space clip, or the --encoder that made "
            "the embeddings"
        )
    return MadeBy(space) if file is None else described_by(file, space)


def _answer(done: Imported, json: bool) -> None:
    memory = done.memory
    if done.normalised:
        note(
            f"{done.normalised} of {len(memory)} rows were normalised, since memories hold unit "
            f"rows: norms were {done.lowest:.4g} to {done.highest:.4g}"
        )
    failures = len(done.failures)
    print_memory(memory, json=json, normalised=done.normalised, failures=failures)
    end_with_failures(done.failures, done.failures_path, "rows were left out")
