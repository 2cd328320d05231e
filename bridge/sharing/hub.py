"""The Hugging Face Hub, through huggingface_hub: HF_TOKEN or `hf auth login`, HF_ENDPOINT, HF_HOME.

A push is a single commit, so that nobody ever pulls half of a bridge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bridge.runs.layout import ABOUT_FILE, RESULTS_FOLDER
from bridge.sharing.files import Share, shared
from bridge.sharing.place import HUB
from features.encoders.hub import comes_from_hub, first_line, reachable
from features.errors import UserError
from features.extras import require_package


def push_to_hub(
    folder: Path,
    names: Sequence[str],
    repo: str,
    *,
    revision: str | None,
    private: bool,
    message: str,
) -> tuple[str, str]:
    """Commit the files to a repository, made if it is not there. Returns its address and commit.

    Weights and results of an earlier bridge, which would belong to nothing, are removed.
    """
    hub = require_package("huggingface_hub", f"pushing to {HUB}{repo}")
    with _explained(repo, "write"):
        _require_hub(repo)
        api = hub.HfApi()
        made = api.create_repo(repo, private=private or None, exist_ok=True)
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        there = shared(api.list_repo_files(repo, revision=revision)).names
        stale = [
            name
            for name in there
            if name not in names and name.startswith(("bridge.", "matcher.", f"{RESULTS_FOLDER}/"))
        ]
        done = api.create_commit(
            repo,
            [
                *(hub.CommitOperationAdd(name, folder / name) for name in names),
                *(hub.CommitOperationDelete(name) for name in stale),
            ],
            commit_message=message,
            revision=revision,
        )
    at = f"/tree/{revision}" if revision else ""
    return f"{made}{at}", str(done.oid)


def download(repo: str, *, revision: str | None) -> tuple[Path, Share, str]:
    """The shared files of a repository in the local cache, what it has, and the commit.

    Without a way to the Hub, what was downloaded before. Raises UserError if that is nothing.
    """
    hub = require_package("huggingface_hub", f"pulling {HUB}{repo}")
    constants = hub.constants
    if constants.HF_HUB_OFFLINE or not reachable(constants.ENDPOINT):
        kept = hub.try_to_load_from_cache(repo, ABOUT_FILE, revision=revision)
        if not isinstance(kept, str):
            raise UserError(
                f"{HUB}{repo} is not in the local cache {constants.HF_HUB_CACHE} and cannot be "
                f"downloaded ({_why_not()}): try again with a network, or pull from a plain folder"
            )
        path = Path(kept).parent
        names = [one.relative_to(path).as_posix() for one in path.rglob("*") if one.is_file()]
        return path, shared(names), path.name
    with _explained(repo, "read"):
        api = hub.HfApi()
        share = shared(api.list_repo_files(repo, revision=revision))
        if not share.names:
            raise UserError(f"{HUB}{repo} has no files of a bridge: check the name")
        # By its name and not its commit, which the cache would not find without the Hub.
        wanted = list(share.names)
        path = Path(api.snapshot_download(repo, revision=revision, allow_patterns=wanted))
    return path, share, path.name


def _require_hub(repo: str) -> None:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or not reachable(constants.ENDPOINT):
        raise UserError(
            f"{HUB}{repo} cannot be pushed to ({_why_not()}): try again with a network, or push to "
            "a plain folder"
        )


def _why_not() -> str:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    return f"{constants.ENDPOINT} is unreachable"


@contextmanager
def _explained(repo: str, access: str) -> Iterator[None]:
    """Turn the Hub's refusals, and a broken connection, into a sentence each."""
    from huggingface_hub import constants
    from huggingface_hub.errors import RevisionNotFoundError

    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not (comes_from_hub(error) or isinstance(error, ConnectionError | TimeoutError)):
            raise
        status = _status(error)
        login = f"`hf auth login`, or set HF_TOKEN, with {access} access to {repo.split('/')[0]}"
        if isinstance(error, RevisionNotFoundError):
            told, remedy = "it has no such revision", "check --revision"
        elif status in (401, 403):
            told, remedy = f"not authorised, {status}", login
        elif status == 404:
            told, remedy = "it does not exist, or is private", f"check the name, or {login}"
        else:
            told, remedy = first_line(error), "run the same command again"
        doing = "pushed to" if access == "write" else "pulled from"
        raise UserError(
            f"{HUB}{repo} cannot be {doing} {constants.ENDPOINT} ({told}): {remedy}"
        ) from error


def _status(error: BaseException | None) -> int | None:
    """The HTTP status of an error, or of one that it was raised from."""
    while error is not None:
        response: Any = getattr(error, "response", None)
        if response is not None:
            return int(response.status_code)
        error = error.__cause__ or error.__context__
    return None
