"""What 1M, 100M and 1B items take, stage by stage: the tables of docs/scale.md.

python -m benchmarks plan --gpu-tflops 100 --gpu-price 3 --core-price 0.04

Unit costs are measured here: bytes of a memory and of indices for an item, processor time to list,
decode, merge and index one, and the operations of CLIP ViT-B/32 and CLAP (HTSAT-tiny), which are
counted in their networks with random weights. What a GPU does of them in an hour, and prices, are
assumptions, in the options.
"""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.clusters import clustered_rows
from benchmarks.machine import machine
from benchmarks.report import parser
from benchmarks.scale import measured as scale_costs
from bridge.pseudo_pairs.exact import retrieve
from features.extraction.decode import read_audio, read_image
from features.memories.writing import save_memory
from features.search.building import trial_index

SIZES = (1_000_000, 100_000_000, 1_000_000_000)
DIMENSION = 512
QUERIES = 1_000_000  # hub items whose pseudo pairs are retrieved; more do not help a bridge
SAMPLES = Path(__file__).parents[1] / "features" / "samples"
KINDS = ("flat", "hnsw", "IVF128,PQ64")
_ITEMS = 20_000  # of a sample
_LISTED = 500_000
_BYTES = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6))


@dataclass(frozen=True)
class Units:
    """Of one item: bytes, seconds of one core, operations."""

    memory_bytes: float
    index_bytes: Mapping[str, float]
    graph_seconds: float  # of a graph of _ITEMS
    list_seconds: float
    merge_seconds: float
    image_seconds: float
    audio_seconds: float
    image_flops: float
    audio_flops: float
    pair_seconds: float  # of a query and an item


def main() -> None:
    """Print the unit costs and the plan."""
    options = parser(__doc__, repeats=1)
    options.add_argument("--gpu-tflops", type=float, default=100.0, help="that a GPU reaches")
    options.add_argument("--gpu-price", type=float, default=3.0, help="of an hour of a GPU")
    options.add_argument("--core-price", type=float, default=0.04, help="of an hour of a core")
    options.add_argument("--month-price", type=float, default=0.02, help="of a GB on disk, a month")
    arguments = options.parse_args()
    torch.set_num_threads(1)
    units = _measured()
    print(f"{machine()}\n\n| unit cost, {DIMENSION} dimensions | measured |\n|---|---|")
    for name, told in _told(units).items():
        print(f"| {name} | {told} |")
    print("\n| | " + " | ".join(f"{size:,}" for size in SIZES) + " |\n|---|---|---|---|")
    columns = [_plan(units, size, arguments) for size in SIZES]
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(column[name] for column in columns) + " |")


def _measured() -> Units:
    rows = clustered_rows(_ITEMS, DIMENSION).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = {kind: _indexed(kind, rows) for kind in KINDS}
    image, audio = _flops()
    with tempfile.TemporaryDirectory() as folder:
        start = scale_costs(Path(folder) / "start", 8, 1, files=False)
        costs = scale_costs(Path(folder) / "many", _LISTED, 1, files=False)
    each = {step: (costs[step].seconds - start[step].seconds) / _LISTED for step in costs}
    return Units(
        memory_bytes=_memory_bytes(rows),
        index_bytes={kind: size for kind, (size, _) in found.items()},
        graph_seconds=found["hnsw"][1],
        list_seconds=each["listed"],
        merge_seconds=each["merged"],
        image_seconds=_seconds(lambda: read_image(SAMPLES / "rocket.jpg").resize((224, 224))),
        audio_seconds=_seconds(lambda: read_audio(SAMPLES / "speech.ogg", 48_000)) / 4 * 10,
        image_flops=image,
        audio_flops=audio,
        pair_seconds=_pair_seconds(rows),
    )


def _told(units: Units) -> dict[str, str]:
    return {
        "a row of a memory, float16, with its id": f"{units.memory_bytes:.0f} bytes",
        **{f"a row of an index, {kind}": f"{units.index_bytes[kind]:.0f} bytes" for kind in KINDS},
        f"adding a row to a graph of {_ITEMS:,}": f"{units.graph_seconds * 1e3:.2f} ms",
        "listing an item of a table": f"{units.list_seconds * 1e6:.1f} µs",
        "merging an item of a shard": f"{units.merge_seconds * 1e6:.1f} µs",
        "decoding a picture of 384 x 256": f"{units.image_seconds * 1e3:.2f} ms",
        "decoding 10 s of sound": f"{units.audio_seconds * 1e3:.1f} ms",
        "CLIP ViT-B/32, a picture": f"{units.image_flops / 1e9:.1f} GFLOP",
        "CLAP HTSAT-tiny, 10 s of sound": f"{units.audio_flops / 1e9:.1f} GFLOP",
        "pseudo pairs, exact, a query and an item": f"{units.pair_seconds * 1e9:.2f} ns",
    }


def _plan(units: Units, items: int, told: Any) -> dict[str, str]:
    """Half of the items are pictures, half are sounds of 10 s."""
    half = items / 2
    gpu = half * (units.image_flops + units.audio_flops) / (told.gpu_tflops * 1e12) / 3600
    cores = half * (units.image_seconds + units.audio_seconds) / 3600
    memory = items * units.memory_bytes
    pairs = 4.0 * DIMENSION * QUERIES * items / (told.gpu_tflops * 1e12) / 3600
    listing = items * (units.list_seconds + units.merge_seconds) / 3600
    plan = {
        "listing and merging, core hours": f"{listing:,.3g}",
        "decoding, core hours": f"{cores:,.0f}",
        "encoding, GPU hours": f"{gpu:,.3g}",
        "memories": _size(memory),
        "pseudo pairs of 1M hub items, exact, GPU hours": f"{pairs:,.3g}",
        "the same on cores, core hours": f"{QUERIES * items * units.pair_seconds / 3600:,.0f}",
    }
    for kind in KINDS:
        plan[f"index {kind}"] = _size(items * units.index_bytes[kind])
    growth = math.log(items) / math.log(_ITEMS)
    hours = items * units.graph_seconds * growth / 3600
    plan["building hnsw, core hours"] = f"{hours:,.3g}"
    money = (gpu + pairs) * told.gpu_price + (cores + listing) * told.core_price
    plan["machines, once"] = f"${money:,.2f}"
    plan["disk, a month"] = f"${2 * memory / 1e9 * told.month_price:,.2f}"  # shards and the whole
    return plan


def _size(count: float) -> str:
    name, size = next((one for one in _BYTES if count >= one[1]), _BYTES[-1])
    return f"{count / size:.3g} {name}"


def _memory_bytes(rows: Any) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.h5"
        ids = [f"images/{row // 1000:06d}/{row:09d}.jpg" for row in range(len(rows))]
        save_memory(path, rows.astype(np.float16), ids, space="random", modality="image")
        return path.stat().st_size / len(rows)


def _indexed(kind: str, rows: Any) -> tuple[float, float]:
    """Bytes for a row, without the centroids of codes, and seconds of one core."""
    import faiss

    faiss.omp_set_num_threads(1)
    started = time.process_time()
    size, _ = trial_index(kind, rows, items=len(rows))
    if "PQ" in kind:  # codes and ids; the centroids are the same for any number
        return float(kind.partition("PQ")[2]) + 8, 0.0
    return size / len(rows), (time.process_time() - started) / len(rows)


def _pair_seconds(rows: Any) -> float:
    memory, queries = torch.from_numpy(rows), torch.from_numpy(rows[:512].copy())
    return _seconds(lambda: retrieve(queries, memory, temperature=0.01)) / (512 * len(rows))


def _seconds(work: Callable[[], object]) -> float:
    """Processor time of a call, of as many as take a second."""
    work()
    started, count = time.process_time(), 0
    while time.process_time() - started < 1:
        work()
        count += 1
    return (time.process_time() - started) / count


def _flops() -> tuple[float, float]:
    """Of a picture in CLIP ViT-B/32, and of 10 s of sound in CLAP's HTSAT-tiny."""
    import open_clip
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import ClapConfig, ClapModel

    logging.disable(logging.WARNING)  # that the weights are random is meant
    clip: Any = open_clip.create_model("ViT-B-32")
    clap: Any = ClapModel(ClapConfig())
    clap.eval()
    logging.disable(logging.NOTSET)
    spectrogram = torch.zeros(1, 1, 1001, 64)  # frames of 10 s, mel bands
    runs: tuple[Callable[[], object], ...] = (
        lambda: clip.encode_image(torch.zeros(1, 3, 224, 224)),
        lambda: clap.get_audio_features(input_features=spectrogram, is_longer=None),
    )
    counts = []
    for run in runs:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            run()
        counts.append(float(counter.get_total_flops()))
    return counts[0], counts[1]


if __name__ == "__main__":
    main()
