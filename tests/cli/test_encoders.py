"""`mcr encoders`: the list for people and for programs; and `mcr extract --local`."""

from __future__ import annotations

import json

import pytest

from features import extras
from features.encoders import ENCODERS
from features.encoders.catalogue import KNOWN, listed
from features.memories.memory import Memory
from tests.cli.conftest import answer, done
from tests.cli.refusals import extract, refused


def test_the_table_has_a_line_for_every_encoder():
    result = done("encoders")
    header, *lines = result.stdout.splitlines()
    assert header.split() == ["encoder", "embeds", "dimension", "licence", "here", "what"]
    assert [line.split()[0] for line in lines] == [one.spec for one in listed()]
    columns = [header.index(name) for name in ("embeds", "dimension", "licence")]
    for line, one in zip(lines, KNOWN, strict=False):
        assert line[columns[0] :].startswith(", ".join(one.embeds) or "-")
        dimension = "-" if one.dimension is None else str(one.dimension)
        assert line[: columns[2]].split()[-1] == dimension
        assert line[columns[2] :].startswith(one.licence)
        assert line.endswith(one.what)


def test_json_says_what_the_table_does():
    told = answer("encoders")
    assert [one["spec"] for one in told] == [one.spec for one in listed()]
    (clip,) = [one for one in told if one["spec"] == "clip:ViT-B-32,openai"]
    assert (clip["embeds"], clip["dimension"], clip["licence"], clip["package"]) == (
        ["image", "text"], 512, "MIT", "open_clip",
    )  # fmt: skip
    mini = told[0]
    assert (mini["spec"], mini["package"], mini["install"]) == ("mini-clip", None, None)


@pytest.mark.parametrize("text", ["ulip", "ULIP", "ViT-B"])
def test_a_search_keeps_those_with_it_in_their_name(text):
    told = answer("encoders", text)
    expected = [one.spec for one in listed() if text.lower() in one.spec.lower()]
    assert [one["spec"] for one in told] == expected
    assert 1 < len(expected) < len(KNOWN)


def test_a_search_without_a_result_is_refused():
    assert refused("encoders", "resnet") == (
        "no encoder has 'resnet' in its name: `mcr encoders` lists all"
    )
    assert "no encoder has" in refused("encoders", "resnet", "--json")


def test_clip_lists_all_of_open_clip():
    open_clip = pytest.importorskip("open_clip")
    told = answer("encoders", "clip")
    assert [one["spec"] for one in told] == [
        f"clip:{model},{tag}" for model, tag in open_clip.list_pretrained()
    ]
    widths = {one["spec"]: one["dimension"] for one in told}
    assert widths["clip:ViT-B-32,openai"] == 512
    assert widths["clip:ViT-L-14,openai"] == 768
    header, *lines = done("encoders", "clip").stdout.splitlines()
    assert header.split() == ["encoder", "dimension"]
    assert {line.split()[0]: int(line.split()[1]) for line in lines} == widths


def test_what_is_missing_here_is_told_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "open_clip" else name)
    result = done("encoders")
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert "  no  " in lines["clip:ViT-B-32,openai"]
    assert "  yes  " in lines["mini-clip"]
    assert result.stderr == 'for those not here: pip install "mcr-bridge[clip]"\n'
    told = json.loads(done("encoders", "clip:", "--json").stdout)
    assert {one["install"] for one in told} == {'pip install "mcr-bridge[clip]"'}
    assert refused("encoders", "clip") == (
        'the list of CLIP models needs the package open_clip: pip install "mcr-bridge[clip]"'
    )


def test_extract_names_all_encoders_when_one_is_mistyped(workshop, tmp_path):
    arguments = list(extract(workshop, workshop.files / "images.csv", tmp_path))
    arguments[arguments.index("-e") + 1] = "clpi"
    assert refused(*arguments).startswith(
        f"'clpi' is not an encoder (did you mean clip?), these are: {', '.join(ENCODERS)}, or "
    )


def test_parts_are_kept_beside_the_wholes(workshop, tmp_path):
    done(*extract(workshop, workshop.files / "images.csv", tmp_path, "--local"))
    (made,) = (Memory(path) for path in tmp_path.glob("*.h5"))
    assert made.header.local_length == 8  # patches of 8 x 8 pixels
    made.verify()
