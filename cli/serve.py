"""`mcr serve`: a search page and an HTTP API over bridges, indices and memories."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Annotated

import typer

from cli import choices
from cli.options import Device, EncoderOverrides, TrustEncoder, pairs
from cli.output import note


def serve(
    bridge: Annotated[
        list[Path] | None,
        typer.Option("--bridge", "-b", help="A bridge from `mcr train`; any number."),
    ] = None,
    index: Annotated[
        list[str] | None,
        typer.Option(
            "--index",
            "-i",
            autocompletion=choices.file_or_address,
            help="An index to search, from `mcr index`: a file, or an address of Milvus; any "
            "number.",
        ),
    ] = None,
    memory: Annotated[
        list[Path] | None,
        typer.Option("--memory", help="A memory to search, exactly; any number."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; 127.0.0.1 is reached from this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: one that is free.")] = 8000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A further name that the server may be called by, such as that of a proxy before "
            "it; any number."
        ),
    ] = None,
    keep_queries: Annotated[
        int,
        typer.Option(
            min=0, help="Keep the embeddings of so many files that were asked by, to share them."
        ),
    ] = 1000,
    state: Annotated[
        Path | None,
        typer.Option(help="A folder to keep those embeddings in. Unset: until the server ends."),
    ] = None,
    max_upload: Annotated[
        float, typer.Option(min=0.001, max=1024, help="Megabytes of the files of a request.")
    ] = 16.0,
    max_seconds: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Seconds of a sound that is asked by.")
    ] = 60.0,
    max_pixels: Annotated[
        float, typer.Option(min=0.001, max=178, help="Megapixels of an image that is asked by.")
    ] = 25.0,
    max_k: Annotated[int, typer.Option("--max-k", min=1, help="Hits on a page.")] = 100,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds until a request is given up.")
    ] = 30.0,
    files: Annotated[
        list[Path] | None,
        typer.Option(
            help="A folder that files are sent from although it is, or holds, the home folder, "
            "where a memory names it; any number."
        ),
    ] = None,
    encoder: EncoderOverrides = None,
    trust_encoder: TrustEncoder = False,
    device: Device = "auto",
) -> None:
    """Serve a search page and an HTTP API until Ctrl-C.

    There is no authentication: whoever reaches the server can search, and see the files that the
    memories name.
    """
    from features.extras import require_package

    for package in ("fastapi", "uvicorn", "prometheus_client"):
        require_package(package, "`mcr serve`")
    from bridge.serving.limits import Limits
    from bridge.serving.server import hosts_of, is_loopback, listen, run

    # First of all; whoever asks already waits until the rest is there.
    with listen(host, port) as listening:
        gc.disable()  # else the import of torch takes a fifth longer, and frees nothing
        from bridge.serving.app import create_app
        from bridge.serving.state import open_served

        gc.freeze()
        gc.enable()
        limits = Limits(
            upload_bytes=int(max_upload * 1e6),
            audio_seconds=max_seconds,
            image_pixels=int(max_pixels * 1e6),
            k=max_k,
            seconds=timeout,
        )
        served = open_served(
            bridge or [], index or [], memory or [], device=device, trust_encoder=trust_encoder,
            overrides=pairs("--encoder", encoder, form="SPACE=SPEC"), files=files or (),
        )  # fmt: skip
        hosts = hosts_of(host, allow_host or ())
        app = create_app(served, limits=limits, keep_queries=keep_queries, state=state, hosts=hosts)
        address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        for root, names in served.roots.items():
            missing = "" if root.is_dir() else ", which is not there"
            note(f"files of {', '.join(names)} are sent from {root}{missing}")
        if not is_loopback(host):
            note(
                f"there is no authentication, and {host} is reached from other machines: whoever "
                "does can search, and see the files that the memories name"
            )
        typer.echo(f"{address}  (Ctrl-C ends it)")
        run(app, listening, limits)
