"""The documents' commands: they run, in the order of the page, and have the options they name.

In docs/real-models.md the published models stand aside for small ones of random weights in the
same formats; data are a few files under many names.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import typer
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from bridge.artefact import load
from cli.main import app
from features.memories.memory import Memory
from tests.features.ulip_checkpoints import (
    image_shapes,
    point_shapes,
    random_state,
    save_training,
    text_shapes,
)

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs" / "real-models.md"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PACKAGES = ("open_clip", "laion_clap", "transformers", "pyarrow")
CLIP, CLAP = "clip:ViT-B-32,openai", "clap:630k-fusion-best"
CLIP_CONFIG = {
    "embed_dim": 512,
    "vision_cfg": {
        "image_size": 32, "layers": 1, "width": 64, "patch_size": 16, "head_width": 32
    },
    "text_cfg": {
        "context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1
    },
}  # fmt: skip
EVERY = 100  # the guide's first try takes every hundredth item
COUNTS = {"texts": 40, "images": 12, "sounds": 5, "clouds": 7}
ONLY_TRAINED = {"its own sentence wins", "different things differ"}  # what random weights fail


def commands(document: Path) -> list[str]:
    """Lines that are indented by four, continued ones joined."""
    text = re.sub(r"```.*?```", "", document.read_text("utf-8"), flags=re.DOTALL)
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    return re.findall(r"^ {4}(\S.*)$", joined, flags=re.MULTILINE)


def options_of_commands() -> dict[str, set[str]]:
    """The flags of every command."""
    group: Any = typer.main.get_command(app)  # its class is click's or typer's own, by version
    known = {name: _flags(command) for name, command in group.commands.items()}
    for one in ("eval", "plot"):
        kinds = group.commands[one].commands
        known |= {f"{one} {name}": _flags(command) for name, command in kinds.items()}
    return {**known, "eval": known["eval retrieval"]}  # without a protocol it is retrieval


def _flags(command: Any) -> set[str]:
    return {flag for one in command.params for flag in (*one.opts, *one.secondary_opts)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_options_in_documents_exist(document: Path):
    known = options_of_commands()
    text = document.read_text("utf-8").replace("\\\n", " ")
    # Commands on lines of their own and in backquotes; the words after them are arguments.
    found = re.findall(r"(?:^ *|`)mcr +([a-z][a-z-]*)([^`\n]*)", text, flags=re.MULTILINE)
    for name, arguments in found:
        first = f"{name} {arguments.split()[0]}" if arguments.split() else name
        name = first if first in known else name
        assert name in known, name
        for flag in re.findall(r"(?<=\s)(--?[a-z][a-z-]*)", arguments):
            assert flag in known[name] | {"--help", "-h"}, f"mcr {name} {flag}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_links_in_documents_lead_somewhere(document: Path):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", document.read_text("utf-8")):
        assert (document.parent / target).exists(), target


@pytest.fixture
def journey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A folder with the guide's files; gives what the guide's model names stand for in it."""
    missing = [one for one in PACKAGES if find_spec(one) is None]
    if missing or shutil.which("awk") is None:
        pytest.skip(f"the guide needs {', '.join(missing) or 'awk'}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        models = {CLIP: write_clip(tmp_path), CLAP: write_clap(tmp_path)}
    save_training(
        tmp_path / "pointbert_ULIP-2.pt",
        random_state(point_shapes() | image_shapes() | text_shapes()),
    )
    write_projectors(tmp_path)
    write_data(tmp_path / "data")
    write_embeddings(tmp_path)
    yield models
    torch.set_num_threads(threads)


def write_clip(folder: Path) -> str:
    """A small CLIP of 512 dimensions."""
    import open_clip

    path = folder / "guide-clip.json"
    path.write_text(json.dumps(CLIP_CONFIG))
    open_clip.add_model_config(path)
    torch.save(open_clip.create_model("guide-clip").state_dict(), folder / "clip.pt")
    return "clip:guide-clip,clip.pt"


def write_clap(folder: Path) -> str:
    """LAION's smallest audio tower, with fusion, beside a small text tower."""
    from features.encoders.clap.laion_model import LaionShape, build_laion
    from tests.features.clap_models import write_tokenizer

    words = write_tokenizer(folder / "roberta")
    text = {
        "text_branch.embeddings.word_embeddings.weight": torch.zeros(words, 64),
        "text_branch.encoder.layer.0.intermediate.dense.weight": torch.zeros(64, 64),
    }
    model = build_laion(LaionShape("HTSAT-tiny", fused=True, joint_width=512), text)
    torch.save(model.state_dict(), folder / "clap.pt")
    return "clap:clap.pt,roberta=roberta"


def write_projectors(folder: Path) -> None:
    """clap_clip.pt and ulip_clip.pt under the authors' names of layers."""

    def two() -> nn.ModuleDict:
        first = nn.Sequential(nn.Linear(512, 1024), nn.BatchNorm1d(1024), nn.ReLU())
        return nn.ModuleDict(
            {"net1": first, "net2": nn.Sequential(nn.Linear(1024, 512), nn.BatchNorm1d(512))}
        )

    def one() -> nn.ModuleDict:
        layer = nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU())
        return nn.ModuleDict({"net": layer})

    for name, head in (("clap_clip.pt", two), ("ulip_clip.pt", one)):
        state: dict[str, Tensor] = nn.ModuleDict({"Head_A": head(), "Head_B": head()}).state_dict()
        torch.save(state, folder / name)


def write_data(data: Path) -> None:
    """The guide's tables, and folders of links of which every hundredth is another file."""
    rng = np.random.default_rng(0)
    data.mkdir()
    count = EVERY * COUNTS["texts"]
    texts = "".join(f"a photo of the number {i}, said aloud\n" for i in range(count))
    (data / "all-texts.txt").write_text(texts)
    for kind, suffix in (("images", "JPEG"), ("sounds", "wav"), ("clouds", "npz")):
        folder = data / kind / "some"
        folder.mkdir(parents=True)
        for i in range(COUNTS[kind]):
            file = folder / f"{EVERY * i:05}.{suffix}"
            write_item(file, rng)
            for j in range(1, EVERY):
                (folder / f"{EVERY * i + j:05}.{suffix}").symlink_to(file.name)
    write_item(data / "bark.wav", rng)
    write_item(data / "chair.npz", rng)
    keys = [EVERY * i for i in range(COUNTS["sounds"])]
    pairs = "".join(f"{k},images/some/{k:05}.JPEG,sounds/some/{k:05}.wav\n" for k in keys)
    (data / "av-test.csv").write_text(f"key,image,sound\n{pairs}")
    shapes = "".join(f"clouds/some/{EVERY * i:05}.npz,{i % 2}\n" for i in range(COUNTS["clouds"]))
    (data / "shapes-test.csv").write_text(f"path,category\n{shapes}")
    (data / "shapes-names.csv").write_text("text,category\na chair,0\na table,1\n")


def write_item(path: Path, rng: np.random.Generator) -> None:
    """A picture, a sound or a cloud, by the suffix."""
    if path.suffix == ".JPEG":
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    elif path.suffix == ".wav":
        soundfile.write(path, 0.1 * rng.standard_normal(24_000), 48_000)
    else:
        np.savez(path, xyz=rng.standard_normal((600, 3)).astype(np.float32))


def write_embeddings(folder: Path) -> None:
    """A folder as clip-retrieval makes it, and an array with its captions."""
    import pyarrow
    from pyarrow import parquet

    rows = np.random.default_rng(1).standard_normal((6, 512)).astype(np.float16)
    for name in ("img_emb", "metadata"):
        (folder / "laion-part" / name).mkdir(parents=True)
    np.save(folder / "laion-part" / "img_emb" / "img_emb_0.npy", rows)
    table = pyarrow.table({"image_path": [f"{i}.jpg" for i in range(6)]})
    parquet.write_table(table, folder / "laion-part" / "metadata" / "metadata_0.parquet")
    np.save(folder / "captions.npy", rows)
    (folder / "captions.txt").write_text("".join(f"caption {i}\n" for i in range(6)))


def run(command: str, models: dict[str, str]) -> Any:
    """Run one line of the guide; it must succeed, but for what only trained weights can do."""
    words = shlex.split(command)
    if words[0] != "mcr":
        subprocess.run(["bash", "-c", command], check=True)
        return None
    for name, stand_in in models.items():
        words = [word.replace(name, stand_in) for word in words]
    result = CliRunner().invoke(app, words[1:])
    failed = re.findall(r"^FAILED  \w+: ([^:]+)", result.stdout, flags=re.MULTILINE)
    assert result.exit_code == int(bool(failed)), f"{command}\n{result.output}"
    assert set(failed) <= ONLY_TRAINED, result.stdout
    return result


@pytest.mark.slow
def test_every_command_of_the_guide_runs(journey: dict[str, str]):
    lines = commands(GUIDE)
    assert sum("mcr train" in line for line in lines) == 2
    for line in lines:
        result = run(line, journey)
        if line.startswith("mcr query"):
            hits = [one.split("\t") for one in result.stdout.splitlines()]
            assert len(hits) == 5, line
            scores = [float(hit[0]) for hit in hits]
            assert scores == sorted(scores, reverse=True)
            assert max(map(abs, scores)) <= 1.001
    memories = [path for path in Path("memories").glob("*.h5") if ".ids" not in path.suffixes]
    rows = {path.stem: len(Memory(path)) for path in memories}
    taken = {
        "texts-clip": "texts", "texts-clap": "texts", "images-clip": "images",
        "images-ulip": "images", "sounds-clap": "sounds", "clouds-ulip": "clouds",
        "av-sounds": "sounds", "av-images": "sounds", "shapes": "clouds",
    }  # fmt: skip
    assert {name: rows[name] for name in taken} == {n: COUNTS[kind] for n, kind in taken.items()}
    assert (rows["shapes-names"], rows["laion-images"], rows["captions-clip"]) == (2, 6, 6)
    for name, spaces in (("audio-image", "clap clip"), ("points-text", "clip ulip")):
        trained = load(f"bridges/{name}", device="cpu")
        assert " ".join(sorted(trained.spaces)) == spaces
        assert trained.settings.projector == load(f"bridges/published-{name}").settings.projector
