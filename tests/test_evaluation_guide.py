"""The commands of docs/evaluation.md run, in the order of the page, on a few files in each layout.

Small models of random weights stand aside for CLIP, CLAP and ULIP.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from tests.cli.conftest import SMALL, done
from tests.features.datasets.layouts import flickr
from tests.test_guide import CLAP, CLIP, ROOT, commands, run, write_clip

GUIDE = ROOT / "docs" / "evaluation.md"
SAMPLES = 14
BOX = [0.25, 0.25, 0.75, 0.75]


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_encoder) -> Iterator[dict[str, str]]:
    """A folder with the page's files; gives what its model names stand for in it."""
    if find_spec("open_clip") is None:
        pytest.skip("the page needs open_clip")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("features.extraction.decode_batches.cpu_count", lambda: 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    hears = make_encoder("audio", "text", name="clap", seed=2)
    shapes = make_encoder("points", "text", name="ulip", seed=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        models = {CLIP: write_clip(tmp_path), CLAP: hears.description.spec}
    write_data(tmp_path / "data")
    train_bridges(models[CLIP], models[CLAP], shapes.description.spec)
    yield models
    torch.set_num_threads(threads)


def write_data(data: Path) -> None:
    """Every data set in its authors' layout."""
    rng = np.random.default_rng(0)
    names = [f"{i:011}_000030" for i in range(SAMPLES)]
    for folder in ("ave", "vggss", "flickr"):
        for i, name in enumerate(names):
            stem = name[:11] if folder != "vggss" else name
            picture(data / folder / "frames" / f"{stem}.jpg", rng)
            sound(data / folder / "audio" / f"{stem}.wav", rng)
            if folder == "flickr":
                path = data / "flickr" / "Annotations" / f"{stem}.xml"
                path.parent.mkdir(exist_ok=True)
                path.write_text(flickr((0, 0, 128, 128), (64, 0, 128 + i, 128)))
    events = [f"Bark&{name[:11]}&good&0&10" for name in names[:7]]
    events += [f"Church bell&{name[:11]}&good&0&5" for name in names[7:]]
    (data / "ave" / "testSet.txt").write_text("\n".join(events))
    marked = [{"file": name, "class": "elk bugling", "bbox": [BOX]} for name in names]
    (data / "vggss" / "vggss.json").write_text(json.dumps(marked))
    pairs = [f"{one},{one},sounding" for one in names]
    pairs += [f"{one},{other},non-sounding" for one, other in pairwise(names)]
    (data / "vggss" / "vggss_test_plus_silent.csv").write_text("\n".join(pairs))
    write_music(data / "music", rng)
    write_labelled(data, rng)


def write_music(data: Path, rng: np.random.Generator) -> None:
    frames = {}
    for second in range(SAMPLES):
        name = f"4Oy5VmaacaI_0_1000/frame_{second:03}/00411.jpg"
        picture(data / "video_frames" / name, rng)
        sound(data / "audio_frames" / "4Oy5VmaacaI_0_1000" / f"{second:03}.wav", rng)
        box = {"box": [10, 10, 20, 20], "normbox": [0.2, 0.2, 0.5, 0.5], "category_id": 1}
        frames[name] = {"bbox": [box] if second else [], "wdith": 50, "height": 40}
    (data / "solotest.json").write_text(json.dumps(frames))


def write_labelled(data: Path, rng: np.random.Generator) -> None:
    esc = [["filename", "fold", "target", "category", "esc10", "src_file", "take"]]
    for i in range(SAMPLES):
        sound(data / "ESC-50" / "audio" / f"1-{i}-A-0.wav", rng)
        esc.append([f"1-{i}-A-0.wav", "1", "0", ("dog", "chirping_birds")[i % 2], "True", "1", "A"])
    table(data / "ESC-50" / "meta" / "esc50.csv", esc)
    shapes = [f"{name}_{i:04}" for name in ("airplane", "night_stand") for i in range(3)]
    for shape in shapes:
        path = data / "ModelNet40" / shape.rpartition("_")[0] / "test" / f"{shape}.off"
        path.parent.mkdir(parents=True, exist_ok=True)
        corners = "\n".join(" ".join(f"{x:.3f}" for x in row) for row in rng.random((12, 3)))
        faces = "\n".join(f"3 {i} {i + 1} {i + 2}" for i in range(10))
        path.write_text(f"OFF\n12 10 0\n{corners}\n{faces}\n")
    (data / "ModelNet40" / "modelnet40_test.txt").write_text("\n".join(shapes))
    names = ("airplane", "bathtub", "night_stand")
    (data / "ModelNet40" / "modelnet40_shape_names.txt").write_text("\n".join(names))
    for i in range(4):
        sound(data / "said" / f"{i}.wav", rng)
    rows = [[f"said/{i}.wav", ("lights on", "lights off")[i % 2]] for i in range(4)]
    table(data / "commands.csv", [["path", "intent"], *rows])
    (data / "texts.txt").write_text("\n".join(f"number {i} said aloud" for i in range(20)))


def picture(path: Path, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)


def sound(path: Path, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * rng.standard_normal(2000), 8000)


def table(path: Path, rows: list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def train_bridges(clip: str, clap: str, ulip: str) -> None:
    """What the page takes for granted: bridges, and the memories that its diagnosis looks at."""
    for name, encoder in (("clip", clip), ("clap", clap), ("ulip", ulip)):
        memory = f"memories/texts-{name}.h5"
        done("extract", "data/texts.txt", "-e", encoder, "-m", "text", "-o", memory)
    done("extract", "data/vggss/frames", "-e", clip, "-m", "image", "-o", "memories/images-clip.h5")
    for name, other, seed in (
        ("audio-image", "clap", 0), ("published-audio-image", "clap", 1), ("points-text", "ulip", 0)
    ):  # fmt: skip
        done(
            "train", "--hub", "memories/texts-clip.h5", "--hub", f"memories/texts-{other}.h5",
            "-o", f"bridges/{name}", *SMALL, "--seed", seed,
        )  # fmt: skip


@pytest.mark.slow
def test_every_command_of_the_page_runs(page: dict[str, str]):
    lines = [line for line in commands(GUIDE) if line.startswith("mcr")]
    assert {line.split()[2] for line in lines if line.startswith("mcr eval")} == {
        "retrieval", "zero-shot", "localisation", "counterfactual", "diagnostics"
    }  # fmt: skip
    for line in lines:
        result = run(line, page)
        if line.startswith("mcr eval"):
            assert "written to " in result.stdout, line
            assert "nan" not in result.stdout, line
    results = [json.loads(path.read_text()) for path in Path("bridges").rglob("results/*.json")]
    sets = {Path(one["files"]["annotations"]["path"]).name for one in results if one["files"]}
    assert sets == {
        "testSet.txt", "esc50.csv", "modelnet40_test.txt", "vggss.json", "solotest.json",
        "Annotations",
    }  # fmt: skip
    assert [one["counts"] for one in results if "music" in str(one["files"])] == [
        {"samples": SAMPLES - 1, "samples without a box": 1}
    ]
