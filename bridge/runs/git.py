"""The state of the user's repository, so that a run can be traced to the code beside it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

SECONDS = 5.0  # a repository on a slow disk is not waited for longer


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit, branch, and whether tracked files are changed, of the repository of `folder`.

    The commit is None before the first one, the branch where none is checked out. None outside
    of a repository, without git, or if it does not answer in time: a run never fails for it.
    """
    try:
        told = subprocess.run(
            ["git", "status", "--porcelain=v2", "--branch", "--untracked-files=no"],
            cwd=folder,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # read only, whoever else is at it
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=True,
        ).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    heads = dict(
        line.removeprefix("# branch.").split(" ", 1)
        for line in told
        if line.startswith("# branch.") and " " in line.removeprefix("# branch.")
    )
    commit, branch = heads.get("oid"), heads.get("head")
    return {
        "commit": None if commit == "(initial)" else commit,
        "branch": None if branch == "(detached)" else branch,
        "dirty": any(not line.startswith("#") for line in told),
    }
