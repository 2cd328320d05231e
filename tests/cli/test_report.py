"""`mcr report`: a page beside the bridge, and the model card."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import answer, done, mcr, without_results

pytest.importorskip("matplotlib")


@pytest.fixture
def run(workshop, tmp_path):
    return without_results(workshop.sound_bridge, tmp_path / "run")


def test_the_page_and_the_card_lie_beside_the_bridge(workshop, run):
    sides = ("-q", workshop.memory("sounds"), "-g", workshop.memory("images"))
    told = done("report", run, *sides, "--rows", "3", "-k", "2", "--license", "mit").stdout
    assert told.split() == [str(run / "report.html"), str(run / "README.md")]
    page = (run / "report.html").read_text()
    assert page.count('class="tile query"') == 6
    assert "data:image/jpeg" in page  # thumbnails
    assert "data:image/png" in page  # spectrograms
    card = (run / "README.md").read_text()
    assert "license: mit" in card
    assert "| retrieval | audio -> image | R@1 |" in card


def test_results_in_the_folder_and_named_ones_are_reported(workshop, run, tmp_path):
    sides = ("-q", workshop.memory("sounds"), "-g", workshop.memory("images"))
    done("eval", *sides, "-b", run, "--resamples", "0")
    done("eval", *sides[2:], *("-q", workshop.memory("text-hears")), "-b", run,
         "--resamples", "0", "-o", tmp_path / "text.json")  # fmt: skip
    before = (run / "README.md").read_text()
    out = tmp_path / "a.html"
    told = answer("report", run, "--result", tmp_path / "text.json", "-o", out, "--no-card")
    assert told["written"] == [str(out)]
    assert {next(iter(figures)) for figures in told["results"].values()} == {
        "text -> image",
        "audio -> image",
    }
    assert (run / "README.md").read_text() == before


def test_mistakes_get_one_sentence(workshop, run, tmp_path):
    def refused(*arguments) -> str:
        result = mcr("report", *arguments)
        assert result.exit_code == 1, result.output
        assert len(result.stderr.splitlines()) == 1
        return result.stderr

    assert "is not a bridge" in refused(tmp_path)
    assert "NAME.html" in refused(run, "-o", tmp_path / "a.pdf")
    assert "give --query and --gallery" in refused(run, "-q", workshop.memory("sounds"))
    assert "leave --no-card out" in refused(run, "--license", "mit", "--no-card")
    assert "not the identifier of a licence" in refused(run, "--license", "my own words")
    clouds = workshop.memory("clouds")
    assert "not 'shapes'" in refused(run, "-q", clouds, "-g", workshop.memory("images"))
    (tmp_path / "a.json").write_text(json.dumps({"format": "else"}))
    assert "not a result of `mcr eval`" in refused(run, "--result", tmp_path / "a.json")
