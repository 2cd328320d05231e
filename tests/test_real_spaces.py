"""Three real objects, each as photo, sound, point cloud and caption, through every adapter.

The networks are real and their weights random: what is checked is that files arrive as
embeddings under their names, and that corrupted ones are told by name.
"""

from __future__ import annotations

import csv
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from features.memories.memory import Memory
from tests.cli.conftest import mcr
from tests.conftest import DATA
from tests.features.clap_models import (
    hub_cache,
    published_clap,
    save_checkpoint,
    save_hf_model,
    write_roberta_cache,
)
from tests.features.ulip_checkpoints import (
    image_shapes,
    point_shapes,
    random_state,
    save_training,
    text_shapes,
)

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(
        any(find_spec(one) is None for one in ("open_clip", "laion_clap", "transformers")),
        reason="needs open_clip, laion_clap and transformers",
    ),
]
OBJECTS = ("BBQ", "toilet", "train")
SUFFIX = {"image": ".jpeg", "audio": ".wav", "points": ".npz"}


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table for each modality, with the three objects and a corrupted copy of each."""
    source = DATA / "objaverse3"
    if not source.exists():
        pytest.skip(f"real data is missing: {source}")
    folder = tmp_path_factory.mktemp("objects")
    captions = []
    for name in OBJECTS:
        for modality, suffix in SUFFIX.items():
            place = folder / modality
            place.mkdir(exist_ok=True)
            shutil.copy(source / f"{name}{suffix}", place)
            content = (source / f"{name}{suffix}").read_bytes()
            # A sound without its header, half of any other file.
            broken = content[64:] if modality == "audio" else content[: len(content) // 2]
            (place / f"{name}-broken{suffix}").write_bytes(broken)
        with np.load(source / f"{name}.npz") as arrays:
            captions.append((name, str(arrays["caption"])))
    with (folder / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("key", "caption"), *captions])
    return folder


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, int]]:
    """Encoders with random weights: their names on the command line, and dimensions."""
    import open_clip

    folder = tmp_path_factory.mktemp("models")
    config = {
        "embed_dim": 48,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16},
        "text_cfg": {"vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    clip = folder / "clip"
    clip.mkdir()
    (clip / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = open_clip.model.CLIP(**config).state_dict()
    save_file(state, clip / "open_clip_model.safetensors")
    write_roberta_cache(folder / "hub")
    roberta = next((folder / "hub").glob("*/snapshots/*"))
    for fused in (False, True):
        save_checkpoint(published_clap(folder / "hub", fused=fused), folder / f"{fused}.pt")
    save_hf_model(folder / "clap-hf", fused=False)
    ulip = random_state(point_shapes() | image_shapes() | text_shapes())
    save_training(folder / "ulip.pt", ulip)
    coloured = random_state(point_shapes(dimension=1280, channels=6))
    save_training(folder / "ulip2.pt", coloured)
    return {
        "clip": (f"clip:local-dir:{clip}", 48),
        "clap": (f"clap:{folder}/False.pt,roberta={roberta}", 512),
        "clap, fused": (f"clap:{folder}/True.pt,roberta={roberta}", 512),
        "clap, tiled": (f"clap:{folder}/False.pt,roberta={roberta},windows=tiled", 512),
        "clap of transformers": (f"clap:{folder}/clap-hf", 24),
        "ulip": (f"ulip:{folder}/ulip.pt", 512),
        "ulip2": (f"ulip:{folder}/ulip2.pt", 1280),
    }


@pytest.mark.parametrize(
    ("encoder", "modality"),
    [
        ("clip", "image"),
        ("clip", "text"),
        ("clap", "audio"),
        ("clap", "text"),
        ("clap, fused", "audio"),
        ("clap, fused", "text"),
        ("clap, tiled", "audio"),
        ("clap of transformers", "audio"),
        ("clap of transformers", "text"),
        ("ulip", "points"),
        ("ulip", "image"),
        ("ulip", "text"),
        ("ulip2", "points"),
    ],
)
def test_three_objects_become_a_memory(
    objects: Path, specs: dict[str, tuple[str, int]], tmp_path: Path, encoder: str, modality: str
):
    spec, dimension = specs[encoder]
    source = objects / ("captions.csv" if modality == "text" else modality)
    named = ("--id-column", "key") if modality == "text" else ()
    out = tmp_path / "memory.h5"
    with hub_cache(tmp_path):  # nothing but what the specs name
        result = mcr("extract", source, "-e", spec, "-m", modality, "-o", out, *named, "--json")
    suffix = SUFFIX.get(modality, "")
    broken = [f"{name}-broken{suffix}" for name in OBJECTS] if suffix else []
    assert result.exit_code == (3 if broken else 0), result.stderr
    answer = json.loads(result.stdout)
    assert (answer["items"], answer["dimension"]) == (3, dimension)
    memory = Memory(out)
    assert list(memory.ids) == [f"{name}{suffix}" for name in OBJECTS]
    np.testing.assert_allclose(np.linalg.norm(memory.embeddings, axis=1), 1, atol=2e-3)
    cosines = memory.tensor() @ memory.tensor().T
    assert float(cosines.fill_diagonal_(-1).max()) < 0.99999  # three things, three embeddings
    assert memory.header.encoder["spec"].partition(":")[0] == spec.partition(":")[0]
    failures = out.with_suffix(".failures.jsonl")
    told = [json.loads(line) for line in failures.read_text().splitlines()] if broken else []
    assert [one["item"] for one in told] == broken
    assert all(len(one["reason"]) > 10 for one in told)
