"""Every command of every page runs, in the order of the page, and prints what the page shows.

They run on little data, small models of random weights in place of published ones, and trainings
that are cut short: of what is printed, words are compared and figures are not.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from itertools import takewhile
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from cli.main import app
from docs.tools.links import ROOT, pages
from tests.docs.conftest import SHORT
from tests.docs.steps import Step, steps
from tests.test_guide import ONLY_TRAINED

# Pages whose commands another test runs, and what it says of them.
ELSEWHERE = {
    "docs/evaluation.md": ("tests/test_evaluation_guide.py", "evaluation.md"),
    "docs/real-models.md": ("tests/test_guide.py", "real-models.md"),
    "docs/real-digits.md": ("tests/test_real_data.py", "run.sh"),
    "docs/own-encoders.md": ("tests/features/test_own_encoders.py", "own-encoders.md"),
    "docs/first-minutes.md": ("tests/cli/test_init.py", "first-minutes.md"),
    "docs/pictures.md": ("tests/cli/test_pictures_guide.py", "pictures.md"),
    "docs/serving.md": ("tests/bridge/serving/test_serving_guide.py", "serving.md"),
}
# The fixture that makes the folder in which a page's commands run.
FOLDERS = {
    "README.md": "demo_and_models",
    "docs/tutorial.md": "demo",
    "docs/methods.md": "with_parts",
    "docs/runs.md": "tour",
    "docs/sharing.md": "demo",
    "docs/concepts/spaces.md": "demo",
    "docs/guides/own-embeddings.md": "demo",
    "docs/guides/gpu.md": "demo",
    "docs/guides/large-data.md": "demo",
    "docs/guides/audio.md": "models",
    "docs/guides/3d.md": "models",
    "docs/guides/clip-retrieval.md": "models",
}
STANDS_FOR = {
    ". .venv/bin/activate": "true",  # the tests run in it
    "make demo": "true",  # the folder is what it leaves
    "make test": "true",  # it runs this
}
IS_VARIABLE = re.compile(r"[A-Z_]+=").match  # of the environment
TRAINS = ("train", "ablate", "tune")
NOT_RUN = 14  # blocks of all pages that say so


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# The reference is made from the code, and its blocks are signatures.
PAGES = {name_of(page): page for page in pages() if page.parent.name != "reference"}


def commands(name: str) -> list[Step]:
    return [step for step in steps(PAGES[name]) if step.why is None]


def test_every_page_with_commands_is_run_by_a_test():
    with_commands = {name for name in PAGES if commands(name)}
    assert with_commands == {*FOLDERS, *ELSEWHERE}
    for page, (test, said) in ELSEWHERE.items():
        assert said in (ROOT / test).read_text("utf-8"), page


def test_what_is_not_run_says_why():
    whys = [step.why for name in PAGES for step in steps(PAGES[name]) if step.why is not None]
    assert len(whys) == NOT_RUN
    assert all(len(why.split()) > 2 for why in whys)
    # Of the others, `sh` blocks are in one page, whose test runs them.
    assert {name for name in PAGES for one in commands(name) if one.kind == "sh"} == {
        "docs/own-encoders.md"
    }


@pytest.fixture
def tour(demo: dict[str, str]) -> dict[str, str]:
    """The memories of the README's tour."""
    readme = [step for step in commands("README.md") if step.kind == "command"]
    for step in readme:
        if re.match(r"mkdir|mcr extract .* -o tour/", step.text):
            run(step, demo)
    return demo


@pytest.fixture
def with_parts(demo: dict[str, str]) -> dict[str, str]:
    """Memories with parts under the names of docs/methods.md, and a sound to ask with."""
    for table, encoder, modality, split, name in (
        ("texts", "mini-clip", "text", "train", "texts-clip"),
        ("texts", "mini-clap", "text", "train", "texts-clap"),
        ("images", "mini-clip", "image", "train", "images"),
        ("sounds", "mini-clap", "audio", "train", "sounds"),
        ("images", "mini-clip", "image", "test", "test-images"),
        ("sounds", "mini-clap", "audio", "test", "test-sounds"),
    ):
        line = f"mcr extract demo/data/{table}.csv -e {encoder} -m {modality} --where split={split}"
        run(Step("command", f"{line} --label-column number --local -o {name}.h5"), demo)
    Path("sound.wav").write_bytes(Path("demo/data/sounds/333-0.wav").read_bytes())
    return demo


@pytest.fixture
def models(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Stand-ins for CLIP, CLAP and ULIP-2, and a few files of each kind."""
    monkeypatch.setattr("tests.test_guide.EVERY", 1)
    monkeypatch.setattr("features.extraction.decode_batches.cpu_count", lambda: 1)
    found: dict[str, str] = request.getfixturevalue("journey")
    Path("data/all-texts.txt").rename("data/texts.txt")
    return found


@pytest.fixture
def demo_and_models(demo: dict[str, str], models: dict[str, str]) -> dict[str, str]:
    return {**demo, **models}


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_every_command_of_the_page_runs(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of Ray's workers, which start elsewhere
    stand_ins: dict[str, str] = request.getfixturevalue(FOLDERS[name])
    ran = [run(step, stand_ins) for step in commands(name)]
    assert ran


def run(step: Step, stand_ins: dict[str, str]) -> None:
    """Run a step; it must succeed, or fail with the sentence that the page shows."""
    if step.kind == "python":
        exec(compile(step.text, "a page's program", "exec"), {})
        return
    line = STANDS_FOR.get(step.text.partition("    #")[0].strip(), step.text)
    for name, stand_in in stand_ins.items():
        line = line.replace(name, stand_in)
    if "--item-timeout" not in line:  # workers start slower than few files decode
        line = re.sub(r"--workers \d+", "--workers 0", line)
    if not torch.cuda.is_available():
        line = line.replace("--device cuda", "--device cpu")
    words = shlex.split(line, comments=True)
    environment = dict(word.split("=", 1) for word in takewhile(IS_VARIABLE, words))
    words = words[len(environment) :]
    if words[0] != "mcr":
        done = subprocess.run(["bash", "-c", line], check=False, capture_output=True, text=True)
        code, printed = done.returncode, done.stdout + done.stderr
    else:
        arguments = [*words[1:], *shortened(words)]
        result = CliRunner(env=environment).invoke(app, arguments)
        code, printed = result.exit_code, result.output
    failed = set(re.findall(r"^FAILED  \w+: ([^:]+)", printed, flags=re.MULTILINE))
    expected = int("error:" in step.output or bool(failed & ONLY_TRAINED))
    assert code == expected, f"{line}\n{printed}"
    assert step.words <= set(re.findall(r"\b[A-Za-z]{4,}\b", printed)), f"{line}\n{printed}"


def shortened(words: list[str]) -> tuple[str, ...]:
    """Options that cut a training short; a closed form has no steps to cut."""
    if words[1] not in TRAINS or ("--method" in words and "projectors" not in words):
        return ()
    return SHORT
