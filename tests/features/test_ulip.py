"""The ULIP encoders: checkpoints, what they refuse, inputs, and the rules of the point tower."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from features.encoders import Encoder, load_encoder
from features.encoders.ulip import load_ulip
from features.encoders.ulip.encoder import UlipEncoder
from features.encoders.ulip.image import normalise_pixels
from features.encoders.ulip.inputs import ImageInput, PointsInput, image_input, points_input
from features.encoders.ulip.inputs import text_input as tokens_of
from features.encoders.ulip.settings import PointSettings
from features.errors import ItemError, UserError
from features.memories.provenance import differing
from tests.conftest import DATA
from tests.features.ulip_checkpoints import (
    image_shapes,
    point_shapes,
    random_state,
    save_training,
    text_shapes,
)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Image, text and point towers into 512 dimensions."""
    return random_state(point_shapes() | image_shapes() | text_shapes())


@pytest.fixture(scope="module")
def checkpoint(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_training(tmp_path_factory.mktemp("ulip") / "checkpoint.pt", state)


@pytest.fixture(scope="module")
def encoder(checkpoint: Path) -> UlipEncoder:
    return load_ulip(str(checkpoint), device="cpu")


def _points_only(path: Path, options: str = "", **settings: int) -> UlipEncoder:
    save_training(path, random_state(point_shapes(**settings)))
    return load_ulip(f"{path}{options}", device="cpu")


def _cloud(points: int = 600, columns: int = 3, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    cloud = rng.standard_normal((points, columns)).astype(np.float32)
    cloud[:, 3:] = rng.random((points, columns - 3))
    return cloud


def _input(cloud: NDArray[np.float32], **settings: Any) -> NDArray[np.float32]:
    return points_input(cloud, PointSettings(**settings))


# --- checkpoints


def test_a_training_checkpoint_and_its_bare_tensors_are_one_encoder(
    checkpoint: Path, encoder: UlipEncoder, state: dict[str, Tensor], tmp_path: Path
) -> None:
    bare = tmp_path / "bare,100%.safetensors"
    save_file(state, bare)
    other = load_encoder(f"ulip:{bare}", device="cpu")
    assert isinstance(other, Encoder)
    assert isinstance(other, UlipEncoder)
    assert other.description.weights == encoder.description.weights
    assert other.description.spec == f"ulip:{bare}"
    assert other.description.preprocessing == encoder.description.preprocessing
    assert (other.space.name, other.space.dimension) == ("ulip", 512)
    assert set(other.space.modalities) == {"image", "text", "points"}
    cloud = _input(_cloud())
    assert torch.equal(other.encode([cloud], "points"), encoder.encode([cloud], "points"))
    again = load_encoder(encoder.description.spec, device="cpu")
    assert again.description == encoder.description
    assert again.description.as_dict()["spec"] == f"ulip:{checkpoint}"


def test_loading_leaves_the_global_generator_alone(checkpoint: Path) -> None:
    before = torch.random.get_rng_state()
    load_ulip(str(checkpoint), device="cpu")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_one_changed_weight_changes_the_hash(
    encoder: UlipEncoder, state: dict[str, Tensor], tmp_path: Path
) -> None:
    changed = {**state, "ln_final.bias": state["ln_final.bias"] + 1e-3}
    other = load_ulip(str(save_training(tmp_path / "c.pt", changed)), device="cpu")
    assert other.description.weights != encoder.description.weights


@pytest.mark.parametrize(
    "name",
    [
        "pc_projection",
        "point_encoder.cls_token",
        "point_encoder.norm.bias",
        "point_encoder.blocks.blocks.1.attn.proj.bias",
        "point_encoder.encoder.first_conv.1.running_var",
        "visual.pos_embed",
        "visual.cls_token",
        "image_projection",
        "transformer.resblocks.0.attn.in_proj_bias",
        "token_embedding.weight",
    ],
)
def test_a_missing_tensor_is_named(state: dict[str, Tensor], tmp_path: Path, name: str) -> None:
    lacking = {key: tensor for key, tensor in state.items() if key != name}
    path = save_training(tmp_path / "lacking.pt", lacking)
    with pytest.raises(UserError, match=name):
        load_ulip(str(path), device="cpu")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("point_encoder.cls_head.weight", (2, 2)),
        ("visual.head.weight", (2, 2)),
        ("something.else", (2,)),
        ("point_encoder.blocks.blocks.2.norm1.bias", (64,)),
        ("point_encoder.cls_pos", (1, 1, 63)),
        ("visual.pos_embed", (1, 197, 128)),
        ("text_projection", (64, 256)),
        ("token_embedding.weight", (1000, 64)),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(
    state: dict[str, Tensor], tmp_path: Path, name: str, shape: tuple[int, ...]
) -> None:
    path = save_training(tmp_path / "other.pt", {**state, name: torch.zeros(shape)})
    with pytest.raises(UserError, match=r"of [0-9]+ tensors, .* (unknown|missing|another shape)"):
        load_ulip(str(path), device="cpu")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"point_encoder.cls_token": (1, 1, 100)}, "width 100, ULIP's are multiples of 64"),
        ({"point_encoder.encoder.first_conv.0.weight": (16, 4, 1)}, "takes 4 numbers per point"),
        ({"pc_projection": (128,)}, "pc_projection with the shape"),
    ],
)
def test_another_model_is_refused(tmp_path: Path, changed: Any, message: str) -> None:
    path = save_training(tmp_path / "other.pt", random_state(point_shapes() | changed))
    with pytest.raises(UserError, match=message):
        load_ulip(str(path), device="cpu")


def test_another_point_network_is_refused(tmp_path: Path) -> None:
    path = save_training(tmp_path / "pointnet2.pt", {"point_encoder.sa1.weight": torch.ones(2)})
    with pytest.raises(UserError, match=r"ULIP's PointBERT has: give a PointBERT checkpoint"):
        load_ulip(str(path), device="cpu")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("", "needs its checkpoint: write ulip:FILE.pt"),
        ("none.pt", "none.pt does not exist"),
        ("none.pt,points=511", "points=511 is not a number of points from 512"),
        ("none.pt,points=many", "points=many is not"),
        ("none.pt,normalise=maybe", "normalise=maybe is not known: use normalise=yes|no"),
        ("none.pt,space=", "space= does not name a space: use letters, digits"),
        ("none.pt,space=a/b c", "space=a/b c does not name a space"),
        ("none.pt,start=3", "the encoder ulip has no option 'start'"),
    ],
)
def test_a_wrong_argument_is_refused(argument: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        load_ulip(argument, device="cpu")
    assert message in str(error.value)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_stays_close(checkpoint: Path, encoder: UlipEncoder, precision: str) -> None:
    low = load_ulip(str(checkpoint), device="cpu", precision=precision)
    assert low.description.weights == encoder.description.weights
    assert (encoder.description.precision, low.description.precision) == ("fp32", precision)
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    tokens = np.array([49406, 320, 1929, 49407, *[0] * 73])
    batches: dict[Any, NDArray[Any]] = {"points": _input(_cloud()), "image": pixels, "text": tokens}
    for modality, array in batches.items():
        exact, near = (one.encode([array], modality) for one in (encoder, low))
        assert near.dtype == torch.float32
        assert float((exact * near).sum()) > 0.99


# --- the 1280-d model


@pytest.mark.parametrize("channels", [3, 6])
def test_the_towers_of_open_clip_are_left_out(tmp_path: Path, channels: int) -> None:
    state = random_state(point_shapes(dimension=1280, channels=channels, depth=3))
    full = {**state, "open_clip_model.visual.proj": torch.ones(4, 4)}
    bare = {name: tensor for name, tensor in state.items() if name != "logit_scale"}
    encoders = [
        load_ulip(str(save_training(tmp_path / f"{n}.pt", one)), device="cpu")
        for n, one in enumerate((state, full, bare))
    ]
    assert len({one.description.weights for one in encoders}) == 1
    for one in encoders:
        assert (one.space.name, one.space.dimension) == ("ulip2", 1280)
        assert one.space.modalities == ("points", "image", "text")
        assert one.encode([_input(_cloud(), colours=channels == 6)], "points").shape == (1, 1280)
        with pytest.raises(UserError, match="does not embed audio"):
            one.encode([], "audio")


def _open_clip_folder(folder: Path, dimension: int, *, seed: int = 1) -> Path:
    """A small OpenCLIP model of random weights, as a local directory."""
    config = {
        "embed_dim": dimension,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    open_clip = pytest.importorskip("open_clip")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.model.CLIP(**config)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def test_images_and_texts_of_the_1280_d_model_are_its_partners(tmp_path: Path) -> None:
    partner = _open_clip_folder(tmp_path / "bigG", 1280)
    both = _points_only(tmp_path / "c.pt", f",clip=local-dir:{partner}", dimension=1280)
    clip = load_encoder(f"clip:local-dir:{partner}", device="cpu")
    text, image = "a chair", np.full((32, 32, 3), 90, np.uint8)
    found = both.encode([both.input("text")(text)], "text")
    assert torch.equal(found, clip.encode([clip.input("text")(text)], "text"))
    assert torch.equal(both.encode([image], "image"), clip.encode([image], "image"))
    told, theirs = both.description.preprocessing["text"], clip.description
    assert told["weights"] == theirs.weights
    assert theirs.preprocessing["text"].items() <= told.items()
    again = load_encoder(both.description.spec, device="cpu")
    again.input("text")
    assert again.description == both.description
    moved = shutil.copytree(partner, tmp_path / "elsewhere")
    other = _points_only(tmp_path / "c.pt", f",clip=local-dir:{moved}", dimension=1280)
    other.input("text")
    assert differing(other.description.as_dict(), both.description.as_dict()) == []
    changed = _open_clip_folder(tmp_path / "changed", 1280, seed=2)
    other = _points_only(tmp_path / "c.pt", f",clip=local-dir:{changed}", dimension=1280)
    other.input("image")
    assert differing(other.description.as_dict(), both.description.as_dict()) == ["preprocessing"]
    with pytest.raises(UserError, match="clip=ViT-B-32,openai cannot be given here, a comma ends"):
        load_encoder(f"ulip:{tmp_path / 'c.pt'},clip=ViT-B-32,openai", device="cpu")
    wrong = _open_clip_folder(tmp_path / "small", 64)
    with pytest.raises(UserError, match="has 64 dimensions but this ULIP checkpoint has 1280"):
        _points_only(tmp_path / "d.pt", f",clip=local-dir:{wrong}", dimension=1280).input("text")


def test_a_model_with_towers_of_its_own_takes_no_partner(encoder: UlipEncoder) -> None:
    with pytest.raises(UserError, match="has image and text towers of its own: leave clip=x out"):
        load_encoder(f"{encoder.description.spec},clip=x", device="cpu")


def test_colours_count_where_the_checkpoint_takes_them(tmp_path: Path) -> None:
    coloured = _points_only(tmp_path / "colour.pt", channels=6, dimension=1280)
    plain = _points_only(tmp_path / "plain.pt", channels=3)
    bare, painted = _cloud(), _cloud(columns=6)
    grey = np.concatenate([bare, np.full_like(bare, 0.4)], axis=1)
    red = np.concatenate([bare, np.tile(np.array([1, 0, 0], np.float32), (len(bare), 1))], axis=1)
    for name, cloud in (("bare", bare), ("grey", grey), ("red", red), ("painted", painted)):
        np.save(tmp_path / f"{name}.npy", cloud)
    make = coloured.input("points")
    arrays = {one: make(tmp_path / f"{one}.npy") for one in ("bare", "grey", "red", "painted")}
    np.testing.assert_array_equal(arrays["bare"], arrays["grey"])
    np.testing.assert_array_equal(arrays["painted"][:, 3:], painted[:, 3:])
    assert arrays["painted"].dtype == np.float32
    one, other = coloured.encode([arrays["grey"], arrays["red"]], "points")
    assert float(one @ other) < 0.999
    without = [plain.input("points")(tmp_path / f"{one}.npy") for one in ("bare", "red")]
    np.testing.assert_array_equal(without[0], without[1])


def test_the_space_can_be_named(tmp_path: Path) -> None:
    encoder = _points_only(tmp_path / "c.pt", ",space=clip,points=512", dimension=1280)
    assert encoder.space.name == "clip"
    assert encoder.description.spec == f"ulip:{tmp_path / 'c.pt'},points=512,space=clip"
    assert load_encoder(encoder.description.spec, device="cpu").space == encoder.space


# --- batches


def test_embeddings_do_not_depend_on_company(encoder: UlipEncoder) -> None:
    clouds = [_input(_cloud(512 + 40 * (n % 3), seed=n)) for n in range(7)]
    together = encoder.encode(clouds, "points")
    assert together.shape == (7, 512)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(7), rtol=0, atol=1e-6)
    alone = torch.cat([encoder.encode([one], "points") for one in clouds])
    backwards = encoder.encode(clouds[::-1], "points").flip(0)
    for other in (alone, backwards):
        torch.testing.assert_close(other, together, rtol=0, atol=1e-6)
    assert float((together @ together.T).fill_diagonal_(0).max()) < 0.999


def test_more_clouds_than_fit_at_once_keep_their_order(
    encoder: UlipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clouds = [_input(_cloud(512 + n % 2, seed=n)) for n in range(6)]
    expected = encoder.encode(clouds, "points")
    monkeypatch.setattr("features.encoders.ulip.encoder.MOST_CLOUDS", 2)
    torch.testing.assert_close(encoder.encode(clouds, "points"), expected, rtol=0, atol=1e-6)


def test_images_and_texts_embed(encoder: UlipEncoder) -> None:
    pytest.importorskip("open_clip")
    make = encoder.input("text")
    texts = encoder.encode([make(one) for one in ("a dog", "a chair", "A  Dog ")], "text")
    assert torch.equal(texts[0], texts[2])
    assert float(texts[0] @ texts[1]) < 0.999
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    images = encoder.encode(list(pixels), "image")
    torch.testing.assert_close(images.norm(dim=1), torch.ones(2), rtol=0, atol=1e-6)
    torch.testing.assert_close(images[1:], encoder.encode([pixels[1]], "image"))
    assert float(images[0] @ images[1]) < 0.9999


# --- inputs


def test_place_and_size_do_not_count_unless_asked() -> None:
    cloud = _cloud()
    array = _input(cloud * 7 + 50)
    np.testing.assert_allclose(array.mean(axis=0), 0, atol=1e-6)
    assert np.linalg.norm(array, axis=1).max() == pytest.approx(1)
    np.testing.assert_allclose(array, _input(cloud), atol=1e-5)
    np.testing.assert_array_equal(_input(cloud, normalise=False), cloud)


def test_a_large_cloud_is_thinned_evenly() -> None:
    cloud = np.tile(np.arange(2000, dtype=np.float32)[:, None], 3)
    rows = _input(cloud, limit=600, normalise=False)[:, 0]
    assert (len(rows), rows[0], rows[-1]) == (600, 0, 1999)
    assert set(np.diff(rows)) == {3, 4}
    np.testing.assert_array_equal(_input(cloud[:600], limit=600, normalise=False), cloud[:600])


@pytest.mark.parametrize("normalise", [True, False])
def test_bad_clouds_are_item_errors(tmp_path: Path, normalise: bool) -> None:
    make = PointsInput(PointSettings(normalise=normalise))
    np.save(tmp_path / "few.npy", _cloud(511))
    with pytest.raises(ItemError, match="has 511 points, needs at least 512"):
        make(tmp_path / "few.npy")
    np.save(tmp_path / "same.npy", np.full((600, 3), 7, np.float32))
    with pytest.raises(ItemError, match="all points of the cloud are the same"):
        make(tmp_path / "same.npy")


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
@pytest.mark.parametrize("size", [(224, 224), (333, 225), (225, 334), (100, 57), (1, 9)])
def test_images_are_prepared_as_torchvision_does(size: tuple[int, int], mode: str) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(values).convert(mode)
    cropped = transforms.Compose([transforms.Resize(224), transforms.CenterCrop(224)])
    expected = cropped(image.convert("RGB"))
    pixels = image_input(image)
    np.testing.assert_array_equal(pixels, np.asarray(expected))
    to_float = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    )
    found = normalise_pixels(torch.from_numpy(pixels.copy())[None])[0]
    torch.testing.assert_close(found, to_float(expected), rtol=0, atol=1e-6)


def test_a_long_text_keeps_its_end() -> None:
    pytest.importorskip("open_clip")
    tokens = tokens_of("dog " * 100)
    assert (tokens.shape, tokens[0], tokens[76]) == ((77,), 49406, 49407)
    assert len(set(tokens[1:76])) == 1
    short = tokens_of("dog")
    assert (int(short.argmax()), int(short[3:].max())) == (2, 0)
    with pytest.raises(ItemError, match="the text is empty"):
        tokens_of(" \n")


def test_inputs_reach_worker_processes_without_torch(tmp_path: Path) -> None:
    np.save(tmp_path / "cloud.npy", _cloud())
    Image.new("RGB", (30, 40), "red").save(tmp_path / "image.png")
    for make, name in ((PointsInput(PointSettings()), "cloud.npy"), (ImageInput(), "image.png")):
        (tmp_path / "make.pkl").write_bytes(pickle.dumps(make))
        script = (
            "import pathlib, pickle, sys\n"
            "make = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())\n"
            "print(make(sys.argv[2]).shape, 'torch' in sys.modules)"
        )
        command = [sys.executable, "-c", script, str(tmp_path / "make.pkl"), str(tmp_path / name)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert told.split()[-1] == "False"
        assert told.startswith(str(make(tmp_path / name).shape))


@pytest.mark.real_data
def test_real_clouds_embed_apart(tmp_path: Path) -> None:
    folder = DATA / "objaverse3"
    if not folder.exists():
        pytest.skip(f"real data is missing: {folder}")
    encoder = _points_only(tmp_path / "c.pt", ",points=2048")
    make = encoder.input("points")
    arrays = [make(folder / f"{name}.npz") for name in ("BBQ", "toilet", "train")]
    assert [one.shape for one in arrays] == [(2048, 3)] * 3
    embedded = encoder.encode(arrays, "points")
    assert torch.equal(encoder.encode(arrays, "points"), embedded)
    assert float((embedded @ embedded.T).fill_diagonal_(0).max()) < 0.9999
