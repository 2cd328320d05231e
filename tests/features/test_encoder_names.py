"""How encoders are named and found: arguments, loaders, optional packages, and the list of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from features import extras
from features.encoders import ENCODERS, catalogue, load_encoder, own
from features.encoders.mini.encoder import load_builtin_clip
from features.encoders.own import find_loader, installed_encoders
from features.encoders.spec import Argument, parse_argument, space_name
from features.errors import UserError
from features.extras import EXTRAS, install_line, installed, require_package
from features.space import MODALITIES

# --- what follows the colon


@pytest.mark.parametrize(
    ("text", "values", "options"),
    [
        ("", (), {}),
        ("ViT-B-32,openai", ("ViT-B-32", "openai"), {}),
        ("a,,b,", ("a", "b"), {}),
        ("best,windows=tiled,b", ("best", "b"), {"windows": "tiled"}),
        ("windows=", (), {"windows": ""}),
        ("windows=a=b", (), {"windows": "a=b"}),
        ("/runs/lr=0.1/w.pt,windows=one", ("/runs/lr=0.1/w.pt",), {"windows": "one"}),
        ("runs/windows=2/w.pt", ("runs/windows=2/w.pt",), {}),
    ],
)
def test_an_argument_is_split_at_commas_and_known_names(text, values, options):
    found = parse_argument(text, family="clap", options=("windows", "fusion"))
    assert (found.values, found.options) == (values, options)


def test_values_are_one_path_where_it_has_commas():
    assert parse_argument("/data/a,b/w.pt", family="ulip").path == "/data/a,b/w.pt"
    assert Argument((), {}).path == ""


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("x,size=2", ("windows", "fusion"),
         "the encoder clap has no option 'size': its options are windows, fusion"),
        ("size=2", (), "the encoder clap has no option 'size': its options are none"),
        ("windows=1,windows=1", ("windows",),
         "the encoder clap is given windows twice: keep one of them"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(text, options, message):
    with pytest.raises(UserError) as error:
        parse_argument(text, family="clap", options=options)
    assert str(error.value) == message


def test_an_option_has_a_default_and_a_choice():
    argument = Argument((), {"windows": "tiled"})
    assert argument.option("windows", "one", ("one", "tiled")) == "tiled"
    assert argument.option("fusion", "no", ("no", "yes")) == "no"
    with pytest.raises(UserError, match=r"^windows=tiled is not known: use windows=one\|two$"):
        argument.option("windows", "one", ("one", "two"))


def test_a_space_has_its_own_name_or_the_familys():
    assert space_name(Argument(("x",), {}), "clip") == "clip"
    for name in ("clip-large", "a", "B.1_c"):
        assert space_name(Argument((), {"space": name}), "clip") == name


@pytest.mark.parametrize("name", ["", " ", "a/b c", "a/b", "a b", "clip\n", "räume", "a=b"])
def test_what_cannot_stand_in_a_tensors_name_names_no_space(name):
    with pytest.raises(UserError) as error:
        space_name(Argument((), {"space": name}), "clip")
    assert str(error.value) == (
        f"space={name} does not name a space: use letters, digits, dots, underscores and hyphens, "
        "such as space=clip-large"
    )


# --- loaders


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder; modules that are imported from it are forgotten again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


LOADER = "def load(argument, *, device, precision):\n    return argument, device, precision\n"


def offer(folder: Path, monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    """An installed package that offers encoders."""
    about = folder / "site" / "offer-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: offer\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in values.items()]
    (about / "entry_points.txt").write_text("\n".join([f"[{own.GROUP}]", *lines, ""]))
    monkeypatch.syspath_prepend(folder / "site")


@pytest.mark.parametrize(
    ("spec", "argument"),
    [
        ("mine:load", ""),
        ("mine:load:", ""),
        ("mine:load:a:b,c=d", "a:b,c=d"),
        ("a.b_1:load:x", "x"),
    ],
)
def test_a_module_in_the_current_folder(here: Path, spec: str, argument: str):
    (here / "a").mkdir()
    for path in (here / "mine.py", here / "a" / "b_1.py"):
        path.write_text(LOADER)
    loader, found = find_loader(spec, ENCODERS)
    assert found == argument
    assert loader("x", device="cpu", precision="fp16") == ("x", "cpu", "fp16")
    # Nothing that lies there takes the place of what is installed.
    assert sys.path[-1] == str(here)


def test_families_come_first_then_entry_points_then_modules(here, monkeypatch):
    (here / "mini-clip.py").write_text(LOADER)
    (here / "theirs.py").write_text(LOADER)
    (here / "other.py").write_text(LOADER.replace("argument, device", "'entry point', device"))
    offer(here, monkeypatch, **{"mini-clip": "other:load", "theirs": "other:load"})
    assert find_loader("mini-clip", ENCODERS)[0] is load_builtin_clip
    monkeypatch.syspath_prepend(here)
    loader, argument = find_loader("theirs:load", ENCODERS)
    assert loader("", device="", precision="")[0] == "entry point"
    assert argument == "load"
    assert installed_encoders()["theirs"].value == "other:load"


@pytest.mark.parametrize("spec", ["nothing", "no-module:load", "1:load", "a:", ":load", "a:b,c"])
def test_what_is_no_name_is_answered_with_all_names(here, monkeypatch, spec):
    offer(here, monkeypatch, colours="mine:load")
    with pytest.raises(UserError) as error:
        find_loader(spec, ENCODERS)
    assert str(error.value) == (
        f"'{spec}' is not an encoder, these are: {', '.join(ENCODERS)}, colours, or "
        "MODULE:ATTRIBUTE of your own; see `mcr encoders`. Embeddings that are made already "
        "become a memory with `mcr import`"
    )


CALLED = "load(argument, device=, precision=)"


@pytest.mark.parametrize(
    ("code", "spec", "message"),
    [
        (None, "mine:load:x", "'mine:load:x' is neither a known encoder .* nor a module of yours: "
         "no module mine is installed or lies in {here}$"),
        ("", "mine.sub:load", "no module mine.sub is installed or lies in {here}$"),
        ("import absent", "mine:load",
         "mine cannot be imported .No module named 'absent'.: install what it needs"),
        ("from os import absent", "mine:load", "mine cannot be imported .cannot import name 'abs"),
        (LOADER, "mine:laod", "the module mine has no 'laod': check the encoder mine:laod"),
        ("load = 3", "mine:load", "mine:load is of type int and cannot be called: name a function"),
        ("def load(argument): pass", "mine:load", "mine:load cannot be called as load.argument, "
         "device=, precision=. .got an unexpected keyword argument 'device'.: name a function"),
        ("def load(a, b, **c): pass", "mine:load", "missing a required argument: 'b'"),
    ],
)  # fmt: skip
def test_what_cannot_be_loaded_is_named(here: Path, code, spec, message):
    if code is not None:
        (here / "mine.py").write_text(code)
    with pytest.raises(UserError, match=message.format(here=here)) as error:
        find_loader(spec, ENCODERS)
    assert "\n" not in str(error.value)


def test_a_broken_entry_point_is_its_packages_fault(here, monkeypatch):
    offer(here, monkeypatch, gone="gone_module:load", laod="theirs:laod", three="theirs:load")
    (here / "site" / "theirs.py").write_text("load = 3\n")
    for name, message in (
        ("gone", "the encoder gone cannot be loaded from gone_module:load .*install the package"),
        ("laod", "the encoder laod cannot be loaded from theirs:laod .*no attribute 'laod'"),
        ("three", "theirs:load is of type int and cannot be called"),
    ):
        with pytest.raises(UserError, match=message):
            find_loader(name, ENCODERS)


def test_what_is_loaded_must_be_an_encoder(here: Path):
    (here / "mine.py").write_text(LOADER)
    message = (
        "^mine:load gave a tuple, which is no encoder: it needs space, description, input and encod"
    )
    with pytest.raises(UserError, match=message):
        load_encoder("mine:load", device="cpu")


BROKEN = """import torch

def load(argument, *, device, precision):
    if argument == "quiet":
        raise KeyError
    if argument == "own sentence":
        from features.errors import UserError
        raise UserError("it is the user's")
    return build(argument)

def build(argument):
    layer = torch.nn.Linear(1, 1)
    layer.load_state_dict({"many": 1, "lines": 2})
"""


@pytest.mark.parametrize("through", ["module", "entry point"])
def test_a_mistake_in_someones_loader_names_the_encoder_and_the_place(here, monkeypatch, through):
    spec = {"module": "broken_one:load", "entry point": "broken"}[through]
    (here / "broken_one.py").write_text(BROKEN)
    if through == "entry point":
        offer(here, monkeypatch, broken="broken_one:load")
        monkeypatch.syspath_prepend(here)
    with pytest.raises(UserError) as error:
        load_encoder(f"{spec}:quiet", device="cpu")
    assert str(error.value) == f"the encoder {spec}:quiet failed to load (KeyError): mend its code"
    place = f'File "{here / "broken_one.py"}", line 5, in load'
    lines = error.value.details.splitlines()
    assert any(place in line for line in lines)
    assert lines[-1] == "  KeyError"
    assert isinstance(error.value.__cause__, KeyError)
    with pytest.raises(
        UserError, match=r"failed to load \(RuntimeError: Error\(s\) in loading st"
    ) as error:
        load_encoder(spec, device="cpu")
    assert "\n" not in str(error.value)
    lines = error.value.details.splitlines()
    assert 4 <= len(lines) <= 6
    assert lines[0].startswith("    File ")
    assert all(line.startswith("  ") for line in lines)
    assert any("RuntimeError: Error(s)" in line for line in lines)
    with pytest.raises(UserError, match=r"^it is the user's$"):
        load_encoder(f"{spec}:own sentence", device="cpu")


@pytest.mark.parametrize(
    ("code", "told", "place"),
    [
        ("x = 1\ny = x / 0\n", "ZeroDivisionError: division by zero", 'broken_two.py", line 2'),
        ("def load(:\n", "SyntaxError: invalid syntax (broken_two.py, line 1)", 'two.py", line 1'),
    ],
)
def test_a_mistake_in_someones_module_names_the_encoder_too(here, monkeypatch, code, told, place):
    (here / "broken_two.py").write_text(code)
    offer(here, monkeypatch, broken="broken_two:load")
    for spec in ("broken_two:load", "broken"):
        with monkeypatch.context() as patch:
            if spec == "broken":
                patch.syspath_prepend(here)
            with pytest.raises(UserError) as error:
                load_encoder(spec, device="cpu")
        assert str(error.value) == f"the encoder {spec} failed to load ({told}): mend its code"
        assert place in error.value.details


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="isinstance no longer asks properties")
def test_a_property_that_fails_is_a_mistake_like_another(here):
    (here / "broken_three.py").write_text(
        "class load:\n"
        "    def __init__(self, argument, *, device, precision): ...\n"
        "    @property\n"
        "    def space(self): return {}['missing']\n"
        "    description = input = encode = print\n"
    )
    with pytest.raises(
        UserError, match=r"broken_three:load failed to load \(KeyError: 'missing'\)"
    ):
        load_encoder("broken_three:load", device="cpu")


def test_a_mistake_of_this_packages_own_is_not_the_users(monkeypatch):
    def fail(_argument, **_):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("features.encoders.mini.encoder.load_builtin_clip", fail)
    with pytest.raises(ZeroDivisionError, match="ours"):
        load_encoder("mini-clip", device="cpu")


# --- optional packages


@pytest.mark.parametrize("package", EXTRAS)
def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch, package):
    monkeypatch.setattr(extras, "find_spec", lambda _name: None)
    assert not installed(package)
    with pytest.raises(UserError) as error:
        require_package(package, "this thing")
    line = f'pip install "mcr-bridge[{EXTRAS[package]}]"'
    assert str(error.value) == f"this thing needs the package {package}: {line}"
    assert install_line(package) == line


def test_every_extra_that_is_named_exists():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    extras_there = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    for package, extra in EXTRAS.items():
        (line,) = re.findall(rf"^{extra} = \[[^\]]*\]", extras_there, re.MULTILINE)
        assert package.split("_")[0] in line.replace("-", "_"), package


def test_a_package_that_is_there_is_imported():
    assert require_package("json", "a test").dumps([1]) == "[1]"


def test_no_package_but_the_core_means_a_sentence_for_clip(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda _name: None)
    with pytest.raises(
        UserError, match=r"needs the package open_clip: pip install .mcr-bridge\[cl"
    ):
        load_encoder("clip:ViT-B-32,openai", device="cpu")


# --- the list


@pytest.mark.parametrize("one", catalogue.KNOWN, ids=lambda one: one.spec)
def test_every_encoder_of_the_list_has_a_family_and_a_licence(one):
    assert one.spec.partition(":")[0] in ENCODERS
    assert one.licence
    assert set(one.embeds) <= set(MODALITIES)
    assert one.package is None or one.package in EXTRAS


def test_every_family_is_in_the_list():
    assert {one.spec.partition(":")[0] for one in catalogue.KNOWN} == set(ENCODERS)


@pytest.mark.parametrize("name", [name for name in ENCODERS if name.startswith("mini-")])
def test_the_list_agrees_with_the_encoders_that_come_along(name):
    (one,) = [one for one in catalogue.KNOWN if one.spec == name]
    encoder = load_encoder(name, device="cpu")
    assert one.dimension == encoder.space.dimension
    assert set(one.embeds) == set(encoder.space.modalities)
    assert one.ready
    assert one.install is None


def test_the_list_agrees_with_open_clip():
    pytest.importorskip("open_clip")
    models = dict(catalogue.open_clip_models())
    named = [
        one for one in catalogue.KNOWN if one.spec.startswith("clip:") and one.dimension is not None
    ]
    assert len(named) >= 4
    assert {one.spec: models[one.spec] for one in named} == {
        one.spec: one.dimension for one in named
    }


def test_what_is_missing_here_is_told_with_its_line(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda _name: None)
    for one in catalogue.KNOWN:
        assert one.ready == (one.package is None)
        assert one.install == (None if one.package is None else install_line(one.package))


def test_other_packages_encoders_come_last(here, monkeypatch):
    offer(here, monkeypatch, zeta="z:load", alpha="a:load")
    last = catalogue.listed()[len(catalogue.KNOWN) :]
    assert [one.spec for one in last][:1] == ["alpha"]
    assert {one.spec for one in last} >= {"alpha", "zeta"}
    assert {point.name for point in entry_points(group=own.GROUP)} >= {"alpha", "zeta"}
