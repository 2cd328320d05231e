"""Clients of Milvus, and its errors as sentences."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from features.errors import UnreachableError, UserError
from features.extras import require_package
from features.files import explained
from features.search.milvus.place import Place

TOKEN = "MILVUS_TOKEN"
_SECONDS = 10.0  # to connect
_QUIET = ("pymilvus", "milvus_lite", "grpc")  # what they log is told as one error
_connecting = threading.Lock()


class _Said(logging.Handler):
    """Keeps what milvus-lite logs in place of raising it."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.errors.append(f"{type(error).__name__}: {error}" if error else record.getMessage())


def connect(place: Place) -> Any:
    """A `pymilvus.MilvusClient`. Raises UserError if it cannot be reached, or opened here."""
    pymilvus = require_package("pymilvus", "an index in Milvus")
    if place.local is not None:
        require_package("milvus_lite", f"the local file {place.local}")
        with explained(place.local):
            place.local.parent.mkdir(parents=True, exist_ok=True)
    with _connecting, _listening() as said:
        try:
            return pymilvus.MilvusClient(
                uri=place.uri,
                token=os.environ.get(TOKEN, ""),
                db_name=place.database,
                timeout=_SECONDS,
            )
        except Exception as error:  # of gRPC, pymilvus, milvus-lite or the system
            raise UserError(_why_not(place, error, said)) from error


@contextmanager
def _listening() -> Iterator[_Said]:
    said = _Said()
    loggers = _hushed()
    for one in loggers:
        one.addHandler(said)
    try:
        yield said
    finally:
        for one in loggers:
            one.removeHandler(said)


@cache
def _hushed() -> list[logging.Logger]:
    """Loggers whose lines are no longer printed: what they say is in the error that is raised."""
    loggers = [logging.getLogger(name) for name in _QUIET]
    for one in loggers:
        one.addHandler(logging.NullHandler())
        one.propagate = False
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it prints by handlers of its own
    return loggers


def _why_not(place: Place, error: Exception, said: _Said) -> str:
    told = " ".join([*said.errors, _chain(error)])
    if place.local is None:
        return _unreachable(place, told)
    if "DataDirLockedError" in told:
        return (
            f"{place.local} is open in another process: end that one, or serve both from a server "
            "of Milvus"
        )
    if "NotADirectoryError" in told or "FileExistsError" in told:
        return f"{place.local} is no database of milvus-lite: name another, or delete it"
    return f"{place.local} cannot be opened by milvus-lite ({_line(told)}): build it again"


def _unreachable(place: Place, told: str) -> str:
    if _is_refused(told):
        return _not_let_in(place)
    return (
        f"no Milvus answers at {place.uri}: check the address, and that it can be reached from "
        "this machine"
    )


def _is_refused(told: str) -> bool:
    return re.search("auth check failure|UNAUTHENTICATED|PERMISSION_DENIED", told) is not None


def _not_let_in(place: Place) -> str:
    given = "the one given is refused" if os.environ.get(TOKEN) else "none is given"
    return (
        f"{place.uri} asks for a token and {given}: set {TOKEN} in the environment, to a token or "
        "to USER:PASSWORD"
    )


@contextmanager
def told(place: Place, what: str) -> Iterator[None]:
    """Turn the errors of Milvus into a UserError. what: what was being done, as `searched`."""
    from pymilvus import MilvusException

    try:
        yield
    except MilvusException as error:
        said = _chain(error)
        if _is_refused(said):
            raise UserError(_not_let_in(place)) from error
        if re.search("UNAVAILABLE|DEADLINE_EXCEEDED|connect", said):
            raise UnreachableError(
                f"{place} cannot be {what}, Milvus does not answer: start it and try again"
            ) from error
        raise UserError(f"{place} cannot be {what}, Milvus says: {_line(str(error))}") from error


def _chain(error: BaseException) -> str:
    """What an error says, and what led to it."""
    found: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is not None and not any(one is other for other in found):  # some lead to themselves
            found.append(one)
            left += [one.__context__, one.__cause__]
    return " ".join(map(str, found))


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
