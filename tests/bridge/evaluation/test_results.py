"""Results: figures with intervals, in a file; and the paired comparison of several."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from bridge.evaluation.compared import compare_results
from bridge.evaluation.differences import Difference
from bridge.evaluation.results import Result, Samples, measured, read_result, write_result
from bridge.evaluation.statistics import STATISTICS, retrieval_figures
from bridge.metrics.retrieval import PerQuery, summary
from features.errors import UserError

N = 60


def ious(seed: int, *, gain: float = 0.0) -> list[float]:
    return (np.random.default_rng(seed).random(N) * (1 - gain) + gain).tolist()


def result(values: list[float], *, units: list[str] | None = None, **changed) -> Result:
    samples = Samples([f"s{i}" for i in range(len(values))], {"ciou": values}, units)
    made = measured(
        "localisation", {"all": samples}, bridge=None, memories={},
        settings={"threshold": "median"}, counts={"samples": len(values)}, resamples=200, seed=3,
    )  # fmt: skip
    return replace(made, **changed)


def test_a_result_is_read_as_it_was_written(tmp_path):
    made = result(ious(0))
    path = write_result(made, tmp_path / "deep" / "a.json")
    assert read_result(path) == made
    told = json.loads(path.read_text())
    assert told["format"] == "mcr-bridge evaluation"
    assert {"protocol", "bridge", "memories", "settings", "seed", "versions"} < told.keys()
    assert {"mcr-bridge", "python", "torch", "numpy"} == told["versions"].keys()


def test_retrieval_counts_as_its_summary_does():
    generator = torch.Generator().manual_seed(0)
    ranks = torch.randint(1, 15, (41,), generator=generator)
    precisions = torch.rand(41, generator=generator, dtype=torch.float64)
    known = summary(PerQuery(ranks, precisions, torch.ones(41, dtype=torch.bool)))
    once = torch.ones(1, 41, dtype=torch.float64)
    told = retrieval_figures({"rank": ranks.double(), "precision": precisions}, once)
    assert [float(told[f"R@{k}"]) for k in (1, 5, 10)] == pytest.approx(list(known.recall.values()))
    assert float(told["median rank"]) == known.median_rank
    assert float(told["mAP"]) == pytest.approx(known.mean_average_precision)


@pytest.mark.parametrize("protocol", STATISTICS)
def test_what_is_drawn_twice_counts_twice(protocol):
    rng = np.random.default_rng(5)
    columns = {
        "rank": rng.integers(1, 12, 20), "precision": rng.random(20),
        "class": rng.integers(0, 3, 20),
        "ciou": rng.random(20), "sounding": rng.integers(0, 2, 20),
        "confidence": rng.integers(0, 5, 20) / 5,
    }  # fmt: skip
    counts = torch.tensor(rng.integers(0, 3, (3, 20))).double()
    tensors = {name: torch.as_tensor(one, dtype=torch.float64) for name, one in columns.items()}
    told = STATISTICS[protocol](tensors, counts)
    for row, times in enumerate(counts.long()):
        drawn = {name: one.repeat_interleave(times) for name, one in tensors.items()}
        once = torch.ones(1, int(times.sum()), dtype=torch.float64)
        for name, value in STATISTICS[protocol](drawn, once).items():
            assert float(told[name][row]) == pytest.approx(float(value[0]), abs=1e-12), name


def test_intervals_hold_the_figure_and_are_the_percentiles_of_the_draws():
    made = result(ious(2))
    for name, value in made.figures["all"].items():
        low, high = made.intervals["all"][name]
        assert low < value < high
    # By hand: the same draws, one after the other.
    generator = torch.Generator().manual_seed(3)
    drawn = torch.randint(N, (200, N), generator=generator)
    means = torch.tensor(ious(2), dtype=torch.float64)[drawn].mean(dim=1).sort().values
    assert made.intervals["all"]["mean cIoU"] == pytest.approx(
        [float(means[4]), float(means[-5])], abs=1e-12
    )


def test_frames_of_one_video_are_drawn_together():
    alike = [float(i // 6 % 2) for i in range(N)]  # all six frames of a video are the same
    videos = [str(i // 6) for i in range(N)]
    width = [
        (lambda ends: ends[1] - ends[0])(one.intervals["all"]["mean cIoU"])
        for one in (result(alike), result(alike, units=videos))
    ]
    assert width[1] > 1.8 * width[0]  # the square root of six, if draws were many


def test_no_intervals_are_made_unless_they_are_wanted():
    samples = Samples(["a", "b"], {"ciou": [0.1, 0.9]})
    made = measured(
        "localisation", {"all": samples}, bridge=None, memories={}, settings={}, counts={},
        resamples=0,
    )  # fmt: skip
    assert made.intervals == {}
    with pytest.raises(UserError, match="resamples is 10 but a 95 % interval needs at least 39"):
        measured(
            "localisation", {"all": samples}, bridge=None, memories={}, settings={}, counts={},
            resamples=10,
        )  # fmt: skip


def test_the_name_depends_on_what_was_evaluated():
    one = result(ious(0))
    assert one.name == result(ious(9)).name  # figures do not make another evaluation
    assert one.name != replace(one, settings={"threshold": 0.5}).name
    assert one.name.startswith("localisation-")


def test_a_better_system_is_told_from_an_equal_one():
    first = result(ious(0))
    better = result([min(1.0, value + 0.2) for value in ious(0)])
    order = np.random.default_rng(1).permutation(N)
    samples = Samples([f"s{i}" for i in order], {"ciou": [ious(0)[i] for i in order]})
    same = replace(first, samples={"all": samples})  # in another order
    found = compare_results([first, same, better], ["a", "b", "c"], resamples=400)
    equal, gained = (one["all"]["mean cIoU"] for one in found.differences)
    assert equal == Difference(0.0, 0.0, 0.0, 1.0)
    assert 0 < gained.low < gained.value < gained.high < 0.2
    assert gained.p_value == pytest.approx(2 / 401)
    assert found.figures[2]["all"] == better.figures["all"]


def test_settings_that_differ_are_told():
    first = result(ious(0))
    found = compare_results(
        [first, replace(first, settings={"threshold": 0.5})], ["a", "b"], resamples=50
    )
    assert found.differing == {"threshold": ["median", 0.5]}


FILE = {"annotations": {"path": "a", "fingerprint": "1"}}
REFUSED = {
    "one": (lambda r: [r], "takes two results or more but 1 was given"),
    "protocols": (
        lambda r: [r, replace(r, protocol="zero-shot")],
        "a is a result of localisation and b of zero-shot: compare results of one protocol",
    ),
    "annotations": (
        lambda r: [r, replace(r, files=FILE)],
        r"were measured with other annotations \(None and 1\): evaluate both with the same file",
    ),
    "samples": (
        lambda r: [r, result(ious(0)[:-1])],
        "a has 60 samples and b has 59, and s59 is not in both",
    ),
    "parts": (
        lambda r: [r, replace(r, figures={"elsewhere": {}})],
        "a has the parts all, of which others have none",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_results_that_make_no_pairs_are_refused(case):
    make, sentence = REFUSED[case]
    results = make(result(ious(0)))
    with pytest.raises(UserError, match=sentence):
        compare_results(results, ["a", "b"][: len(results)])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is not a result of `mcr eval`"),
        ("[]", r"is not a result of `mcr eval`, .*\(it is no JSON object\)"),
        ("{}", "is JSON but not a result of `mcr eval`"),
        (
            '{"format": "mcr-bridge evaluation", "version": 9}',
            "has format 9, this program reads up",
        ),
        ('{"format": "mcr-bridge evaluation"}', r"is damaged \('version'\)"),
        ('{"format": "mcr-bridge evaluation", "version": "1"}', "is damaged .*evaluate again"),
        ('{"format": "mcr-bridge evaluation", "version": 1}', r"is damaged \('samples'\)"),
    ],
)
def test_files_that_are_no_results_are_refused(content, sentence, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(UserError, match=sentence):
        read_result(path)


def test_a_folder_is_no_result(tmp_path):
    with pytest.raises(UserError, match="is a folder but a result is a file"):
        write_result(result(ious(0)), tmp_path)
