"""`mcr doctor`: 0 and a list of findings for an encoder that is well, 1 for another."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from features.encoders import load_encoder
from tests.cli.conftest import answer, done, mcr
from tests.cli.refusals import refused

WELL = ["image: unit embeddings", "image: different things differ", "image: the same in any batch"]


def test_an_encoder_that_is_well_is_described_and_passes():
    pytest.importorskip("sklearn")  # draws the digits
    result = done("doctor", "mini-clip", "--device", "cpu")
    first, *lines = result.stdout.splitlines()
    assert first == "mini-clip: image, text, 128-d"
    described = dict(line.strip().split(": ", 1) for line in lines if line.startswith("  weights"))
    weights = load_encoder("mini-clip", device="cpu").description.weights
    assert described == {"weights": weights}
    checks = [line for line in lines if not line.startswith("  ")]
    assert len(checks) == 7
    assert all(line.startswith("ok      ") for line in checks)
    assert result.stderr == ""


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_json_has_the_findings(precision):
    pytest.importorskip("sklearn")
    told = answer("doctor", "mini-clap", "--device", "cpu", "--precision", precision)
    assert told["passed"] is True
    assert told["space"] == {"name": "mini-clap", "dimension": 96, "modalities": ["audio", "text"]}
    assert told["encoder"]["spec"] == "mini-clap"
    assert told["encoder"]["precision"] == precision
    assert told["load_seconds"] > 0
    assert [set(one) for one in told["findings"]] == [{"check", "passed", "told"}] * 7


@pytest.mark.parametrize("json", [False, True])
def test_an_encoder_that_knows_nothing_fails_with_1(make_encoder, json):
    pytest.importorskip("sklearn")
    spec = make_encoder("image", "text", seed=4).description.spec
    result = mcr("doctor", spec, "--device", "cpu", *(("--json",) if json else ()))
    assert result.exit_code == 1
    assert result.stderr == "1 of 7 checks failed: image: its own sentence wins\n"
    if json:
        assert '"passed": false' in result.stdout
        return
    found = re.findall(r"^(ok    |FAILED)  (\w+: [^:]+):", result.stdout, re.MULTILINE)
    marks = {check: mark for mark, check in found}
    assert marks.pop("image: its own sentence wins") == "FAILED"
    assert set(marks) >= set(WELL)
    assert set(marks.values()) == {"ok    "}


def test_other_encoders_see_the_real_world(tmp_path, monkeypatch):
    """An encoder of one's own is shown photographs, not numbers."""
    (tmp_path / "seen.py").write_text(
        "from features.encoders import load_encoder\n"
        "class Seen:\n"
        "    def __init__(self, encoder):\n"
        "        self.space, self.description = encoder.space, encoder.description\n"
        "        self.encode, self._encoder = encoder.encode, encoder\n"
        "    def input(self, modality):\n"
        "        read = self._encoder.input(modality)\n"
        "        def note(item):\n"
        "            with open('seen.txt', 'a') as file:\n"
        "                print(item, file=file)\n"
        "            return read(item)\n"
        "        return note\n"
        "def load(argument, *, device, precision):\n"
        "    return Seen(load_encoder('mini-clip', device=device, precision=precision))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    result = mcr("doctor", "seen:load", "--device", "cpu")
    items = (tmp_path / "seen.txt").read_text().splitlines()
    assert [Path(item).name for item in items[:3]] == ["cat.jpg", "coffee.jpg", "rocket.jpg"]
    assert "a photo of a cat" in items
    assert len(re.findall(r"^(?:ok    |FAILED)  ", result.stdout, re.MULTILINE)) == 7
    del sys.modules["seen"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "'nothing' is not an encoder, these are: clip, "),
        (("mini:none.safetensors",), "encoder weights none.safetensors does not exist"),
        (("mini-clip", "--precision", "int8"), "'int8' is not a precision: use one of fp32, bf16"),
        (("mini-clip", "--device", "tpu-1"), "'tpu-1' is not a device"),
    ],
)
def test_what_cannot_be_loaded_is_one_sentence(arguments, message):
    assert message in refused("doctor", *arguments)
