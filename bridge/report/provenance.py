"""The part of a report that says where everything came from, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bridge.report.contents import Contents, Named
from bridge.report.markup import Markup, code, section, table, tag
from bridge.runs.record import RunRecord

_Row = list[object]


def provenance(contents: Contents) -> Markup:
    """Fingerprints, versions, and how the training was started, as far as they are recorded."""
    made = contents.bridge
    rows: list[_Row] = [["fingerprint of the bridge", code(made.fingerprint)]]
    rows += [
        [f"{m.role} memory, {m.modality} of {m.space}", code(m.fingerprint)] for m in made.memories
    ]
    rows.append(["the bridge was made with", _versions(made.versions)])
    for space in made.spaces.values():
        rows += _encoder(space.name, space.encoder)
    for one in contents.results:
        rows += _result(one)
    rows += _run(contents.record)
    notes = [tag("p", note, class_="note") for note in contents.notes]
    return section("Provenance", table(["what", "value"], rows), *notes)


def _encoder(space: str, encoder: Mapping[str, Any]) -> Iterator[_Row]:
    if not encoder:
        yield [f"encoder of {space}", "not recorded"]
        return
    precision = encoder.get("precision")
    told = [encoder.get("spec") or encoder.get("name") or "not named", precision]
    yield [f"encoder of {space}", ", ".join(str(one) for one in told if one is not None)]
    if encoder.get("weights") is not None:
        yield [f"weights of {space}", code(encoder["weights"])]
    if isinstance(encoder.get("versions"), Mapping):
        yield [f"embeddings of {space} were made with", _versions(encoder["versions"])]


def _result(one: Named) -> Iterator[_Row]:
    for part, memory in one.result.memories.items():
        yield [f"{part} memory of {one.source}", code(memory["fingerprint"])]
    yield [f"{one.source} was made with", _versions(one.result.versions)]


def _run(record: RunRecord | None) -> Iterator[_Row]:
    if record is None:
        yield ["run", "machine, command and state of git were not recorded"]
        return
    yield ["hash of settings, memories and device", code(record.plan)]
    for place, start in enumerate(record.starts):
        yield ["continued" if place else "started", f"{start.when}, on {start.device}"]
        if start.command is not None:
            yield ["command", code(start.command)]
        yield ["repository it was started in", _repository(start.git)]
    yield ["finished", record.finished or "not yet"]


def _repository(git: Mapping[str, Any] | None) -> str:
    if not isinstance(git, Mapping):
        return "none, or not known"
    branch, commit = git.get("branch"), git.get("commit")
    told = "before the first commit" if commit is None else f"commit {commit}"
    changed = ", with changes that were not committed" if git.get("dirty") else ""
    return f"{told}{'' if branch is None else f' of {branch}'}{changed}"


def _versions(versions: Mapping[str, Any]) -> str:
    """`mcr-bridge 0.1.0, torch 2.9 on cpu`."""
    packages = [f"{name} {one}" for name, one in versions.items() if name != "device"]
    on = f" on {versions['device']}" if "device" in versions else ""
    return f"{', '.join(packages) or 'versions that are not recorded'}{on}"
