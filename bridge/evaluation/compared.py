"""Results side by side, with a paired bootstrap of their differences, sample by sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bridge.evaluation.differences import Difference
from bridge.evaluation.results import Result, Samples
from bridge.evaluation.statistics import STATISTICS
from bridge.metrics.bootstrap import (
    MIN_RESAMPLES,
    p_value,
    percentile_interval,
    resampled_samples,
)
from features.errors import UserError
from features.progress import SILENT, Advance, Progress

ByPart = dict[str, dict[str, Difference]]


@dataclass(frozen=True)
class ComparedResults:
    """Figures of several results of one protocol.

    differences: of every result after the first to the first, by part and figure; none where the
    protocol has no samples. differing: settings that are not the same, by name, one value a result.
    """

    protocol: str
    names: tuple[str, ...]
    figures: tuple[dict[str, dict[str, float]], ...]
    differences: tuple[ByPart, ...]
    differing: dict[str, list[object]]
    resamples: int
    seed: int


def compare_results(
    results: Sequence[Result],
    names: Sequence[str],
    *,
    resamples: int = 10_000,
    seed: int = 0,
    progress: Progress = SILENT,
) -> ComparedResults:
    """Lay results of one protocol side by side, and test their differences to the first.

    The test is a paired bootstrap: the same samples, or units of the first result, are drawn for
    all (`bridge.metrics.bootstrap` has the sources). Parts that a result lacks are left out.
    Raises UserError for results of several protocols, annotations or samples.
    """
    _check(results, names, resamples)
    first = results[0]
    parts = [part for part in first.figures if all(part in one.figures for one in results)]
    if not parts:
        raise UserError(
            f"{names[0]} has the parts {', '.join(first.figures)}, of which others have none: "
            "compare results on the same memories"
        )
    found: list[ByPart] = [{} for _ in results[1:]]
    tested = [part for part in parts if part in first.samples]
    with progress.task("resample", resamples * len(tested), unit="resamples") as advance:
        for part in tested:
            aligned = _aligned([one.samples[part] for one in results], names)
            drawn = _drawn(first.protocol, aligned, resamples, seed, advance)
            for place, differences in enumerate(drawn):
                found[place][part] = differences
    return ComparedResults(
        protocol=first.protocol,
        names=tuple(names),
        figures=tuple({part: dict(one.figures[part]) for part in parts} for one in results),
        differences=tuple(found),
        differing=_differing(results),
        resamples=resamples if tested else 0,
        seed=seed,
    )


def _drawn(
    protocol: str, samples: Sequence[Samples], resamples: int, seed: int, advance: Advance
) -> list[dict[str, Difference]]:
    statistic, unit = STATISTICS[protocol], samples[0].numbered_units()
    columns = [one.tensors() for one in samples]

    def gains(counts: Tensor) -> list[dict[str, Tensor]]:
        made = [statistic(one, counts) for one in columns]
        return [{name: other[name] - made[0][name] for name in other} for other in made[1:]]

    observed = gains(torch.ones(1, len(unit), dtype=torch.float64))
    resampled: list[dict[str, list[Tensor]]] = [{name: [] for name in one} for one in observed]
    generator = torch.Generator().manual_seed(seed)
    for counts in resampled_samples(unit, resamples=resamples, generator=generator):
        for kept, gained in zip(resampled, gains(counts), strict=True):
            for name, values in gained.items():
                kept[name].append(values)
        advance(len(counts))
    return [
        {name: _difference(one[name], torch.cat(kept[name])) for name in one}
        for one, kept in zip(observed, resampled, strict=True)
    ]


def _difference(observed: Tensor, resampled: Tensor) -> Difference:
    low, high = percentile_interval(resampled)
    return Difference(float(observed[0]), float(low), float(high), float(p_value(resampled)))


def _aligned(samples: Sequence[Samples], names: Sequence[str]) -> list[Samples]:
    """The samples of all results in the order of the first's."""
    wanted = list(samples[0].ids)
    aligned = []
    for one, name in zip(samples, names, strict=True):
        place = {sample: i for i, sample in enumerate(one.ids)}
        if place.keys() != set(wanted):
            lacking = next(iter(set(wanted) ^ place.keys()))
            raise UserError(
                f"{names[0]} has {len(wanted)} samples and {name} has {len(one.ids)}, and "
                f"{lacking} is not in both, so that they make no pairs: evaluate both on the same "
                "memories"
            )
        order = [place[sample] for sample in wanted]
        columns = {key: [column[i] for i in order] for key, column in one.columns.items()}
        aligned.append(Samples(wanted, columns, samples[0].units))
    return aligned


def _differing(results: Sequence[Result]) -> dict[str, list[object]]:
    keys = dict.fromkeys(key for one in results for key in one.settings)
    told = {key: [one.settings.get(key) for one in results] for key in keys}
    return {key: values for key, values in told.items() if any(v != values[0] for v in values)}


def _check(results: Sequence[Result], names: Sequence[str], resamples: int) -> None:
    if len(results) < 2:
        raise UserError(
            f"a comparison takes two results or more but {len(results)} was given: give another"
        )
    if resamples < MIN_RESAMPLES:
        raise UserError(
            f"resamples is {resamples} but a 95 % interval needs at least {MIN_RESAMPLES}: give "
            "more, such as 10000"
        )
    for one, name in zip(results, names, strict=True):
        if one.protocol != results[0].protocol:
            raise UserError(
                f"{names[0]} is a result of {results[0].protocol} and {name} of {one.protocol}: "
                "compare results of one protocol"
            )
        for what in results[0].files.keys() | one.files.keys():
            mine, its = (r.files.get(what, {}).get("fingerprint") for r in (results[0], one))
            if mine != its:
                raise UserError(
                    f"{names[0]} and {name} were measured with other {what} ({mine} and {its}): "
                    "evaluate both with the same file"
                )
