"""Tensors in files: every harmless form is read, nothing in a file is run, damage is named."""

from __future__ import annotations

import pickle
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from features.errors import UserError
from features.tensors import load_exactly, read_state, tensors_hash

STATE = {"layer.weight": torch.arange(6.0).view(2, 3), "layer.bias": torch.tensor([1, -1])}


def same(found: dict[str, Tensor]) -> bool:
    equal = [torch.equal(found[name], tensor) for name, tensor in STATE.items() if name in found]
    return list(found) == list(STATE) and all(equal)


def saved(content: Any, path: Path, **how: Any) -> Path:
    torch.save(content, path, **how)
    return path


# --- forms


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
@pytest.mark.parametrize("archive", [True, False])
def test_torchs_files_are_read_whatever_they_are_called(tmp_path, suffix, archive):
    path = saved(STATE, tmp_path / f"w{suffix}", _use_new_zipfile_serialization=archive)
    assert same(read_state(path))


def test_safetensors_are_read(tmp_path):
    save_file(STATE, tmp_path / "w.safetensors")
    found = read_state(tmp_path / "w.safetensors")
    assert same({name: found[name] for name in STATE})


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
def test_a_training_checkpoint_gives_its_weights(tmp_path, wrapper):
    content = {
        "epoch": 3,
        "best": np.float64(0.5),
        "seen": np.int64(7),
        "half": np.float16(0.25),
        "done": np.bool_(True),
        "args": Namespace(lr=1e-3, betas=(0.9, 0.98), name="run"),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]},
        wrapper: {f"module.{name}": tensor for name, tensor in STATE.items()},
    }
    assert same(read_state(saved(content, tmp_path / "w.pt")))


def test_only_a_prefix_of_all_names_is_taken_away(tmp_path):
    mixed = {"module.a": torch.ones(1), "b": torch.ones(2)}
    assert list(read_state(saved(mixed, tmp_path / "w.pt"))) == ["module.a", "b"]
    inner = {"module.module.a": torch.ones(1)}
    assert list(read_state(saved(inner, tmp_path / "v.pt"))) == ["module.a"]


def test_what_is_no_tensor_is_left_out(tmp_path):
    content = {**STATE, "epoch": 3, "names": ["a"], 7: torch.ones(1)}
    assert same(read_state(saved(content, tmp_path / "w.pt")))


# --- what could run code


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


class Custom:
    """A class of somebody's training code."""


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("where", ["value", "beside", "plain pickle"])
def test_a_malicious_file_is_refused_and_not_run(tmp_path, archive, where):
    target = tmp_path / "ran"
    path = tmp_path / "w.pt"
    content = {"w": Evil(target)} if where == "value" else {**STATE, "note": [Evil(target)]}
    if where == "plain pickle":
        path.write_bytes(pickle.dumps({"w": Evil(target)}, protocol=2))
    else:
        saved(content, path, _use_new_zipfile_serialization=archive)
    with pytest.raises(UserError) as error:
        read_state(path)
    assert not target.exists()
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    if where != "plain pickle":
        pickle.loads(pickle.dumps(Evil(target)))  # the trap works where somebody steps into it
        assert target.exists()
        assert "which could run code when they are read: save its state_dict" in str(error.value)


def test_a_class_that_is_not_known_is_named(tmp_path):
    path = saved({**STATE, "config": Custom()}, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"holds Python objects \(tests\.\S+\.Custom\), which"):
        read_state(path)


def test_what_is_allowed_beside_tensors_is_not_allowed_elsewhere(tmp_path):
    path = saved({**STATE, "args": Namespace(lr=1)}, tmp_path / "w.pt")
    assert same(read_state(path))
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


@pytest.mark.filterwarnings("ignore:.torch.(jit|load)")
def test_a_torchscript_archive_is_refused(tmp_path):
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"is a TorchScript archive, which could run code when it"):
        read_state(tmp_path / "w.pt")


# --- damage


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("spoil", ["cut", "text", "empty", "flipped"])
def test_damage_is_told_in_one_sentence(tmp_path, suffix, spoil):
    path = tmp_path / f"w{suffix}"
    if suffix == ".pt":
        saved(STATE, path)
    else:
        save_file(STATE, path)
    content = path.read_bytes()
    path.write_bytes(
        {
            "cut": content[: len(content) // 2],
            "text": b"these are no weights\n" * 9,
            "empty": b"",
            "flipped": bytes([content[0] ^ 0x80]) + content[1:40] + b"\xff" * 60 + content[100:],
        }[spoil]
    )
    with pytest.raises(UserError, match=r"cannot be read as CLAP weights \(.+\)") as error:
        read_state(path, "CLAP weights")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "holds a list, not named tensors: give weights"),
        (torch.ones(1), "holds a Tensor, not named tensors"),
        ({}, "holds no named tensors: give a file of weights"),
        ({"state_dict": {"epoch": 3}}, "holds no named tensors"),
        ({1: torch.ones(1)}, "holds no named tensors"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read_state(saved(content, tmp_path / "w.pt"))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"weights .*/w.pt does not exist: check the path"):
        read_state(tmp_path / "w.pt")
    with pytest.raises(UserError, match="is a folder, not a file"):
        read_state(tmp_path)


# --- loading


def test_all_and_nothing_else_is_loaded(tmp_path):
    layer = nn.Linear(3, 2)
    state = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    load_exactly(layer, state, tmp_path / "w.pt")
    assert torch.equal(layer.weight, torch.ones(2, 3))


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ({"weight": (2, 3)}, "1 missing (such as bias)"),
        ({}, "2 missing (such as weight)"),
        ({"weight": (2, 3), "bias": (2,), "scale": (1,)}, "1 unknown (such as scale)"),
        ({"weight": (3, 2), "bias": (2,)}, "1 of another shape (such as weight)"),
        ({"weight": (2, 4), "b": (2,)},
         "1 missing (such as bias), 1 unknown (such as b), 1 of another shape (such as weight)"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_named(state, told):
    layer = nn.Linear(3, 2)
    before = layer.weight.clone()
    with pytest.raises(UserError) as error:
        load_exactly(layer, {k: torch.ones(shape) for k, shape in state.items()}, Path("w.pt"))
    assert str(error.value) == (
        f"w.pt does not hold the weights of Linear: of 2 tensors, {told}; give the checkpoint that "
        "was published for this model"
    )
    assert torch.equal(layer.weight, before)


# --- the hash


def test_the_hash_is_of_names_shapes_and_values():
    first = tensors_hash(STATE)
    assert tensors_hash(dict(reversed(STATE.items()))) == first
    parameter = nn.Parameter(STATE["layer.weight"].clone())
    assert tensors_hash({**STATE, "layer.weight": parameter}) == first
    assert tensors_hash({**STATE, "layer.weight": STATE["layer.weight"].T.contiguous().T}) == first
    others = [
        {**STATE, "layer.bias": torch.tensor([1, 1])},
        {**STATE, "layer.weight": STATE["layer.weight"].view(3, 2)},
        {**STATE, "layer.weight": STATE["layer.weight"].double()},
        {f"x.{name}": tensor for name, tensor in STATE.items()},
        {**STATE, "more": torch.zeros(0)},
    ]
    assert len({first, *(tensors_hash(one) for one in others)}) == 6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.bool, torch.int64])
def test_every_dtype_and_shape_has_a_hash(dtype):
    for shape in ((), (0,), (2, 3)):
        assert len(tensors_hash({"w": torch.ones(shape, dtype=dtype)})) == 32
