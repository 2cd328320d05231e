"""`extract` against a bare loop over the same encoder on the same batches, decoding included.

python -m benchmarks extraction SOURCE -e mini-clip -m image --items 2000

SOURCE is what `mcr extract` takes. The bare loop reads, decodes and embeds batch by batch in
one process, and keeps the rows in a list; extraction decodes in worker processes, survives
being killed, and writes a memory. With --ray also the same on Ray, which is started before the
clock is; its actors and Ray Data's plan are made anew for each run.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.machine import machine, medians
from features.encoders import Encoder, load_encoder
from features.extraction.extract import extract
from features.extraction.items import Source
from features.extraction.sources import read_source
from features.space import Modality, modality_named


def bare_loop(
    source: Source, encoder: Encoder, modality: Modality, batch_size: int
) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float16]]]:
    """What one would write by hand."""
    make_input = encoder.input(modality)
    rows = []
    for start in range(0, len(source.items), batch_size):
        batch = source.items[start : start + batch_size]
        arrays = [make_input(source.load_argument(item)) for item in batch]
        rows.append(encoder.encode(arrays, modality).cpu().numpy().astype(np.float16))
    return rows


def main() -> None:
    """Print the median times and their ratio."""
    parser = argparse.ArgumentParser(prog="benchmarks extraction")
    parser.add_argument("source")
    parser.add_argument("-e", "--encoder", default="mini-clip")
    parser.add_argument("-m", "--modality", default="image")
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--ray", action="store_true", help="also with --engine ray")
    options = parser.parse_args()
    modality = modality_named(options.modality)
    source = read_source(options.source, modality)
    source = replace(source, items=source.items[: options.items])
    encoder = load_encoder(options.encoder, device=options.device)
    with ExitStack() as stack:
        out = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "out.h5"
        size = options.batch_size
        candidates: dict[str, Callable[[], object]] = {
            "bare loop": lambda: bare_loop(source, encoder, modality, size),
            "extract": lambda: extract(
                source, encoder, modality, out, batch_size=size, overwrite=True
            ),
        }
        if options.ray:
            from features.extraction.on_ray.engine import ray_engine

            engine = stack.enter_context(ray_engine(options.encoder, device=options.device))
            candidates["Ray"] = lambda: extract(
                source, encoder, modality, out, batch_size=size, overwrite=True, engine=engine
            )
        times = medians(candidates, repeats=options.repeats)
        extracted = extract(source, encoder, modality, out, batch_size=size, resume=True)
        rows = np.concatenate(bare_loop(source, encoder, modality, size))
        assert np.array_equal(extracted.memory.embeddings, rows)
    print(machine())
    count = len(source.items)
    print(f"{count} {modality} items of {options.source}, {options.encoder}, batches of {size}")
    for name, seconds in times.items():
        print(f"{name:10} {seconds:.2f} s, {count / seconds:,.0f} items/s")
    print(f"extract / bare loop, in speed: {times['bare loop'] / times['extract']:.2f}")
    if options.ray:
        print(f"Ray / extract, in time: {times['Ray'] / times['extract']:.2f}")


if __name__ == "__main__":
    main()
