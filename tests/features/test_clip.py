"""CLIP through open_clip: equal to open_clip called by hand, on small random models."""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F

from features.encoders import LocalEncoder, load_encoder
from features.errors import ItemError, UserError
from features.extraction.extract import extract
from features.extraction.sources import read_source
from features.memories.provenance import differing

open_clip = pytest.importorskip("open_clip")
hub_constants = pytest.importorskip("huggingface_hub.constants")

MODEL = "tiny-vit"
CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {
        "image_size": 64, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32
    },
    "text_cfg": {
        "context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2
    },
}  # fmt: skip
SENTENCES = ["a dog", "a photo of a cat, asleep", "the quick brown fox " * 30]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's configuration, known to open_clip, and random weights in several forms."""
    folder = tmp_path_factory.mktemp("clip")
    (folder / f"{MODEL}.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder / f"{MODEL}.json")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = open_clip.create_model(MODEL).state_dict()
    torch.save(state, folder / "weights.pt")
    training = {"epoch": np.float64(3), "state_dict": {f"module.{k}": v for k, v in state.items()}}
    torch.save(training, folder / "training.pt")
    local = folder / "local"
    local.mkdir()
    save_file(state, local / "open_clip_model.safetensors")
    (local / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG}))
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures of several sizes and modes."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    paths = []
    for i, (mode, channels) in enumerate(
        [("RGB", 3), ("L", 1), ("RGBA", 4), ("P", 1), ("RGB", 3), ("1", 1)]
    ):
        pixels = rng.integers(0, 256, (50 + 31 * i, 200 - 30 * i, channels), dtype=np.uint8)
        image = Image.fromarray(pixels.squeeze())
        paths.append(folder / f"{i}.png")
        image.convert(mode).save(paths[-1])
    return paths


def _by_hand(folder: Path, **options: Any) -> tuple[Any, Any, Any]:
    model, _, preprocess = open_clip.create_model_and_transforms(
        MODEL, str(folder / "weights.pt"), **options
    )
    return model.eval(), preprocess, open_clip.get_tokenizer(MODEL)


def _load(folder: Path, **options: Any) -> Any:
    return load_encoder(f"clip:{MODEL},{folder / 'weights.pt'}", device="cpu", **options)


@torch.no_grad()
def test_embeddings_have_the_bits_of_open_clip_called_by_hand(folder: Path, images: list[Path]):
    model, preprocess, tokenizer = _by_hand(folder)
    pixels = torch.stack([preprocess(Image.open(path)) for path in images])
    by_hand = F.normalize(model.encode_image(pixels), dim=-1)
    encoder = _load(folder)
    make = encoder.input("image")
    assert torch.equal(encoder.encode([make(path) for path in images], "image"), by_hand)
    texts = F.normalize(model.encode_text(tokenizer(SENTENCES)), dim=-1)
    read = encoder.input("text")
    assert torch.equal(encoder.encode([read(one) for one in SENTENCES], "text"), texts)
    assert encoder.space.dimension == 32
    assert by_hand.std(dim=0).mean() > 1e-3  # the pictures are told apart


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_is_open_clips_own(folder: Path, images: list[Path], precision: str):
    model, preprocess, _ = _by_hand(folder, precision=precision)
    pixels = torch.stack([preprocess(Image.open(path)) for path in images])
    with torch.no_grad():
        raw = model.encode_image(pixels.to(open_clip.get_input_dtype(precision)))
    encoder, exact = _load(folder, precision=precision), _load(folder)
    batch = [encoder.input("image")(path) for path in images]
    embedded = encoder.encode(batch, "image")
    assert torch.equal(embedded, F.normalize(raw.float(), dim=-1))
    assert embedded.dtype == torch.float32
    assert 0 < (embedded - exact.encode(batch, "image")).abs().max() < 0.05
    assert encoder.description.weights == exact.description.weights
    assert not differing(encoder.description.as_dict(), exact.description.as_dict())
    assert (exact.description.precision, encoder.description.precision) == ("fp32", precision)


@pytest.mark.parametrize("form", ["weights.pt", "training.pt", "local-dir"])
def test_every_form_of_the_same_weights_is_the_same_encoder(folder: Path, form: str):
    spec = f"local-dir:{folder}/local" if form == "local-dir" else f"{MODEL},{folder}/{form}"
    encoder, first = load_encoder(f"clip:{spec}", device="cpu"), _load(folder)
    assert encoder.description.weights == first.description.weights
    again = load_encoder(encoder.description.spec, device="cpu")
    assert again.description == encoder.description
    batch = [np.full((64, 64, 3), 90, np.uint8)]
    assert torch.equal(encoder.encode(batch, "image"), first.encode(batch, "image"))


@torch.no_grad()
def test_local_embeddings_are_the_projected_patches(folder: Path, images: list[Path]):
    encoder = _load(folder)
    assert isinstance(encoder, LocalEncoder)
    assert (encoder.local_length("image"), encoder.local_length("text")) == (16, 0)
    batch = [encoder.input("image")(path) for path in images]
    found = encoder.encode_local(batch, "image")
    assert torch.equal(found.pooled, encoder.encode(batch, "image"))
    tokens: list[torch.Tensor] = []
    visual = encoder.model.visual
    hook = visual.transformer.register_forward_hook(lambda *a: tokens.append(a[2]))
    encoder.encode(batch, "image")
    hook.remove()
    by_hand = F.normalize(visual.ln_post(tokens[0][:, 1:]) @ visual.proj, dim=-1)
    torch.testing.assert_close(found.local, by_hand, atol=1e-6, rtol=0)
    assert found.mask.all()
    assert found.mask.shape == found.local.shape[:2] == (len(images), 16)


def test_local_embeddings_go_into_the_memory(folder: Path, images: list[Path], tmp_path: Path):
    encoder = _load(folder)
    source = read_source(str(images[0].parent), "image")
    memory = extract(source, encoder, "image", tmp_path / "m.h5", local=True, batch_size=4).memory
    batch = [encoder.input("image")(path) for path in images]
    found = encoder.encode_local(batch, "image")
    assert memory.local is not None
    np.testing.assert_allclose(memory.local, found.local.half().numpy(), atol=2e-3)
    local, mask = memory.local_tensors(np.array([3, 1]))
    assert local.shape == (2, 16, 32)
    assert mask.all()
    memory.verify()
    plain = extract(source, encoder, "image", tmp_path / "plain.h5", batch_size=4).memory
    assert plain.local is None
    np.testing.assert_array_equal(plain.embeddings, memory.embeddings)
    with pytest.raises(UserError, match="has no local embeddings: extract it again with --local"):
        plain.local_tensors(np.array([0]))
    with pytest.raises(UserError, match="no local embeddings of text: leave --local out"):
        extract(source, encoder, "text", tmp_path / "t.h5", local=True)


@torch.no_grad()
def test_towers_of_timm_work_and_have_no_local_embeddings(tmp_path: Path, images: list[Path]):
    config = {
        "embed_dim": 24,
        "vision_cfg": {
            "timm_model_name": "test_vit", "timm_model_pretrained": False,
            "timm_pool": "", "timm_proj": "linear", "image_size": 160,
        },
        "text_cfg": CONFIG["text_cfg"],
        "custom_text": True,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text = {key: value for key, value in config.items() if key != "custom_text"}
        state = open_clip.model.CustomTextCLIP(**text).state_dict()
    save_file(state, tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    encoder = load_encoder(f"clip:local-dir:{tmp_path}", device="cpu")
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    pixels = torch.stack([preprocess(Image.open(path)) for path in images])
    by_hand = F.normalize(model.eval().encode_image(pixels), dim=-1)
    batch = [encoder.input("image")(path) for path in images]
    assert torch.equal(encoder.encode(batch, "image"), by_hand)
    assert encoder.space.dimension == 24
    assert isinstance(encoder, LocalEncoder)
    assert encoder.local_length("image") == 0


def _local_dir(folder: Path, tmp_path: Path, **changes: Any) -> Path:
    """A copy of the model's folder with another configuration."""
    copy = tmp_path / f"copy{len(list(tmp_path.iterdir()))}"
    shutil.copytree(folder / "local", copy)
    config = json.loads(json.dumps(CONFIG))
    preprocess = changes.pop("preprocess_cfg", {})
    for name, change in changes.items():
        config[name] = {**config[name], **change} if isinstance(change, dict) else change
    about = {"model_cfg": config, "preprocess_cfg": preprocess}
    (copy / "open_clip_config.json").write_text(json.dumps(about))
    return copy


@torch.no_grad()
def test_a_configuration_as_the_hub_has_it(folder: Path, images: list[Path], tmp_path: Path):
    settings = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear"}
    copy = _local_dir(folder, tmp_path, preprocess_cfg={**settings, "resize_mode": "squash"})
    encoder = load_encoder(f"clip:local-dir:{copy}", device="cpu")
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{copy}")
    pixels = torch.stack([preprocess(Image.open(path)) for path in images])
    by_hand = F.normalize(model.eval().encode_image(pixels), dim=-1)
    batch = [encoder.input("image")(path) for path in images]
    assert torch.equal(encoder.encode(batch, "image"), by_hand)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"quick_gelu": True}, "activation"),
        ({"vision_cfg": {"head_width": 16}}, "image"),
        ({"text_cfg": {"heads": 4}}, "text"),
        ({"text_cfg": {"tokenizer_kwargs": {"clean": "whitespace"}}}, "text"),
        ({"preprocess_cfg": {"interpolation": "bilinear"}}, "image"),
        ({"preprocess_cfg": {"mean": [0.5, 0.5, 0.5]}}, "image"),
    ],
)
def test_what_alters_embeddings_is_described(
    folder: Path, tmp_path: Path, changes: dict[str, Any], part: str
):
    plain, altered = _local_dir(folder, tmp_path), _local_dir(folder, tmp_path, **changes)
    one = load_encoder(f"clip:local-dir:{plain}", device="cpu").description
    other = load_encoder(f"clip:local-dir:{altered}", device="cpu").description
    assert one.weights == other.weights
    different = {k for k in one.preprocessing if one.preprocessing[k] != other.preprocessing[k]}
    assert different == {part}
    assert one.preprocessing == _load(folder).description.preprocessing


def test_a_tower_that_pools_by_attention_has_no_local_embeddings(tmp_path: Path):
    config = json.loads(json.dumps(CONFIG))
    config["vision_cfg"] |= {"attentional_pool": True, "attn_pooler_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = open_clip.model.CLIP(**config).state_dict()
    save_file(state, tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    encoder = load_encoder(f"clip:local-dir:{tmp_path}", device="cpu")
    assert isinstance(encoder, LocalEncoder)
    assert encoder.local_length("image") == 0
    with pytest.raises(UserError, match="has no local embeddings of image"):
        encoder.encode_local([np.zeros((64, 64, 3), np.uint8)], "image")


# --- the activation


def test_a_checkpoint_of_a_model_that_was_published_with_quick_gelu_is_asked_about(
    published: str, folder: Path
):
    assert published
    spec = f"clip:{MODEL},{folder / 'weights.pt'}"
    with pytest.warns(UserWarning, match=r"does not say which activation .* add quick_gelu=yes"):
        load_encoder(spec, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_encoder(f"{spec},quick_gelu=no", device="cpu")


@pytest.fixture
def published(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A published tag whose weights need QuickGELU, in a local cache of the hub."""
    snapshot = tmp_path / "models--test--tiny" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    weights = (folder / "local" / "open_clip_model.safetensors").read_bytes()
    (snapshot / "open_clip_model.safetensors").write_bytes(weights)
    refs = tmp_path / "models--test--tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    from open_clip import pretrained

    tag = {"hf_hub": "test/tiny/open_clip_model.safetensors", "quick_gelu": True}
    monkeypatch.setitem(pretrained._PRETRAINED, MODEL, {"openai": tag})
    return f"clip:{MODEL},openai"


@torch.no_grad()
def test_a_tag_that_needs_quick_gelu_gets_it(published: str, folder: Path):
    encoder = load_encoder(published, device="cpu")
    batch = [np.full((64, 64, 3), 90, np.uint8)]
    right, _, _ = _by_hand(folder, force_quick_gelu=True)
    wrong, preprocess, _ = _by_hand(folder)
    pixels = preprocess(Image.fromarray(batch[0]))[None]
    embedded = encoder.encode(batch, "image")
    assert torch.equal(embedded, F.normalize(right.encode_image(pixels), dim=-1))
    assert not torch.equal(embedded, F.normalize(wrong.encode_image(pixels), dim=-1))
    assert encoder.description.preprocessing["activation"] == "QuickGELU"


def test_the_activation_of_a_checkpoint_can_be_told(folder: Path):
    told = load_encoder(f"clip:{MODEL},{folder / 'weights.pt'},quick_gelu=yes", device="cpu")
    plain = _load(folder).description
    assert told.description.preprocessing["activation"] == "QuickGELU"
    assert plain.preprocessing["activation"] == "GELU"
    assert told.description.weights == plain.weights
    assert differing(told.description.as_dict(), plain.as_dict())
    assert load_encoder(told.description.spec, device="cpu").description == told.description


# --- mistakes


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("", "'' is not a model of open_clip: write clip:MODEL,TAG"),
        ("ViT-B-23,openai", "did you mean ViT-B-32"),
        ("ViT-B-32", "names no weights: write clip:ViT-B-32,TAG .*its tags are openai, "),
        ("ViT-B-32,opneai", "neither a file nor a tag .*did you mean openai: its tags are "),
        (f"{MODEL},openai.pt", "whose tags are none|its tags are none"),
        ("hf-hub:a/b,openai", "clip:hf-hub:a/b has weights of its own: leave 'openai' out"),
        ("local-dir:/nowhere", "configuration /nowhere/open_clip_config.json does not exist"),
        ("local-dir:FOLDER", "the weights of clip:local-dir:.* hold Python objects"),
        (f"{MODEL},x,gelu=quick", "has no option 'gelu': its options are space, quick_gelu"),
        (f"{MODEL},WEIGHTS,space=", "space= does not name a space: use letters, digits, dots"),
        (f"{MODEL},WEIGHTS,space=a/b c", "space=a/b c does not name a space"),
        (f"{MODEL},WEIGHTS,quick_gelu=maybe", "quick_gelu=maybe is not known: use .*yes|no"),
        ("ViT-S-32,WEIGHTS", "open_clip cannot load .*check that the weights belong to the model"),
        (f"{MODEL},EVIL", "holds Python objects .*could run code"),
        (f"{MODEL},TEXT", "cannot be read as CLIP weights"),
        (f"{MODEL},SCRIPT", "is a TorchScript archive.*the tag openai"),
        (f"{MODEL},LIST", "holds a list, not named tensors"),
    ],
)
def test_mistakes_get_one_sentence(folder: Path, tmp_path: Path, argument: str, message: str):
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"w": Evil()}, protocol=2))
    torch.save({"w": Evil()}, tmp_path / "evil2.pt")
    (tmp_path / "text.pt").write_text("these are not weights")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "dir").mkdir()
    shutil.copy(folder / "local" / "open_clip_config.json", tmp_path / "dir")
    torch.save({"w": Evil()}, tmp_path / "dir" / "open_clip_pytorch_model.bin")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    names = {
        "FOLDER": tmp_path / "dir",
        "SCRIPT": tmp_path / "script.pt",
        "WEIGHTS": folder / "weights.pt",
        "EVIL": tmp_path / "evil2.pt",
    }
    names |= {"TEXT": tmp_path / "text.pt", "LIST": tmp_path / "list.pt"}
    for name, path in names.items():
        argument = argument.replace(name, str(path))
    with pytest.raises(UserError, match=message) as error:
        load_encoder(f"clip:{argument}", device="cpu")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("spec", ["ViT-B-32,openai", "hf-hub:laion/CLIP-ViT-B-32"])
def test_without_a_network_a_missing_model_fails_at_once(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"not in the local cache .*HF_HUB_OFFLINE is set.*FILE"):
        load_encoder(f"clip:{spec}", device="cpu")


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_a_text_without_words_is_an_item_error(folder: Path, tmp_path: Path, text: str):
    read = _load(folder).input("text")
    (tmp_path / "t.txt").write_text(text)
    for item in (text, tmp_path / "t.txt"):
        with pytest.raises(ItemError, match=r"^the text is empty$"):
            read(item)
    assert read(" a dog").tolist() == read("a dog").tolist()


def test_a_broken_picture_is_an_item_error(folder: Path, images: list[Path], tmp_path: Path):
    (tmp_path / "broken.png").write_bytes(images[0].read_bytes()[:200])
    with pytest.raises(ItemError, match="cannot be decoded as an image"):
        _load(folder).input("image")(tmp_path / "broken.png")
