"""`push` and `pull`: a bridge to a place and back, complete and checked, or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bridge.sharing.files import Share, check_bridge, copy_files, placed, share_of
from bridge.sharing.place import Place
from features.errors import UserError


@dataclass(frozen=True)
class Transfer:
    """What was done. place: where the bridge is now, a folder or an address. bytes: copied."""

    place: str
    share: Share
    bytes: int
    revision: str | None = None


def push(
    folder: Path,
    target: Place,
    *,
    revision: str | None = None,
    private: bool = False,
    message: str | None = None,
    overwrite: bool = False,
) -> Transfer:
    """Copy the bridge in `folder` to `target`.

    revision: a branch of the repository, made if it is not there. private: of a new repository.
    message: of the commit. overwrite: replace a bridge in a plain folder; the Hub keeps earlier
    ones.
    Raises UserError if it is not a bridge, or may not go there.
    """
    fingerprint = check_bridge(folder, str(folder))
    share = share_of(folder)
    if target.repo is not None:
        from bridge.sharing.hub import push_to_hub

        told = message or f"Bridge {fingerprint[:8]}"
        address, commit = push_to_hub(
            folder, share.names, target.repo, revision=revision, private=private, message=told
        )
        size = sum((folder / name).stat().st_size for name in share.names)
        return Transfer(address, share, size, commit)
    _only_hub(revision=revision, private=private, message=message)
    assert target.folder is not None
    _refuse_nested(folder, target.folder)
    with placed(target.folder, overwrite=overwrite, what=str(folder)) as coming:
        size = copy_files(folder, share.names, coming)
    return Transfer(str(target.folder), share, size)


def pull(
    source: Place,
    out: Path | None = None,
    *,
    revision: str | None = None,
    overwrite: bool = False,
) -> Transfer:
    """Copy the bridge at `source` into the folder `out`, called as the source is unless told.

    revision: a branch, tag or commit of the repository. overwrite: replace a bridge in `out`.
    Raises UserError if it cannot be had, or what came is not a bridge; then `out` is as it was.
    """
    if source.repo is not None:
        from bridge.sharing.files import refuse_occupied
        from bridge.sharing.hub import download

        out = out or Path(source.repo.partition("/")[2])
        refuse_occupied(out, overwrite=overwrite)  # before anything is downloaded
        found, share, commit = download(source.repo, revision=revision)
        with placed(out, overwrite=overwrite, what=str(source)) as coming:
            usable = share_of(found, links=True).names
            names = tuple(name for name in share.names if name in usable)
            foreign = [name for name in share.names if name not in usable]
            share = Share(names, (*share.left_out, *foreign))
            size = copy_files(found, names, coming)
        return Transfer(str(out), share, size, commit)
    assert source.folder is not None
    _only_hub(revision=revision)
    if not source.folder.is_dir():
        raise UserError(
            f"{source} is no folder: check the path, or name a repository hf:OWNER/NAME"
        )
    out = out or Path(source.folder.resolve().name)
    _refuse_nested(source.folder, out)
    share = share_of(source.folder)
    with placed(out, overwrite=overwrite, what=str(source)) as coming:
        size = copy_files(source.folder, share.names, coming)
    return Transfer(str(out), share, size)


def _only_hub(**options: object) -> None:
    for name, value in options.items():
        if value:
            raise UserError(
                f"--{name} is of repositories on the Hub but this is a plain folder: leave it out"
            )


def _refuse_nested(one: Path, other: Path) -> None:
    if one.resolve() == other.resolve():
        raise UserError(f"{one} and {other} are the same folder: choose another")
    for inner, outer in ((one, other), (other, one)):
        if inner.resolve().is_relative_to(outer.resolve()):
            raise UserError(f"{inner} lies in {outer}, the other of the two: choose another folder")
