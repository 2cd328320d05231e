"""`mcr doctor`: whether an encoder loads, and answers as it should."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cli import choices
from cli.boundary import USER_ERROR
from cli.options import Device, Json
from cli.output import note, print_json

if TYPE_CHECKING:
    from features.encoders import Encoder
    from features.samples import Samples


def doctor(
    encoder: Annotated[
        str,
        typer.Argument(
            help="Such as clip:ViT-B-32,openai; see `mcr encoders`.",
            autocompletion=choices.encoder,
        ),
    ],
    precision: Annotated[
        str,
        typer.Option(
            help="The encoder's: fp32, bf16 or fp16.", autocompletion=choices.encoder_precision
        ),
    ] = "fp32",
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Check an encoder on a few known things.

    Loads it from the hub or disk, embeds photographs, sounds and shapes that come with the
    package, and checks norms, that an item embeds the same in any batch, and that every sample
    is nearest to its own sentence. Exit code 1 if a check fails.
    """
    import time

    from features.encoders import load_encoder
    from features.extraction.doctor import examine

    start = time.perf_counter()
    loaded = load_encoder(encoder, device=device, precision=precision)
    seconds = time.perf_counter() - start
    if not json:
        _print_description(loaded, seconds)
    findings = []
    for finding in examine(loaded, _samples(encoder)):
        findings.append(finding)
        if not json:
            mark = "ok    " if finding.passed else "FAILED"
            typer.echo(f"{mark}  {finding.check}: {finding.told}")
    failed = [finding.check for finding in findings if not finding.passed]
    if json:
        print_json(
            {
                "encoder": loaded.description.as_dict(),
                "space": asdict(loaded.space),
                "load_seconds": seconds,
                "findings": [asdict(finding) for finding in findings],
                "passed": not failed,
            }
        )
    if failed:
        note(f"{len(failed)} of {len(findings)} checks failed: {'; '.join(failed)}")
        raise typer.Exit(USER_ERROR)


def _samples(spec: str) -> Samples:
    """Numbers for the mini encoders, which know nothing else; the real world for all others."""
    from features.samples import number_samples, real_samples

    mini = spec.partition(":")[0] in ("mini", "mini-clip", "mini-clap", "mini-ulip")
    return number_samples() if mini else real_samples()


def _print_description(encoder: Encoder, seconds: float) -> None:
    from features.memories.provenance import flat

    space = encoder.space
    typer.echo(f"{space.name}: {', '.join(space.modalities)}, {space.dimension}-d")
    for name, value in flat(encoder.description.as_dict()).items():
        typer.echo(f"  {name}: {value}")
    typer.echo(f"  loaded in {seconds:.1f} s")
