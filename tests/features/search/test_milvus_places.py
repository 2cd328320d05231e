"""Addresses of Milvus as people write them, and what cannot be reached behind them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from features import extras
from features.errors import UserError
from features.search.backends import build_index, is_address, open_index
from features.search.milvus.place import Place, collection_for, parse_place
from tests.features.search.milvus_places import make_memory


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("milvus:a.db", Place("a.db")),
        ("milvus:./x/a b.db#items", Place("./x/a b.db", "items")),
        ("milvus:/tmp/a.db#_1", Place("/tmp/a.db", "_1")),
        ("milvus+http://host:19530", Place("http://host:19530")),
        ("milvus+http://host:19530/db#items", Place("http://host:19530", "items", "db")),
        ("milvus+https://x.example.org#items", Place("https://x.example.org", "items")),
        ("milvus+http://[::1]:19530#items", Place("http://[::1]:19530", "items")),
    ],
)
def test_an_address_is_read_and_told_again(text: str, place: Place) -> None:
    assert is_address(text)
    assert parse_place(text) == place
    assert str(place) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("milvus:a.faiss", r"ends in \.db but 'a\.faiss' does not: write milvus:NAME\.db#COLL"),
        ("milvus:", r"ends in \.db but '' does not"),
        ("milvus:.db", r"ends in \.db but '\.db' does not"),
        ("milvus://host:19530", "is no address of Milvus: write"),
        ("milvus+ftp://host", "is no address of Milvus"),
        ("milvus+http://", "is no address of Milvus"),
        ("milvus+http://host:port", "is no address of Milvus"),
        ("milvus:a.db#a-b", "'a-b' cannot be the name of a collection"),
        ("milvus:a.db#1", "'1' cannot be the name of a collection"),
        ("milvus+http://me:secret@host:19530", "set MILVUS_TOKEN=USER:PASSWORD in the environ"),
        ("http://host:19530", r"write milvus\+http://host:19530 for Milvus"),
    ],
)
def test_what_is_no_address_is_refused(text: str, message: str, tmp_path: Path) -> None:
    memory = make_memory(tmp_path / "m.h5", n=50)
    for use in (open_index, partial(build_index, memory)):
        with pytest.raises(UserError, match=message) as refused:
            use(text)
        assert "secret" not in str(refused.value)


def test_files_are_no_addresses() -> None:
    assert not any(map(is_address, ("a.faiss", "x/milvus.faiss", "C:/a.faiss", "./milvus:a.db")))


@pytest.mark.parametrize(
    ("name", "collection"),
    [("items", "items"), ("a-b c", "a_b_c"), ("3d", "_3d"), ("ü", "_"), ("x" * 300, "x" * 255)],
)
def test_a_collection_is_called_as_its_memory(name: str, collection: str) -> None:
    assert collection_for(Path(f"{name}.h5")) == collection


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.db does not exist: check the path, or build it"):
        open_index(f"milvus:{tmp_path / 'none.db'}")
    assert not [*tmp_path.iterdir()]


def test_pymilvus_is_asked_for_where_it_is_missing(monkeypatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(
        UserError, match=r'needs the package pymilvus: pip install "mcr-bridge\[mil'
    ):
        open_index("milvus+http://127.0.0.1:1")


def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    pytest.importorskip("pymilvus")
    memory = make_memory(tmp_path / "m.h5", n=50)
    with pytest.raises(UserError, match=r"no Milvus answers at http://127\.0\.0\.1:1: check the"):
        build_index(memory, "milvus+http://127.0.0.1:1")


@pytest.fixture
def guarded() -> Iterator[str]:
    """The address of a server that lets nobody in, in the words of Milvus."""
    pytest.importorskip("pymilvus")
    import grpc

    class _Closed(grpc.GenericRpcHandler):
        def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(
                lambda _, context: context.abort(
                    grpc.StatusCode.UNAUTHENTICATED,
                    "auth check failure, please check api key is correct",
                )
            )

    server = grpc.server(ThreadPoolExecutor(2), handlers=[_Closed()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"milvus+http://127.0.0.1:{port}#items"
    server.stop(0)


@pytest.mark.parametrize(("token", "told"), [("", "none is given"), ("wrong", "is refused")])
def test_a_wrong_token_is_told_and_not_shown(guarded: str, monkeypatch, token, told) -> None:
    monkeypatch.setenv("MILVUS_TOKEN", token)
    with pytest.raises(
        UserError, match=rf"asks for a token and .*{told}: set MILVUS_TOKEN"
    ) as said:
        open_index(guarded)
    assert "wrong" not in str(said.value)
