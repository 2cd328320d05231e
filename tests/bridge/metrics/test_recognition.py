from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.metrics.recognition import recognition


def naive(samples: list[tuple[bool, bool, float]]) -> tuple[float, float, float]:
    """AP, max-F1 and LocAcc by the definitions, one threshold after the other."""
    curve = []
    for threshold in sorted({confidence for _, _, confidence in samples}, reverse=True):
        tp = sum(s and found and c >= threshold for s, found, c in samples)
        fp = sum(c >= threshold and not (s and found) for s, found, c in samples)
        fn = sum(s and c < threshold for s, found, c in samples)
        curve.append((tp / (tp + fp), tp / (tp + fn) if tp + fn else 0.0))
    ap, before = 0.0, 0.0
    for i, (_, recall) in enumerate(curve):
        ap += (recall - before) * max(precision for precision, _ in curve[i:])
        before = recall
    f1 = max(2 * p * r / (p + r) if p + r else 0.0 for p, r in curve)
    sounding = [found for s, found, _ in samples if s]
    return ap, f1, sum(sounding) / len(sounding) if sounding else 0.0


def figures(samples: list[tuple[bool, bool, float]], counts: torch.Tensor | None = None):
    sounding, localised, confidence = (
        torch.tensor(column) for column in zip(*samples, strict=True)
    )
    found = recognition(sounding, localised, confidence.double(), counts)
    return found.average_precision, found.max_f1, found.localisation


T, F = True, False
CASES = [
    # perfect: what sounds is found, and more confident than what does not
    ([(T, T, 0.9), (T, T, 0.8), (F, F, 0.1)], 1, 1, 1),
    # found, but the silent sample is the most confident
    ([(F, F, 0.9), (T, T, 0.8)], 1 / 2, 2 / 3, 1),
    # never found
    ([(T, F, 0.9), (F, F, 0.1)], 0, 0, 0),
    # one confidence for all: one threshold
    ([(T, T, 0.5), (F, F, 0.5), (F, F, 0.5)], 1 / 3, 1 / 2, 1),
    # sounding and below: at 0.9 precision 1 and recall 1/2, at 0.2 both 1
    ([(T, T, 0.9), (T, T, 0.2)], 1, 1, 1),
    # a place that is missed is a false positive, not a false negative: recall ends at 1
    ([(T, T, 0.9), (T, F, 0.8)], 1 / 2 + 1 / 2 * 1 / 2, 2 / 3, 1 / 2),
]


@pytest.mark.parametrize(("samples", "ap", "f1", "found"), CASES)
def test_figures_worked_by_hand(samples, ap, f1, found):
    told = [float(value[0]) for value in figures(samples)]
    assert told == pytest.approx([ap, f1, found], abs=1e-15)
    assert told == pytest.approx(naive(samples), abs=1e-15)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.booleans(), st.sampled_from([0.1, 0.2, 0.5, 0.7, 0.9])),
        min_size=1,
        max_size=12,
    ),
    st.integers(0, 1000),
)
def test_any_samples_are_as_defined_however_often_they_are_drawn(samples, seed):
    assert [float(one[0]) for one in figures(samples)] == pytest.approx(naive(samples), abs=1e-12)
    counts = torch.randint(0, 3, (4, len(samples)), generator=torch.Generator().manual_seed(seed))
    told = torch.stack(figures(samples, counts.double()))
    assert bool(told.isfinite().all())
    for row, times in enumerate(counts.tolist()):
        drawn = [one for one, n in zip(samples, times, strict=True) for _ in range(n)]
        expected = naive(drawn) if drawn else (0.0, 0.0, 0.0)
        assert told[:, row].tolist() == pytest.approx(expected, abs=1e-12)


def test_silence_alone_is_nothing_and_not_nan():
    assert [float(one[0]) for one in figures([(F, F, 0.9), (F, F, 0.1)])] == [0, 0, 0]
