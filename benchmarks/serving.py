"""`mcr serve` under load, against the bare index, and the time to a first hit.

python -m benchmarks serving --items 100000 --clients 32 --seconds 60

A server process of its own answers clients over the loopback, each on a connection of its own and
asking its next sentence as soon as it has an answer. No sentence is asked twice, so none of its
embeddings is remembered. The bare index is the same FAISS index in this process, with embeddings
that were made before: what a server adds is the sentences' embedding, the bridge, HTTP and JSON.
`--demo FOLDER` (from `mcr demo`) also asks its bridges one at a time, as a person does.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clusters import clustered_rows
from benchmarks.machine import machine
from bridge.artefact import Bridge, BridgedSpace, load, make_projector
from bridge.config import TrainSettings
from bridge.search import Embedder, Query, embed_for_bridge
from bridge.serving.service import leave_a_core
from features.encoders import load_encoder
from features.memories.memory import Columns, MemoryHeader
from features.memories.writing import write_memory
from features.search.building import build_index
from features.search.index import open_index
from features.space import Modality

K = 12
WORDS = [
    "a",
    "the",
    "red",
    "blue",
    "large",
    "small",
    "old",
    "bird",
    "dog",
    "horn",
    "engine",
    "rain",
    "piano",
    "voice",
    "street",
    "river",
]


def main() -> None:
    """Print the table of the load, and that of the demo if it is given."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--items", type=int, default=100_000)
    options.add_argument("--kind", default="flat", help="flat, hnsw, ivf or a FAISS factory string")
    options.add_argument("--clients", type=int, default=32)
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--demo", type=Path, help="a folder of `mcr demo`")
    arguments = options.parse_args()
    print(f"{machine()}\n")
    with tempfile.TemporaryDirectory() as folder:
        bridge, index = _make(Path(folder), arguments.items, arguments.kind)
        with _served("--bridge", bridge, "--index", index) as (address, started, cpu):
            before = cpu()
            took, errors = asyncio.run(_load(address, arguments.clients, arguments.seconds))
            used = cpu() - before
        _report_load(took, errors, arguments, started, used)
        _report_bare(bridge, index, arguments.clients)
    if arguments.demo is not None:
        _demo(arguments.demo)


def _make(folder: Path, items: int, kind: str) -> tuple[Path, Path]:
    """A bridge that was not trained, and an index of clustered rows in its space."""
    settings = TrainSettings(dimension=512, hidden=1024, seed=0)
    encoders = [load_encoder(name, device="cpu") for name in ("mini-clap", "mini-clip")]
    spaces = [
        BridgedSpace(e.space.name, e.space.dimension, e.space.modalities, e.description.as_dict())
        for e in encoders
    ]
    projectors = {space.name: make_projector(space.dimension, settings) for space in spaces}
    bridge = Bridge("bridge", spaces, projectors, settings)
    bridge.save(folder / "bridge")
    header = MemoryHeader("bridge", "image", 512, extra={"bridge": bridge.fingerprint})
    columns = Columns([str(row) for row in range(items)])
    rows = clustered_rows(items, 512)
    memory = write_memory(folder / "items.h5", header, columns, [rows], checked=True)
    return folder / "bridge", build_index(memory, folder / "items.faiss", kind=kind).path


@contextmanager
def _served(*arguments: object) -> Iterator[tuple[str, float, Callable[[], float]]]:
    """The address of a server that is ready, the seconds until it answered, and its CPU seconds."""
    import httpx

    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", "from cli.main import run; run()", "serve", "--port", "0",
         "--device", "cpu", *map(str, arguments)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        found = re.match(r"http://\S+", process.stdout.readline())
        if found is None:
            sys.exit("the server did not start")
        address = found.group()
        httpx.get(f"{address}/healthz", timeout=60).raise_for_status()
        started = time.perf_counter() - began
        while httpx.get(f"{address}/readyz", timeout=60).status_code != 200:
            time.sleep(0.05)
        yield address, started, lambda: _cpu_seconds(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def _cpu_seconds(process: int) -> float:
    """Of a process so far; NaN where the system does not tell."""
    stat = Path(f"/proc/{process}/stat")
    if not stat.exists():
        return float("nan")
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _sentences() -> Iterator[str]:
    """Sentences, none of them twice."""
    generator = random.Random(0)
    for number in itertools.count():
        yield f"{number} {' '.join(generator.choices(WORDS, k=5))}"


async def _load(address: str, clients: int, seconds: float) -> tuple[list[float], list[str]]:
    """Seconds that every answer took, and what went wrong."""
    sentences, took, errors = _sentences(), list[float](), list[str]()
    host, _, port = address.removeprefix("http://").rpartition(":")
    end = time.perf_counter() + seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        while time.perf_counter() < end:
            began = time.perf_counter()
            status, _ = await _ask(reader, writer, {"text": next(sentences)})
            if status == 200:
                took.append(time.perf_counter() - began)
            else:
                errors.append(str(status))
        writer.close()

    for ended in await asyncio.gather(*(client() for _ in range(clients)), return_exceptions=True):
        if ended is not None:
            errors.append(repr(ended))
    return took, errors


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, query: dict[str, Any]
) -> tuple[int, bytes]:
    """One search by hand: an HTTP library takes more of the machine than the server does."""
    body = json.dumps({"queries": [query], "k": K}).encode()
    writer.write(
        b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body) + body
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = re.search(r"content-length: (\d+)", head)
    if length is None:
        raise ConnectionError(f"an answer of unknown length: {head[:80]}")
    return int(head.split()[1]), await reader.readexactly(int(length.group(1)))


def _report_load(
    took: list[float],
    errors: list[str],
    arguments: argparse.Namespace,
    started: float,
    used: float,
) -> None:
    p50, p95, p99 = (float(np.percentile(took, p)) * 1e3 for p in (50, 95, 99))
    print(f"{arguments.clients} clients, {arguments.seconds:g} s, {arguments.items} items, k {K}\n")
    print("| answers | errors | a second | p50 | p95 | p99 | p99 / p50 | CPU each | start-up |")
    print("|---|---|---|---|---|---|---|---|---|")
    rate = len(took) / arguments.seconds
    print(
        f"| {len(took)} | {len(errors)} | {rate:.0f} | {p50:.1f} ms | {p95:.1f} ms | {p99:.1f} ms "
        f"| {p99 / p50:.1f} | {used / len(took) * 1e3:.1f} ms | {started:.1f} s |"
    )
    if errors:
        print(f"errors: {sorted(set(errors))[:5]}")


def _report_bare(bridge_folder: Path, index_path: Path, together: int) -> None:
    """The bare index, and the embedding without a server, with as many threads as a server's."""
    leave_a_core()
    bridge, embedder = load(bridge_folder, device="cpu"), Embedder(device="cpu")
    index, sentences = open_index(index_path), _sentences()

    def embedded(count: int) -> Any:
        asked = [Query("text", next(sentences)) for _ in range(count)]
        return embed_for_bridge(asked, bridge, embedder).cpu().numpy()

    print("\n| without a server | queries a second |")
    print("|---|---|")
    for count in (1, together):
        rows = embedded(count)
        for what, run in (
            (f"the bare index, {count} at a time", lambda: index.search_rows(rows, K)),  # noqa: B023
            (f"embedded and searched, {count} at a time",
             lambda: index.search(embedded(count), K)),  # noqa: B023
        ):  # fmt: skip
            seconds = []
            for _ in range(30):
                began = time.perf_counter()
                run()
                seconds.append(time.perf_counter() - began)
            print(f"| {what} | {count / statistics.median(seconds):.0f} |")


def _demo(folder: Path) -> None:
    """Seconds from a question to its hits, asked one after another, by text and by file."""
    arguments: list[object] = []
    for name in ("audio-image", "points-text"):
        arguments += ["--bridge", folder / "bridges" / name]
    for name in ("image-audio-image-test", "text-points-text-test"):
        arguments += ["--index", folder / "memories" / f"{name}.faiss"]
    data = folder / "data"
    files: list[tuple[Modality, str]] = [
        ("audio", "sounds/*.wav"), ("image", "images/*.png"), ("points", "points/*.npz")
    ]  # fmt: skip
    print("\nThe demo, one question after another\n")
    print("| asked by | questions | p50 | p95 |")
    print("|---|---|---|---|")
    with _served(*arguments) as (address, _, _):
        sentences = _sentences()
        asked: list[tuple[str, list[dict[str, Any]]]] = [
            ("text", [{"text": next(sentences)} for _ in range(300)])
        ]
        for modality, pattern in files:
            asked.append((modality, [_file(path) for path in sorted(data.glob(pattern))[:150]]))
        for name, queries in asked:
            took = asyncio.run(_one_by_one(address, queries))
            p50, p95 = (float(np.percentile(took, p)) * 1e3 for p in (50, 95))
            print(f"| {name} | {len(took)} | {p50:.1f} ms | {p95:.1f} ms |")


def _file(path: Path) -> dict[str, Any]:
    import base64

    return {"content": base64.b64encode(path.read_bytes()).decode(), "filename": path.name}


async def _one_by_one(address: str, queries: list[dict[str, Any]]) -> list[float]:
    host, _, port = address.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    took = []
    for query in queries:
        began = time.perf_counter()
        status, body = await _ask(reader, writer, query)
        took.append(time.perf_counter() - began)
        if status != 200:
            sys.exit(f"the server answered {status}: {body[:200]!r}")
    writer.close()
    return took


if __name__ == "__main__":
    main()
