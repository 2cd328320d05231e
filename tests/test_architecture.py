"""The rules that keep the project as it is meant: who imports whom, and what users can rely on."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli.main import app

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "features": {"features"},
    "bridge": {"bridge", "features"},
    "cli": {"cli", "bridge", "features"},
}
FORMULAS_ELSEWHERE = (
    "methods/closed_forms", "training/noise", "pseudo_pairs/exact", "pseudo_pairs/partial",
)  # fmt: skip
FORMULAS = sorted(
    [
        *(ROOT / "bridge" / "losses").glob("*.py"),
        *(ROOT / "bridge" / "metrics").glob("*.py"),
        *(ROOT / "bridge" / f"{name}.py" for name in FORMULAS_ELSEWHERE),
    ]
)
FORMULAS_MAY_IMPORT = {
    "__future__", "bridge", "collections", "dataclasses", "features", "jaxtyping", "math", "torch",
    "typing",
}  # fmt: skip
HEAVY = ("torch", "faiss", "h5py", "numpy", "matplotlib", "sklearn", "ray")


def imported_packages(path: Path) -> Iterator[tuple[str, int]]:
    """Top-level names of everything that a file imports, inside functions as well."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} is a relative import"
            yield (node.module or "").split(".")[0], node.lineno


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_from_cli_to_bridge_to_features_and_never_back(package):
    forbidden = {"cli", "bridge", "features", "tests", "benchmarks"} - MAY_IMPORT[package]
    found = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(package)
        for name, line in imported_packages(path)
        if name in forbidden
    ]
    assert sources(package)
    assert found == []


@pytest.mark.parametrize("path", FORMULAS, ids=lambda path: path.stem)
def test_formulas_know_nothing_but_tensors(path):
    found = {name for name, _ in imported_packages(path)}
    assert found <= FORMULAS_MAY_IMPORT
    pattern = r"^ *(?:from|import) ((?:bridge|features)\S*)"
    own = re.findall(pattern, path.read_text("utf-8"), re.MULTILINE)
    # Products are torch's, chosen by device, and so are passes over logits and sums over processes;
    # what leaves items out proves that they do not matter.
    allowed = (
        "bridge.losses", "bridge.metrics", "bridge.fused_powers", "bridge.training.distributed",
        "features.products", "features.cores", "bridge.pseudo_pairs.partial",
        "bridge.pseudo_pairs.heavy",
    )  # fmt: skip
    assert all(name.startswith(allowed) for name in own), own


# The one file that opens torch's pickles, and the one that looks for the user's own modules.
READS_WEIGHTS = ROOT / "features" / "tensors.py"
FINDS_MODULES = ROOT / "features" / "encoders" / "own.py"


def test_nothing_is_pickled_and_pickles_are_read_as_weights_only():
    for package in MAY_IMPORT:
        for path in sources(package):
            text = path.read_text(encoding="utf-8")
            assert "torch.save(" not in text, path
            assert text.count("torch.load(") == text.count("weights_only=True)"), path
            if path == READS_WEIGHTS:
                continue  # it imports pickle for the name of its error
            assert "torch.load(" not in text, path
            assert not {"pickle", "joblib", "dill"} & {name for name, _ in imported_packages(path)}


def test_the_search_path_is_left_alone():
    for package in MAY_IMPORT:
        for path in sources(package):
            assert path == FINDS_MODULES or "sys.path" not in path.read_text("utf-8"), path


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["query", "--help"], ["--version"]]
)
def test_help_comes_without_loading_anything_heavy(arguments):
    code = (
        "import sys; sys.argv[0] = 'mcr'; from cli.main import app; "
        "app(standalone_mode=False); "
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout.splitlines()[-1] == "LOADED []"
    assert "mcr" in run.stdout


@pytest.mark.parametrize("package", ["features", "bridge", "cli"])
def test_importing_a_package_does_not_load_torch(package):
    code = f"import sys, {package}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
PROTOCOLS = {
    f"{group} {name}": one
    for group in ("eval", "plot")
    for name, one in COMMANDS[group].commands.items()
}


@pytest.mark.parametrize("name", {**COMMANDS, **PROTOCOLS})
def test_every_command_and_every_option_is_documented(name):
    command = {**COMMANDS, **PROTOCOLS}[name]
    assert (command.help or "").strip(), name
    for parameter in command.params:
        text = getattr(parameter, "help", None)
        assert text, f"{name} {parameter.opts}"


def test_the_list_of_commands_fits_a_terminal_of_80_columns():
    lines = CliRunner().invoke(app, ["--help"], terminal_width=80).stdout.splitlines()
    listed = [line for line in lines if line.strip().split(" ")[0] in COMMANDS]
    assert len(listed) == len(COMMANDS)
    assert [line for line in listed if line.endswith("...")] == []


def test_the_same_option_means_the_same_everywhere():
    meanings: dict[str, set[str]] = {}
    for command in (*COMMANDS.values(), *PROTOCOLS.values()):
        for parameter in command.params:
            if "--device" in parameter.opts or "--json" in parameter.opts:
                meanings.setdefault(parameter.opts[0], set()).add(parameter.help)
    assert {option: len(texts) for option, texts in meanings.items()} == {
        "--device": 1,
        "--json": 1,
    }


@pytest.mark.parametrize(
    "module",
    [
        "bridge.metrics.bootstrap",
        "bridge.losses.contrast",
        "bridge.losses.cwcl",
        "bridge.losses.info_nce",
        "bridge.losses.intra",
        "bridge.losses.matching",
        "bridge.losses.soft_targets",
        "bridge.metrics.classification",
        "bridge.metrics.maps",
        "bridge.metrics.recognition",
        "bridge.metrics.retrieval",
        "bridge.metrics.spaces",
        "cli.completion",
        "cli.dry_run",
        "features.suggest",
    ],
)
def test_the_examples_in_the_documentation_are_true(module):
    import torch

    loaded = importlib.import_module(module)
    result = doctest.testmod(loaded, extraglobs={"torch": torch})
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("name", ["mini-clip", "mini-clap", "mini-ulip"])
def test_the_wheel_will_hold_the_weights_of_the_built_in_encoders(name):
    file = ROOT / "features" / "encoders" / "mini" / "weights" / f"{name}.safetensors"
    assert file.stat().st_size > 100_000
    # Hatchling packs what lies in the packages unless git ignores it.
    ignored = subprocess.run(["git", "check-ignore", "-q", str(file)], cwd=ROOT, check=False)
    assert ignored.returncode != 0


def test_the_wheel_is_made_of_the_three_packages():
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(wheel["packages"]) == set(MAY_IMPORT)
    assert project["project"]["scripts"] == {"mcr": "cli.start:run"}
