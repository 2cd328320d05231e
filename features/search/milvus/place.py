"""Where a collection of Milvus is, as it is written on the command line.

    milvus:FOLDER/NAME.db#COLLECTION                  a local file, through milvus-lite
    milvus+http://HOST:PORT/DATABASE#COLLECTION       a server or cluster, also milvus+https

The collection may be left out: it is then called as the memory it is built from, and opened if it
is the only one. The database may be left out. What lets somebody in is no part of an address: it is
read from the environment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from features.errors import UserError

SCHEME = "milvus"
LOCAL_SUFFIX = ".db"
_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
ADDRESSES = "milvus:NAME.db#COLLECTION or milvus+http://HOST:PORT#COLLECTION"


@dataclass(frozen=True)
class Place:
    """uri: as pymilvus takes it. database: empty for its default one."""

    uri: str
    collection: str | None = None
    database: str = ""

    @property
    def local(self) -> Path | None:
        """The local file, or None if it is a server."""
        return None if "://" in self.uri else Path(self.uri)

    def __str__(self) -> str:
        """As it is written."""
        database = f"/{self.database}" if self.database else ""
        collection = f"#{self.collection}" if self.collection else ""
        separator = ":" if self.local else "+"
        return f"{SCHEME}{separator}{self.uri}{database}{collection}"

    def named(self, collection: str) -> Place:
        """Another collection there."""
        return replace(self, collection=collection)


def parse_place(text: str) -> Place:
    """An address as it is written. Raises UserError for one that is none."""
    where, _, collection = text.removeprefix(SCHEME).partition("#")
    if collection and not _COLLECTION.fullmatch(collection):
        raise UserError(
            f"'{collection}' cannot be the name of a collection of Milvus: use letters, digits and "
            "_, and a letter first"
        )
    if where.startswith(":"):
        return Place(_local(where[1:], text), collection or None)
    return _server(where.removeprefix("+"), text, collection or None)


def collection_for(memory: Path) -> str:
    """The collection of a memory that is built without a name: as its file, in Milvus' letters."""
    name = re.sub(r"\W", "_", memory.stem, flags=re.ASCII)[:255]
    return name if _COLLECTION.fullmatch(name) else f"_{name}"[:255]


def _local(path: str, text: str) -> str:
    if "://" in path or path.startswith("//"):
        raise UserError(f"{text} is no address of Milvus: write {ADDRESSES}")
    if Path(path).suffix != LOCAL_SUFFIX or Path(path).name == LOCAL_SUFFIX:
        raise UserError(
            f"a local file of Milvus ends in {LOCAL_SUFFIX} but '{path}' does not: write "
            f"{ADDRESSES}"
        )
    return path


def _server(address: str, text: str, collection: str | None) -> Place:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or parts.scheme not in ("http", "https") or parts.query:
        raise UserError(f"{_without_secrets(text)} is no address of Milvus: write {ADDRESSES}")
    if parts.username is not None or parts.password is not None:
        raise UserError(
            f"{_without_secrets(text)} holds a name or password, which others could read: leave it "
            "out and set MILVUS_TOKEN=USER:PASSWORD in the environment"
        )
    shown = f"[{host}]" if ":" in host else host
    uri = f"{parts.scheme}://{shown}" + (f":{port}" if port is not None else "")
    return Place(uri, collection, parts.path.strip("/"))


def _without_secrets(text: str) -> str:
    return re.sub(r"//[^/@]*@", "//...@", text)
