"""`mcr import-cmcr`: published projectors become a bridge that the other commands take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bridge.artefact import load
from features.encoders import load_encoder
from features.memories.memory import Memory
from features.memories.writing import save_memory
from features.sealed import read_sealed
from tests.cli.conftest import answer, done
from tests.cli.refusals import file, refused

ORACLE = Path(__file__).parents[3] / "shared" / "oracles" / "cmcr_ulip_clip"
CHECKPOINT = ORACLE / "ulip_clip.pt"


def extended(path: Path, seed: int) -> Path:
    """A checkpoint of Ex-MCR's shape with random weights."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * 0.05

    def layer(name: str, inputs: int, outputs: int, norm: str) -> dict[str, torch.Tensor]:
        return {
            f"{name}.weight": normal(outputs, inputs), f"{name}.bias": normal(outputs),
            f"{norm}.weight": normal(outputs) + 1, f"{norm}.bias": normal(outputs),
            f"{norm}.running_mean": normal(outputs),
            f"{norm}.running_var": normal(outputs).abs() + 1,
            f"{norm}.num_batches_tracked": torch.tensor(1),
        }  # fmt: skip

    state = {"Head1.weight": normal(512, 512), "Head1.bias": normal(512)}
    for mlp in ("Head2.mlp1", "Head2.mlp2"):
        state |= layer(f"{mlp}.net1.0", 512, 1024, f"{mlp}.net1.1")
        state |= layer(f"{mlp}.net2.0", 1024, 512, f"{mlp}.net2.1")
    torch.save(state, path)
    return path


@pytest.fixture
def checkpoint() -> Path:
    if not CHECKPOINT.exists():
        pytest.skip(f"the published checkpoint is missing: {CHECKPOINT}")
    return CHECKPOINT


def test_the_published_projectors_project_a_memory(checkpoint, tmp_path):
    out = tmp_path / "ulip-clip"
    result = done("import-cmcr", checkpoint, "-o", out)
    assert result.stdout == f"{out}: clip: image, text; ulip: points; 512-d\n"
    oracle = np.load(ORACLE / "oracle.npz")
    ids = [str(i) for i in range(len(oracle["x"]))]
    for space, modality, expected in (
        ("ulip", "points", "head_b_ulip_norm"), ("clip", "image", "head_a_clip_norm")
    ):  # fmt: skip
        save_memory(tmp_path / f"{space}.h5", oracle["x"], ids, space=space, modality=modality)
        done("project", tmp_path / f"{space}.h5", "-b", out, "-o", tmp_path / f"{space}-shared.h5")
        rows = Memory(tmp_path / f"{space}-shared.h5").embeddings
        np.testing.assert_allclose(rows, oracle[expected], atol=1e-5)
    told = answer("info", out)
    assert "C-MCR's published ulip_clip.pt" in told["origin"]
    done("eval", "-b", out, "-q", tmp_path / "ulip.h5", "-g", tmp_path / "clip.h5")


def test_json_is_what_the_bridge_says_of_itself(tmp_path):
    paths = [extended(tmp_path / f"ex_{name}.pt", i) for i, name in enumerate(("clap", "ulip"))]
    told = answer("import-cmcr", *paths, "-o", tmp_path / "ex")
    assert told.pop("bridge") == str(tmp_path / "ex")
    assert told == read_sealed(tmp_path / "ex" / "bridge.json")
    assert [(one["name"], one["modalities"]) for one in told["spaces"]] == [
        ("clip", ["image", "text"]), ("clap", ["audio"]), ("ulip", ["points"]),
    ]  # fmt: skip
    assert load(tmp_path / "ex", device="cpu").fingerprint == told["fingerprint"]


def test_spaces_can_be_named_where_the_file_does_not_say(tmp_path):
    path = extended(tmp_path / "weights.pt", 0)
    out = tmp_path / "ex"
    assert "say which it is with --space clap or --space ulip" in refused(
        "import-cmcr", path, "-o", out
    )
    done("import-cmcr", path, "-o", out, "--space", "ulip")
    assert list(load(out, device="cpu").spaces) == ["clip", "ulip"]


def test_an_encoder_that_is_named_is_recorded(tmp_path, make_encoder):
    encoder = make_encoder("audio", "text", name="clap", dimension=512)
    spec, weights = encoder.description.spec, encoder.description.weights
    path = extended(tmp_path / "ex_clap.pt", 0)
    done("import-cmcr", path, "-o", tmp_path / "ex", "--encoder", f"clap={spec}")
    recorded = load(tmp_path / "ex", device="cpu").spaces["clap"].encoder
    assert recorded == load_encoder(spec, device="cpu").description.as_dict()
    # A memory of other weights is refused from then on.
    rows = np.eye(2, 512, dtype=np.float32)
    stranger = {**recorded, "weights": weights[::-1]}
    for name, described in (("mine", recorded), ("theirs", stranger)):
        save_memory(tmp_path / f"{name}.h5", rows, ["a", "b"], space="clap", modality="audio",
                    encoder=described)  # fmt: skip
    project = ("-b", tmp_path / "ex", "-o", tmp_path / "out.h5")
    assert "have encoders with other weights" in refused(
        "project", tmp_path / "theirs.h5", *project
    )
    assert done("project", tmp_path / "mine.h5", *project).stderr.count("note:") == 0


def test_an_output_that_exists_is_kept_unless_told(tmp_path):
    path = extended(tmp_path / "ex_clap.pt", 0)
    out = tmp_path / "ex"
    done("import-cmcr", path, "-o", out)
    before = {one.name: one.read_bytes() for one in out.iterdir()}
    other = extended(tmp_path / "ex_ulip.pt", 1)
    assert refused("import-cmcr", other, "-o", out) == (
        f"{out} is a bridge already: pass --overwrite or choose another output"
    )
    assert {one.name: one.read_bytes() for one in out.iterdir()} == before
    done("import-cmcr", other, "-o", out, "--overwrite")
    assert list(load(out, device="cpu").spaces) == ["clip", "ulip"]


MISTAKES = {
    "no file": (lambda t: (t / "none.pt",), "none.pt does not exist: check the path"),
    "no weights": (lambda t: (file(t / "a.pt", "text"),), "cannot be read as published projectors"),
    "other weights": (
        lambda t: (saved(t, {"x.weight": torch.ones(2)}),),
        "holds no projectors of C-MCR (Head_A, Head_B) or Ex-MCR (Head1, Head2) but 1 tensors such",
    ),
    "an object": (lambda t: (saved(t, {"x": Path("a")}),), "holds Python objects"),
    "out is a file": (
        lambda t: (extended(t / "ex_clap.pt", 0), "-o", file(t / "taken")),
        "taken is a file but a bridge is a folder",
    ),
    "twice the same": (
        lambda t: (extended(t / "ex_clap.pt", 0), extended(t / "ex_clap2.pt", 1)),
        "name one of clap and ulip for each",
    ),
    "a space too many": (
        lambda t: (extended(t / "ex_clap.pt", 0), "--space", "clap", "--space", "ulip"),
        "1 checkpoints of Ex-MCR are given for the spaces clap, ulip",
    ),
    "malformed encoder": (
        lambda t: (extended(t / "ex_clap.pt", 0), "--encoder", "clap"),
        "--encoder clap should read SPACE=SPEC",
    ),
    "unknown encoder": (
        lambda t: (extended(t / "ex_clap.pt", 0), "--encoder", "clap=klap"),
        "'klap' is not an encoder",
    ),
    "an encoder of another dimension": (
        lambda t: (extended(t / "ex_clap.pt", 0), "--encoder", "clap=mini-clap"),
        "encoder mini-clap has 96 dimensions but the published projectors take 512: name the",
    ),
}


def saved(folder: Path, content: object) -> Path:
    torch.save(content, folder / "saved.pt")
    return folder / "saved.pt"


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_sentence_and_leave_nothing(tmp_path, mistake):
    make, fragment = MISTAKES[mistake]
    arguments = make(tmp_path)
    out = () if "-o" in arguments else ("-o", tmp_path / "out")
    assert fragment in refused("import-cmcr", *arguments, *out)
    assert not (tmp_path / "out").exists()
