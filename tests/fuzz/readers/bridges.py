"""Bridges, checkpoints, and what lies beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from bridge.artefact import Bridge, BridgedSpace, MemoryRecord, load
from bridge.config import TrainSettings
from bridge.evaluation.results import Result, Samples, read_result, write_result
from bridge.pictures.training import read_curves
from bridge.projector import Projector
from bridge.pseudo_pairs.cache import pairs_are_whole
from bridge.recipe.journal import Entry, Journal
from bridge.runs.layout import ABOUT_FILE, METRICS_FILE, RUN_FILE
from bridge.runs.listing import read_summary
from bridge.runs.log import log_line
from bridge.runs.record import begin_run, finish_run, read_run
from bridge.tcl.fusion import Fusion, FusionSpec
from bridge.tcl.matcher import load_matcher
from bridge.training.checkpoint import (
    PROGRESS_FILE,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    save_weights,
)
from bridge.verification.place import verify
from features.encoders.mini.config import MiniConfig
from features.encoders.mini.encoder import load_file as load_mini
from features.encoders.mini.encoder import save_mini
from features.encoders.mini.towers import Tower
from features.errors import UserError
from features.sealed import read_sealed, sealed
from features.tensors import tensors_hash
from tests.fuzz.target import Target

_SETTINGS = TrainSettings(dimension=4, hidden=8, epochs=2)
_SIDE = {"dimension": 4, "parts": 2}
_FUSION = {
    "sides": [
        {"space": "x", "modality": "text", **_SIDE}, {"space": "y", "modality": "audio", **_SIDE},
    ],
    "width": 4, "layers": 1, "heads": 2, "words": ["a", "b"], "temperature": 0.1,
}  # fmt: skip


def made(folder: Path) -> Bridge:
    """A bridge with a fusion encoder, saved with the record of its run."""
    generator = torch.Generator().manual_seed(0)
    spaces = [
        BridgedSpace("x", 4, ("text", "image"), {"name": "e"}),
        BridgedSpace("y", 3, ("text", "audio"), {}),
    ]
    projectors = {
        one.name: Projector(
            "mlp1" if one.name == "x" else "linear", inputs=one.dimension, outputs=4,
            hidden=8, modalities=one.modalities, generator=generator,
        )
        for one in spaces
    }  # fmt: skip
    record = MemoryRecord("/m.h5", "hub", "x", "text", 7, "f")
    matcher = Fusion(FusionSpec.from_dict(_FUSION), generator)
    bridge = Bridge(
        "b", spaces, projectors, _SETTINGS, memories=[record], metrics={"held_out_r1": 0.5},
        versions={"torch": "2"}, matcher=matcher,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    started = begin_run(folder, _SETTINGS, {"device": "cpu"}, command=["mcr", "train"])
    bridge.save(folder)
    finish_run(folder, started)
    (folder / METRICS_FILE).write_text(
        log_line({"epoch": 1, "loss": 0.5}) + log_line({"epoch": 2, "loss": 0.25})
    )
    return bridge


def _save(folder: Path) -> None:
    made(folder)


def _file(name: str, write: Callable[[Path], object] = made) -> Callable[[Path], Iterable[bytes]]:
    def seeds(folder: Path) -> Iterable[bytes]:
        write(folder)
        return [(folder / name).read_bytes()]

    return seeds


def _use(folder: Path) -> None:
    """Load a bridge and project with it; each for itself, what lists and checks bridges."""
    for use in (lambda: read_summary(folder), lambda: list(verify(folder))):
        try:
            use()
        except UserError:
            continue
    bridge = load(folder, device="cpu")
    for name, space in bridge.spaces.items():
        rows = torch.eye(space.dimension)[:2]
        bridge.project(rows, name, space.modalities[0] if space.modalities else None)
    _ = bridge.about(), repr(bridge), bridge.dimension


def _weights(path: Path) -> None:
    """The description is that of the weights: whoever changes the one can change the other."""
    try:
        tensors = load_file(path)
    except Exception:  # not what is tried here
        tensors = {}
    about = path.with_name(ABOUT_FILE)
    told = read_sealed(about) | {"fingerprint": tensors_hash(tensors)}
    about.write_text(json.dumps(sealed(told)))
    _use(path.parent)


def _matcher(path: Path) -> None:
    try:
        fingerprint = tensors_hash(load_file(path))
    except Exception:
        fingerprint = ""
    load_matcher(path.parent, {**_FUSION, "fingerprint": fingerprint})


def _save_checkpoint(folder: Path) -> None:
    tensors = {"projector/x/a": torch.ones(2, 3), "optimizer/0/step": torch.tensor(1.0)}
    save_checkpoint(folder, tensors, {"epoch": 1, "generator": [1, 2], "plan": {"a": 1}})


def _checkpoint_tensors(path: Path) -> None:
    try:
        fingerprint = tensors_hash(load_file(path))
    except Exception:
        fingerprint = ""
    about = path.with_name(PROGRESS_FILE)
    about.write_text(json.dumps(sealed(read_sealed(about) | {"fingerprint": fingerprint})))
    load_checkpoint(path.parent)


def _write_result(folder: Path) -> None:
    samples = Samples(["a", "b"], {"rank": [1, 2]}, ["u", "v"])
    memory = {"path": "m.h5", "fingerprint": "f", "space": "x", "modality": "text", "items": 2}
    result = Result(
        "retrieval", {"a->b": {"R@1": 0.5}}, {"name": "b", "fingerprint": "f"}, {"query": memory},
        {"k": 1}, {"items": 2}, {"a->b": {"R@1": [0.0, 1.0]}}, {"a->b": samples}, {}, 0, 1000,
    )  # fmt: skip
    write_result(result, folder / "r.json")


def _result(path: Path) -> None:
    result = read_result(path)
    for one in result.samples.values():
        one.tensors()
        one.numbered_units()
    _ = result.name, result.about()


def _write_journal(folder: Path) -> None:
    Journal(folder, folder / "recipe.toml")["train"] = Entry("k", {"a": {"b": 1}}, None, "s", 1.5)


def _journal(path: Path) -> None:
    for entry in Journal(path.parent, path.with_name("recipe.toml")).entries.values():
        _ = entry.done


def _pairs(_: Path) -> Iterable[bytes]:
    tensors = {"0": torch.ones(2, 3), "1": torch.arange(4)}
    return [save(tensors, {"about": json.dumps({"key": "k", "checksum": "c"})})]


def _write_mini(folder: Path) -> None:
    config = MiniConfig(
        "m", ("text",), dimension=4, width=4, layers=1, heads=2, words=2, vocabulary=4
    )
    save_mini(folder / "mini.safetensors", config, {"text": Tower("text", config)})


def _minis(folder: Path) -> Iterable[bytes]:
    """Also as earlier versions wrote it, without a hash of its tensors: they can be any."""
    path = folder / "mini.safetensors"
    _write_mini(folder)
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["mini_encoder"])
    del about["weights"]
    older = save(load_file(path), {"mini_encoder": json.dumps(sealed(about))})
    return [path.read_bytes(), older]


def _written_results(folder: Path) -> None:
    made(folder)
    (folder / "results").mkdir(exist_ok=True)


TARGETS = (
    Target("bridge-json", ABOUT_FILE, lambda p: _use(p.parent), _file(ABOUT_FILE), _save, "json",
           weight=0.5),
    Target("bridge-safetensors", "bridge.safetensors", _weights, _file("bridge.safetensors"), _save,
           "safetensors", weight=0.5),
    Target("bridge-matcher", "matcher.safetensors", _matcher, _file("matcher.safetensors"),
           form="safetensors", weight=0.5),
    Target("run-json", RUN_FILE, lambda p: (read_run(p.parent), read_summary(p.parent)),
           _file(RUN_FILE), _save, "json", weight=2),
    Target("run-metrics", METRICS_FILE, lambda p: (read_curves(p.parent), read_summary(p.parent)),
           _file(METRICS_FILE), _save, "lines"),
    Target("result-json", "r.json", _result, _file("r.json", _write_result), form="json", weight=3),
    Target("run-result", "results/r.json", lambda p: read_summary(p.parents[1]),
           _file("r.json", _write_result), _written_results, "json"),
    Target("checkpoint-json", PROGRESS_FILE, lambda p: load_checkpoint(p.parent),
           _file(PROGRESS_FILE, _save_checkpoint), _save_checkpoint, "json"),
    Target("checkpoint-tensors", "checkpoint-1.safetensors", _checkpoint_tensors,
           _file("checkpoint-1.safetensors", _save_checkpoint), _save_checkpoint, "safetensors"),
    Target("mixture-json", "mixture.json", lambda p: load_weights(p.parent),
           _file("mixture.json", lambda f: save_weights(f, {"plan": {"a": 1}, "weights": [1.0]})),
           form="json", weight=2),
    Target("run-journal", "journal.json", _journal, _file("journal.json", _write_journal),
           form="json", weight=2),
    Target("kept-pairs", "p.safetensors", pairs_are_whole, _pairs, form="safetensors"),
    Target("mini-encoder", "mini.safetensors", lambda p: load_mini(str(p), device="cpu"),
           _minis, form="safetensors", weight=0.5),
)  # fmt: skip
