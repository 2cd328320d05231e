"""The page on encoders of one's own: its example, its commands and its messages are true."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from features.encoders import LocalEncoder, load_encoder
from features.errors import ItemError, UserError
from features.extraction.extract import extract
from features.extraction.sources import read_source
from features.memories.memory import Memory
from features.memories.writing import save_memory
from tests.cli.conftest import mcr
from tests.cli.refusals import refused

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "own-encoders.md").read_text(encoding="utf-8")
PICTURES = {"red": (220, 30, 30), "green": (30, 200, 40), "crimson": (190, 20, 45)}
# As the console script, whose folder, not the current one, is on the search path; but it runs
# several commands, to import everything once.
SCRIPT = """
import json, sys
from cli.main import app

if __name__ == "__main__":
    for arguments in json.loads(sys.argv[1]):
        if code := app(arguments, prog_name="mcr", standalone_mode=False):
            sys.exit(code)
        print("=" * 9)
"""


def blocks(language: str) -> list[str]:
    """The page's blocks of code in a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def commands(block: str) -> list[list[str]]:
    return [shlex.split(line.removeprefix("mcr ")) for line in block.splitlines() if line]


MODULE = blocks("python")[0]
FIRST, SECOND, THIRD = (commands(block) for block in blocks("sh"))
ROWS = re.findall(r"^\| `mcr (.+?)` \| `(.+?)`(?: .*)? \|$", PAGE, re.MULTILINE)


def write_workplace(folder: Path) -> Path:
    """The page's module, pictures, and a script that is `mcr`."""
    (folder / "pictures").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, colour in PICTURES.items():
        pixels = np.clip(rng.normal(colour, 20, (48, 80, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{name}.png")
    (folder / "bin").mkdir()
    (folder / "bin" / "mcr.py").write_text(SCRIPT)
    (folder / "my_encoder.py").write_text(MODULE, encoding="utf-8")
    return folder


def run_all(folder: Path, lines: list[list[str]], *, path: str = "") -> list[str]:
    """What each command says, run in a process of their own in `folder`."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [path, str(ROOT)]))
    environment.pop("PYTHONSAFEPATH", None)
    run = subprocess.run(
        [sys.executable, str(folder / "bin" / "mcr.py"), json.dumps(lines)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout.split("=" * 9 + "\n")[:-1]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder in which the page's first and second commands were run, and what they said."""
    folder = write_workplace(tmp_path_factory.mktemp("own"))
    lines = [*FIRST, *SECOND]
    for line in lines:
        if line[0] == "extract":  # decoded by another process, which must find the module too
            line += ["--workers", "1"]
    return folder, run_all(folder, lines)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The module in the current folder of this process; what it leaves behind is undone."""
    write_workplace(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_encoder", raising=False)
    yield tmp_path
    sys.modules.pop("my_encoder", None)


def test_the_commands_of_the_page_do_what_it_says(workplace: tuple[Path, list[str]]) -> None:
    folder, (doctor, _, query, _) = workplace
    assert doctor.startswith("colours: image, 128-d\n")
    assert doctor.count("\nok ") == 3
    assert [line.split("\t")[1] for line in query.splitlines()] == ["red.png", "crimson.png"]
    memory = Memory(folder / "colours.h5")
    assert (len(memory), memory.dimension, memory.space) == (3, 128, "colours")
    parts = Memory(folder / "parts.h5")
    assert parts.dimension == 32
    local, mask = parts.local_tensors(np.arange(3))
    assert local.shape == (3, 16, 32)
    assert mask.all()


def test_a_name_of_its_own_by_an_entry_point(
    workplace: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """As `pip install` leaves it: the module, and a dist-info folder with the entry points."""
    folder = write_workplace(tmp_path / "work")
    site = tmp_path / "site"
    about = site / "my_encoder-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "my_encoder.py").rename(site / "my_encoder.py")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-encoder\nVersion: 1.0\n")
    (toml,) = blocks("toml")
    found = re.fullmatch(r'\[project\.entry-points\."(.+)"\]\n(\w+) = "(.+)"\n', toml)
    assert found
    (about / "entry_points.txt").write_text("[{}]\n{} = {}\n".format(*found.groups()))
    _, listed = run_all(folder, [*THIRD, ["encoders", "colours"]], path=str(site))
    assert listed.splitlines()[1].split()[0] == "colours"
    assert listed.splitlines()[1].endswith("my_encoder:load")
    one, other = Memory(folder / "colours-32.h5"), Memory(workplace[0] / "parts.h5")
    assert one.header.encoder == other.header.encoder
    np.testing.assert_array_equal(one.embeddings, other.embeddings)


def test_other_weights_are_refused_as_the_page_says(
    workplace: tuple[Path, list[str]], here: Path
) -> None:
    (here / "my_encoder.py").write_text(MODULE.replace("SEED = 0", "SEED = 1"))
    ask = ("query", "pictures/red.png", "--memory", workplace[0] / "colours.h5")
    run = mcr(*ask, "--encoder", "colours=my_encoder:load")
    (message,) = blocks("text")
    assert run.exit_code == 1
    assert run.stderr.startswith(message)
    marked = [line.split()[0] for line in run.stderr.splitlines() if "<- differs" in line]
    assert marked == ["weights"]


@pytest.mark.parametrize(("command", "message"), ROWS)
def test_the_page_knows_what_goes_wrong(here: Path, command: str, message: str) -> None:
    assert here == Path.cwd()
    assert message in refused(*shlex.split(command))


def test_the_page_has_all_its_parts() -> None:
    assert len(ROWS) == 7
    assert [one[0] for one in FIRST] == ["doctor", "extract", "query"]
    assert [len(SECOND), len(THIRD)] == [1, 1]


def test_the_example_is_an_encoder_with_the_right_figures(here: Path) -> None:
    encoder = load_encoder("my_encoder:load:24", device="cpu")
    assert isinstance(encoder, LocalEncoder)
    batch = [encoder.input("image")(here / "pictures" / f"{name}.png") for name in PICTURES]
    rows = encoder.encode(batch, "image")
    projection = torch.randn(64, 24, generator=torch.Generator().manual_seed(0))
    for row, pixels in zip(rows, batch, strict=True):
        counts = torch.zeros(64)
        for red, green, blue in pixels.reshape(-1, 3).tolist():
            counts[red // 64 * 16 + green // 64 * 4 + blue // 64] += 1
        by_hand = torch.nn.functional.normalize(counts @ projection, dim=0)
        torch.testing.assert_close(row, by_hand, atol=1e-5, rtol=0)
    found = encoder.encode_local(batch, "image")
    torch.testing.assert_close(found.pooled, rows, atol=1e-6, rtol=0)
    corner = encoder.encode([batch[0][:16, 16:32].repeat(4, axis=0).repeat(4, axis=1)], "image")
    torch.testing.assert_close(found.local[0, 1], corner[0], atol=1e-5, rtol=0)
    low = load_encoder("my_encoder:load:24", device="cpu", precision="bf16")
    assert low.description.precision == "bf16"
    assert low.description.weights == encoder.description.weights


def test_what_the_example_cannot_read_is_an_item_error(here: Path) -> None:
    read = load_encoder("my_encoder:load", device="cpu").input("image")
    (here / "broken.png").write_bytes(b"no image")
    Image.new("RGB", (50, 3)).save(here / "flat.png")
    for name, message in (("broken", "cannot be decoded"), ("flat", "50 x 3 pixels are too few")):
        with pytest.raises(ItemError, match=message):
            read(here / f"{name}.png")


MISTAKES = [
    ("import numpy", "import timmm, numpy", r"my_encoder cannot be imported \(No module named 't"),
    ("import ItemError", "import Item", r"my_encoder cannot be imported \(cannot import name 'It"),
    (
        "return Colours(",
        "return torch.nn.Linear(2, 2)  # ",
        "gave a Linear, which is no encoder",
    ),
    ("device: str, precision: str) -> Colours", "dtype: str) -> Colours", "cannot be called as lo"),
    ("    def encode(", "    def embed(", "my_encoder:load gave a Colours, which is no encoder"),
    ("mean(dim=1))", "mean(dim=1))[1:]", r"array \(1, 128\) for 2 items of dimension 128: mend"),
    ("mean(dim=1))", "mean(dim=1))[:, 1:]", r"array \(2, 127\) for 2 items of dimension 128: me"),
    ("mean(dim=1))", "mean(dim=1)).numpy()", "colours returned a ndarray, not a Tensor: mend the"),
    ("mean(dim=1))", "mean(dim=1)) * 3.2", "the embedding has norm 3.2, not 1. Check the source"),
    (
        "self.space.require(modality)\n        return read_pixels",
        "return lambda item: read_pixels(item)",
        "cannot be pickled",
    ),
]


@pytest.mark.parametrize(("before", "after", "message"), MISTAKES)
def test_mistakes_in_an_encoder_get_one_sentence(
    here: Path, before: str, after: str, message: str
) -> None:
    (here / "pictures" / "crimson.png").unlink()
    assert before in MODULE
    changed = MODULE.replace(before, after, 1).replace("return torch", "import torch; return torch")
    (here / "my_encoder.py").write_text(changed, encoding="utf-8")
    source = read_source("pictures", "image")
    with pytest.raises(UserError, match=message) as error:
        extract(
            source, load_encoder("my_encoder:load", device="cpu"), "image", here / "m.h5", workers=1
        )
    assert "\n" not in str(error.value)


def test_a_mistake_in_the_loader_is_told_as_the_page_says(here: Path) -> None:
    (here / "my_encoder.py").write_text(
        MODULE.replace("return Colours(", "1 / 0\n    return Colours(")
    )
    run = mcr("doctor", "my_encoder:load", "--device", "cpu")
    message, *place = run.stderr.splitlines()
    assert run.exit_code == 1
    assert message.removeprefix("error: ") in " ".join(PAGE.split())
    assert message.startswith("error: the encoder my_encoder:load failed to load (ZeroDivisionErr")
    assert f'  File "{here / "my_encoder.py"}", line ' in place[-4 if "^" in place[-2] else -3]
    assert place[-1] == "  ZeroDivisionError: division by zero"


def test_code_is_not_run_because_a_file_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.py").write_text("open('ran', 'w')\ndef load(argument, **_): ...\n")
    monkeypatch.chdir(tmp_path)
    rows = np.eye(3, dtype=np.float32)
    for spec in ("evil:load", "os:system:touch ran", "subprocess:run:ls"):
        save_memory(
            tmp_path / "m.h5", rows, list("abc"), space="s", modality="text",
            encoder={"name": "harmless", "spec": spec}, overwrite=True,
        )  # fmt: skip
        run = mcr("query", "hello", "--memory", "m.h5")
        assert run.exit_code == 1
        assert f"a file names the encoder {spec}, which would import the module" in run.stderr
        assert "name it with --encoder s=SPEC" in run.stderr
    assert not (tmp_path / "ran").exists()
