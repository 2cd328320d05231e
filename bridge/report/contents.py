"""What a report is about, read from a bridge's folder and the memories that are named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.artefact import Bridge, load
from bridge.evaluation.results import Result, read_result
from bridge.evaluation.retrieval_result import retrieval_result
from bridge.pictures.answers import Answers, Searches
from bridge.pictures.training import Curves, read_curves
from bridge.runs.layout import ABOUT_FILE, EVALUATION, METRICS_FILE, RESULTS_FOLDER, RUN_FILE
from bridge.runs.record import RunRecord, read_run
from features.errors import UserError
from features.memories.memory import Memory
from features.parsing import parse_json
from features.progress import SILENT, Progress
from features.sealed import unsealed

RESULT_FOLDERS = (".", RESULTS_FOLDER, "evaluations")  # of a bridge's folder
COMPUTED = "computed for this report"


@dataclass(frozen=True)
class Named:
    """A result, and where it is from."""

    source: str
    result: Result


@dataclass(frozen=True)
class Contents:
    """Everything that a report shows.

    results: of this bridge. memories: query and gallery, or none. record: how the training was
    started, if that was recorded. notes: what was left out.
    """

    folder: Path
    bridge: Bridge
    curves: Sequence[Curves]
    results: Sequence[Named]
    memories: tuple[Memory, Memory] | None = None
    recall: Named | None = None
    best: Answers | None = None
    worst: Answers | None = None
    record: RunRecord | None = None
    notes: Sequence[str] = ()
    items: int = 2000
    seed: int = 0


def gather(
    folder: Path,
    *,
    results: Sequence[Path] = (),
    query: Memory | None = None,
    gallery: Memory | None = None,
    rows: int = 10,
    k: int = 5,
    items: int = 2000,
    seed: int = 0,
    trust_encoder: bool = False,
    device: str = "auto",
    progress: Progress = SILENT,
) -> Contents:
    """Read a bridge's folder, and search the gallery with the queries if they are given.

    results: files besides those that lie in the folder. rows, k: best and worst queries, and
    hits of each. items: see `mcr plot`. Raises UserError for a folder that is no bridge, a result
    of another bridge, or memories that the bridge does not know.
    """
    bridge = load(folder, device=device)
    found, notes = _results(folder, bridge, results)
    curves = read_curves(folder) if (folder / METRICS_FILE).is_file() else []
    contents = Contents(
        folder, bridge, curves, found, record=read_run(folder), notes=notes, items=items, seed=seed
    )
    if query is None and gallery is None:
        return contents
    if query is None or gallery is None:
        raise UserError("the best and worst queries need both: give --query and --gallery")
    recall = _of_memories(found, query, gallery)
    if recall is None:
        computed = retrieval_result(
            query, gallery, bridge=bridge, seed=seed, trust_encoder=trust_encoder,
            progress=progress,
        )  # fmt: skip
        recall = Named(COMPUTED, computed)
        found = [*found, recall]
    searches = Searches(
        query, gallery, bridge=bridge, items=items, seed=seed, trust_encoder=trust_encoder
    )
    return Contents(
        folder,
        bridge,
        curves,
        found,
        memories=(query, gallery),
        recall=recall,
        best=searches.chosen("best", rows, k),
        worst=searches.chosen("worst", rows, k),
        record=contents.record,
        notes=notes,
        items=items,
        seed=seed,
    )


def _results(folder: Path, bridge: Bridge, named: Sequence[Path]) -> tuple[list[Named], list[str]]:
    found, stale = [], []
    mine = {path.resolve() for path in named}
    for path in named:
        result = read_result(path)
        if not _is_of(result, bridge):
            other = (result.bridge or {}).get("name", "no bridge")
            raise UserError(
                f"{path} is a result of {other}, not of {bridge.name} as it is now: evaluate "
                "this bridge, or leave the result out"
            )
        found.append(Named(str(path), result))
    for part in RESULT_FOLDERS:
        for path in sorted((folder / part).glob("*.json")):
            if path.name in (ABOUT_FILE, RUN_FILE) or path.resolve() in mine:
                continue
            if not _is_result(path):
                continue
            result = read_result(path)
            name = path.relative_to(folder).as_posix()
            if _is_of(result, bridge):
                found.append(Named(name, result))
            else:
                stale.append(name)
    notes = [f"left out, of another bridge: {', '.join(stale)}"] if stale else []
    return found, notes


def _is_result(path: Path) -> bool:
    try:
        told = parse_json(path.read_text(encoding="utf-8"))
        return isinstance(told, dict) and unsealed(told).get("format") == EVALUATION
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is damaged, or no result of `mcr eval` ({error}): evaluate again, or move it "
            "away"
        ) from error


def _is_of(result: Result, bridge: Bridge) -> bool:
    return result.bridge is not None and result.bridge.get("fingerprint") == bridge.fingerprint


def _of_memories(results: Sequence[Named], query: Memory, gallery: Memory) -> Named | None:
    """A retrieval result of these two memories."""
    wanted = {"query": query.fingerprint, "gallery": gallery.fingerprint}
    for one in results:
        if one.result.protocol == "retrieval" and one.result.samples:
            known = {name: told["fingerprint"] for name, told in one.result.memories.items()}
            if known == wanted and not one.result.files:
                return one
    return None
