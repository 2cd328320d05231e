"""What decides whether a step is done again: the code of one's own encoders, wherever named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bridge.recipe.states import key_parts
from bridge.recipe.step import Step
from features.memories.writing import save_memory
from features.sealed import read_sealed

MODULE = "my_encoder_of_states"


@pytest.fixture
def code(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"{MODULE}.py"
    file.write_text("def load(argument, *, device, precision): ...\n")
    return file


def inputs(step: Step) -> dict[str, str]:
    return dict(key_parts(step, {})["inputs"])


@pytest.mark.parametrize("command", ["eval retrieval", "eval zero-shot", "query"])
def test_an_encoder_that_a_step_names_for_a_space_is_known_by_its_file(code, command):
    options = {"encoder": ["other=mini-clip", f"left={MODULE}:load:a=b"]}
    step = Step("eval/one", command, options, Path("out.json"))
    before = inputs(step)
    assert list(before) == [str(code)]
    code.write_text("# better\n")
    assert inputs(step) != before


def test_an_evaluation_knows_the_encoder_of_its_memory(code, tmp_path):
    encoder = {"spec": f"{MODULE}:load", "weights": "w"}
    memory = save_memory(
        tmp_path / "m.h5", [[1.0, 0.0]], ["a"], space="left", modality="text", encoder=encoder
    )
    step = Step("eval/one", "eval retrieval", {"query": str(memory.path)}, Path("out.json"))
    before = inputs(step)
    code.write_text("# better\n")
    after = inputs(step)
    assert [name for name in after if after[name] != before[name]] == [str(code)]
    # Projecting loads no encoder.
    assert inputs(Step("project", "project", {"memories": [memory.path]}, Path("out"))) == {}


def test_an_evaluation_knows_the_encoders_of_its_bridge(world, made, code, tmp_path):  # noqa: ARG001
    folder = shutil.copytree(world.folder / "made", tmp_path / "made")
    about = read_sealed(folder / "bridge.json")
    about["spaces"][1]["encoder"]["spec"] = f"{MODULE}:load"
    (folder / "bridge.json").write_text(json.dumps(about))
    step = Step("eval/one", "eval retrieval", {"bridge": folder, "query": "gone.h5"}, Path("o"))
    assert list(inputs(step)) == [str(code)]
    (folder / "bridge.json").write_text("[]")
    assert inputs(step) == {}
