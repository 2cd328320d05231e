"""A connection to Ray: this machine alone, or a cluster by its address."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from features.errors import UserError
from features.extras import install_line, require_package

OBJECT_STORE_BYTES = 1 << 30  # of a Ray that is started here; more goes to its files
CONNECT_SECONDS = 10.0
_PREFACE, _SETTINGS, _HEADER = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 4, 9  # of HTTP/2
# Ray tells its makers of its use, and the terminal of its inner life, unless told otherwise.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # every line that it would print on stdout of its workers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # an actor without a GPU must not see one
}


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """The module ray, connected to `address`, or to a Ray that is started here for the block.

    Without an address, that of the environment's RAY_ADDRESS is taken, as Ray does. A connection
    that this process has already is taken, and stays, if no address is given.
    Raises UserError if Ray is not installed, or nothing answers at the address.
    """
    given = address is not None
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    ray = require_package("ray", "--engine ray")
    try:
        _quiet_loggers()
    except ImportError as error:  # Ray without Ray Data
        raise UserError(
            f"--engine ray needs Ray Data, which lacks a package ({error}): {install_line('ray')}"
        ) from error
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address not in (None, "auto", "local"):
        _require_answer(str(address))
    if ray.is_initialized():
        if given:
            raise UserError(
                f"this process is connected to Ray already, so it cannot connect to {address}: "
                "leave the address out, or call ray.shutdown() first"
            )
        yield ray
        return
    try:
        _start(ray, address)
        yield ray
    finally:
        ray.shutdown()


def _start(ray: Any, address: str | None) -> None:
    import logging

    here = address in (None, "local")
    own: dict[str, Any] = {"object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    try:
        with _stderr_closed():
            ray.init(
                "local" if here else address,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                **own if here else {},
            )
    except Exception as error:  # Ray's own have no class in common, some have none at all
        reason = " ".join(str(error).split()).split(". ")[0]
        where, remedy = f"no Ray cluster answers at {address}", "start one with `ray start --head`"
        if here:
            where, remedy = "Ray could not be started here", "try again, or look into /tmp/ray"
        raise UserError(f"{where} ({reason}): {remedy}") from error


def _require_answer(address: str) -> None:
    """Raise UserError unless gRPC answers at `[ray://]HOST:PORT`.

    Ray itself asks for minutes, in which nothing stops it, also where another program listens.
    """
    form = "write HOST:PORT, ray://HOST:PORT or auto"
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        place = (parts.hostname, parts.port)
    except ValueError:
        place = (None, None)
    if parts.scheme not in ("", "ray") or None in place:
        raise UserError(f"--ray-address {address} is not an address: {form}")
    try:
        with socket.create_connection(place, timeout=CONNECT_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS") != "1":
                _require_grpc(connection)
    except OSError as error:
        raise UserError(
            f"no Ray cluster answers at {address} ({error.strerror or error}): start one with `ray "
            f"start --head`, or {form}"
        ) from error


def _require_grpc(connection: socket.socket) -> None:
    """Raise OSError unless the other side begins as every server of HTTP/2 does (RFC 9113, 3.4)."""
    connection.sendall(_PREFACE + _frame(_SETTINGS))
    header = b""
    while len(header) < _HEADER:
        more = connection.recv(_HEADER - len(header))
        if not more:
            break
        header += more
    if header[3:4] != bytes([_SETTINGS]):
        raise OSError("what answers there is not Ray")


def _frame(kind: int) -> bytes:
    """An empty frame of HTTP/2: its length, kind, flags and stream."""
    return bytes([0, 0, 0, kind, 0, 0, 0, 0, 0])


def _quiet_loggers() -> None:
    """Ray Data tells of every run; what goes wrong comes as an exception."""
    import logging

    import_module("ray.data")  # sets its loggers up
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def _stderr_closed() -> Iterator[None]:
    """Ray's C++ part tells on stderr that it was told to be quiet."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
