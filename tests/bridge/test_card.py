"""The model card's metadata, and results that come and go in it."""

from __future__ import annotations

import pytest

from bridge.card import card_with, front_matter, model_card
from bridge.evaluation.retrieval_result import retrieval_result
from features.errors import UserError


@pytest.fixture(scope="module")
def result(world, made):
    return retrieval_result(*world.test, bridge=made, resamples=100)


def read_front(card: str) -> dict[str, object]:
    """The metadata, by the few rules of YAML that it uses."""
    start, matter, _ = card.split("---\n", 2)
    assert start == ""
    found: dict[str, object] = {}
    for line in matter.splitlines():
        if line.startswith("- "):
            found["tags"].append(line.removeprefix("- "))
        else:
            name, _, value = line.partition(": ")
            found[name.rstrip(":")] = value if value else []
    return found


def test_the_metadata_are_what_a_hub_reads(made):
    front = read_front(model_card(made, licence="Apache-2.0"))
    assert front["library_name"] == "mcr-bridge"
    assert front["pipeline_tag"] == "feature-extraction"
    assert front["license"] == "apache-2.0"
    assert {"mcr-bridge", "audio", "text", "image", "left", "right"} <= set(front["tags"])
    assert len(front["tags"]) == len(set(front["tags"]))
    assert "license" not in read_front(model_card(made))


def test_the_metadata_are_those_that_huggingface_reads(made):
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard(model_card(made, licence="mit")).data
    assert data.library_name == "mcr-bridge"
    assert data.license == "mit"
    assert "multimodal" in data.tags


def test_results_are_added_replaced_and_removed(made, result):
    card = model_card(made)
    told = card_with(card, made, results=[result])
    value = result.figures["audio -> image"]["R@1"]
    assert told.startswith(card.rstrip())
    assert f"| retrieval | audio -> image | R@1 | {value:.3f} [" in told
    assert card_with(told, made, results=[result]) == told
    assert card_with(told, made) == told
    assert card_with(told, made, results=[]).strip() == card.strip()


def test_what_the_owner_wrote_stays(made, result):
    told = card_with(model_card(made), made, results=[result])
    edited = told.replace("# made", "# made\n\nMy own words.") + "\n## More\n\nOf mine.\n"
    again = card_with(edited, made, results=[result], licence="cc-by-4.0")
    assert "My own words." in again
    assert "## More\n\nOf mine." in again
    assert again.count("## Results") == 1
    assert read_front(again)["license"] == "cc-by-4.0"
    assert read_front(card_with(again, made, licence="mit"))["license"] == "mit"


def test_a_card_without_metadata_gets_them(made):
    told = card_with("# My bridge\n\nWords.\n", made, licence="mit")
    assert told == front_matter(made, licence="mit") + "\n# My bridge\n\nWords.\n"


def test_what_is_no_licence_is_refused(made):
    with pytest.raises(UserError, match="not the identifier of a licence"):
        model_card(made, licence="do: what\nyou want")
