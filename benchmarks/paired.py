"""Figures over seeds, and their differences, seed by seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import t  # type: ignore[import-untyped]


def cell(figures: Sequence[float]) -> str:
    """Mean and standard deviation over seeds."""
    if len(figures) == 1:
        return f"{figures[0]:.3f}"
    return f"{np.mean(figures):.3f} ± {np.std(figures, ddof=1):.3f}"


def difference(of: Sequence[float], to: Sequence[float]) -> str:
    """Mean difference and its 95 % interval by Student's t, of figures of the same seeds."""
    each = np.subtract(of, to)
    if len(each) == 1:
        return f"{each[0]:+.3f}"
    half = t.ppf(0.975, len(each) - 1) * each.std(ddof=1) / len(each) ** 0.5
    return f"{each.mean():+.3f} [{each.mean() - half:+.3f}, {each.mean() + half:+.3f}]"
