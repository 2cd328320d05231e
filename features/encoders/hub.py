"""Model hubs: at once without a network, and a sentence on what to do then.

huggingface_hub retries for minutes when there is no network. Inside `hub_access` the hub is
asked once whether it can be reached; if not, everything is looked up in the local cache
alone, where what was downloaded before is found and what was not is missed at once.
HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE mean what they mean everywhere.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from features.errors import UserError

REACH_SECONDS = 5.0
_LOCAL = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def hub_access(what: str, remedy: str) -> Iterator[None]:
    """Let the block fetch `what` from the Hugging Face hub or its local cache.

    what: names the thing in messages. remedy: how to use local files instead.
    Raises UserError if it is neither there nor here.
    """
    from huggingface_hub import constants

    asked_offline = constants.HF_HUB_OFFLINE
    is_there = not asked_offline and reachable(constants.ENDPOINT)
    constants.HF_HUB_OFFLINE = not is_there
    try:
        yield
    except (OSError, RuntimeError, http_error()) as error:
        if not (isinstance(error, OSError) or comes_from_hub(error)):
            raise
        if isinstance(error, OSError) and error.errno in _LOCAL:
            raise UserError(
                f"{what} cannot be stored in {constants.HF_HUB_CACHE} ({error.strerror}): make "
                "room there, or let HF_HOME name another folder"
            ) from error
        if not is_there:
            why = (
                "HF_HUB_OFFLINE is set" if asked_offline else f"{constants.ENDPOINT} is unreachable"
            )
            raise UserError(
                f"{what} is not in the local cache {constants.HF_HUB_CACHE} and cannot be "
                f"downloaded ({why}): {remedy}"
            ) from error
        raise UserError(
            f"{what} cannot be had from {constants.ENDPOINT} ({first_line(error)}): check the "
            f"name, or {remedy}"
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = asked_offline


def comes_from_hub(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, is the hub's or of the way there."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, http_error() | LocalEntryNotFoundError | OfflineModeIsEnabled):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def http_error() -> type[Exception]:
    """The base class of errors of whichever HTTP library huggingface_hub uses."""
    from huggingface_hub.errors import HfHubHTTPError

    base: type[Exception] = HfHubHTTPError.__bases__[0]
    return base


def reachable(endpoint: str) -> bool:
    """Whether the hub answers in time, whatever it says; proxies are honoured."""
    from huggingface_hub import get_session

    answered = threading.Event()

    def ask() -> None:
        with suppress(Exception):  # of any layer: the answer is no
            get_session().head(endpoint, timeout=REACH_SECONDS)
            answered.set()

    # An HTTP library's timeout is for each address of a name, and none for looking the name up.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(REACH_SECONDS)
    return answered.is_set()


def first_line(error: Exception) -> str:
    """What an error says first."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
