"""Every bad source, encoder and setting ends in one sentence and exit code 1, no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import NUMBERS
from tests.cli.refusals import Cases, extract, file, refused, train


def folder_with(t: Path, *names: str) -> Path:
    (t / "folder").mkdir()
    for name in names:
        file(t / "folder" / name)
    return t / "folder"


CASES: Cases = {
    # sources
    "missing table": (lambda w, t: extract(w, t / "none.csv", t), "none.csv does not exist"),
    "missing folder": (lambda w, t: extract(w, t / "none", t), "none does not exist"),
    "empty folder": (lambda w, t: extract(w, folder_with(t), t), "no image files ("),
    "folder of others": (lambda w, t: extract(w, folder_with(t, "a.wav"), t), "among the 1 files"),
    "empty glob": (lambda w, t: extract(w, t / "*.png", t), "no image files ("),
    "empty table": (lambda w, t: extract(w, file(t / "a.csv", "path\n"), t), "a.csv has no rows"),
    "no column": (
        lambda w, t: extract(w, w.files / "images.csv", t, "--column", "nothing"),
        "has no column 'nothing': its columns are path, key, number, digits",
    ),
    "no id column": (
        lambda w, t: extract(w, w.files / "images.csv", t, "--id-column", "nothing"),
        "has no column 'nothing'",
    ),
    "no label column": (
        lambda w, t: extract(w, w.files / "images.csv", t, "--label-column", "nothing"),
        "has no column 'nothing'",
    ),
    "no where column": (
        lambda w, t: extract(w, w.files / "images.csv", t, "--where", "nothing=1"),
        "has no column 'nothing'",
    ),
    "no row left": (
        lambda w, t: extract(w, w.files / "images.csv", t, "--where", "digits=9"),
        f"none of the {len(NUMBERS)} rows",
    ),
    "which column": (
        lambda w, t: extract(w, file(t / "a.csv", "a,b\n1,2\n"), t), "Name it with --column"
    ),
    "column of a folder": (
        lambda w, t: extract(w, w.files / "images", t, "--id-column", "key"), "is not a table"
    ),
    "malformed where": (
        lambda w, t: extract(w, w.files / "images.csv", t, "--where", "digits"),
        "--where digits should read ",
    ),
    "not text": (lambda w, t: extract(w, file(t / "a.csv", b"\xff\xfe"), t), "is not UTF-8 text"),
    "not JSON": (lambda w, t: extract(w, file(t / "a.jsonl", "{"), t), "line 1 of"),
    "missing files": (
        lambda w, t: extract(w, file(t / "a.csv", "path\nnone.png\n"), t), "none.png: cannot be"
    ),
    # encoders and settings
    "unknown encoder": (
        lambda w, t: extract(w, w.files / "images", t, "-e", "clop"), "'clop' is not an encoder"
    ),
    "encoder without its file": (
        lambda w, t: extract(w, w.files / "images", t, "-e", "mini:none.st"), "none.st does not"
    ),
    "encoder that is none": (
        lambda w, t: extract(w, w.files / "images", t, "-e", f"mini:{file(t / 'x', 'x')}"),
        "cannot be read as encoder weights",
    ),
    "unknown modality": (
        lambda w, t: extract(w, w.files / "images", t, "-m", "video"), "'video' is not a modality"
    ),
    "modality of another space": (
        lambda w, t: extract(w, w.files / "sounds", t, "-m", "audio"), "does not embed audio"
    ),
    "unknown dtype": (
        lambda w, t: extract(w, w.files / "images", t, "--dtype", "int8"), "not 'int8'"
    ),
    "unknown precision": (
        lambda w, t: extract(w, w.files / "images", t, "--precision", "fp8"), "'fp8' is not a prec"
    ),
    "unknown device": (
        lambda w, t: extract(w, w.files / "images", t, "--device", "gpu"), "'gpu' is not a device"
    ),
    "bad TOML": (
        lambda w, t: train(w, t, "-c", file(t / "s.toml", "epochs =")), "s.toml, line 1: `epochs ="
    ),
    "missing TOML": (lambda w, t: train(w, t, "-c", t / "s.toml"), "s.toml does not exist"),
    "unknown setting": (
        lambda w, t: train(w, t, "-c", file(t / "s.toml", "epoch = 1")), "setting 'epoch', which"
    ),
    "out of range": (lambda w, t: train(w, t, "--epochs", 0), "epochs is 0 but must be at least 1"),
    "not a number": (lambda w, t: train(w, t, "--noise-variance", "nan"), "noise_variance is nan"),
    "bad choice": (lambda w, t: train(w, t, "--projector", "cnn"), "must be one of mlp2, mlp1, li"),
    # fit
    "malformed modality": (
        lambda w, t: ("fit", w.files / "images.csv", "-m", "image", "-o", t / "e.safetensors"),
        "--modality image should read ",
    ),
    "one modality": (
        lambda w, t: ("fit", w.files / "images.csv", "-m", "image=path", "-o", t / "e.st"),
        "two or more modalities",
    ),
    "odd height": (
        lambda w, t: (
            "fit", w.files / "images.csv", "-m", "image=path", "-m", "text=key",
            "-o", t / "e.st", "--image-height", 30,
        ),
        "8 x 8 patches",
    ),
    "fit no column": (
        lambda w, t: (
            "fit", w.files / "images.csv", "-m", "image=a", "-m", "text=key", "-o", t / "e.st"
        ),
        "has no column 'a'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_in_one_sentence(workshop, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    make, fragment = CASES[case]
    assert fragment in refused(*make(workshop, tmp_path))
