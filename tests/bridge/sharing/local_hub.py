"""A hub on this machine: what huggingface_hub asks of the real one, kept in a dictionary.

Repositories, branches, commits, small files within commits and large ones through LFS; a token
that may write, and one that may only read.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlparse

WRITER, READER = "hf_writer", "hf_reader"
Tree = dict[str, bytes]


@dataclass
class Repo:
    private: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Tree] = field(default_factory=dict)
    titles: list[str] = field(default_factory=list)

    def commit(self, branch: str, tree: Tree, title: str) -> str:
        sha = hashlib.sha1(repr((sorted(tree.items()), title, len(self.commits))).encode())
        self.commits[sha.hexdigest()] = tree
        self.branches[branch] = sha.hexdigest()
        self.titles.append(title)
        return sha.hexdigest()

    def sha_of(self, revision: str) -> str | None:
        return self.branches.get(revision, revision if revision in self.commits else None)


@dataclass
class LocalHub:
    endpoint: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    fails_at: str | None = None  # a path that answers 500

    def tree(self, repo: str, revision: str = "main") -> Tree:
        found = self.repos[repo]
        return found.commits[found.branches[revision]]


class RefusedError(Exception):
    def __init__(self, status: int, code: str = "") -> None:
        super().__init__(status)
        self.status, self.code = status, code


NAME = r"(?P<repo>[\w.-]+/[\w.-]+)"


class Handler(BaseHTTPRequestHandler):
    """Routes of one request; `hub` is set by `local_hub`."""

    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.body = b""
            while size := int(self.rfile.readline(), 16):
                self.body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        path = unquote(urlparse(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        try:
            if self.hub.fails_at and self.hub.fails_at in path:
                raise RefusedError(418)
            for method, pattern, action in ROUTES:
                found = re.fullmatch(pattern, path)
                if method == self.command and found:
                    action(self, **found.groupdict())
                    return
            raise RefusedError(404)
        except RefusedError as refused:
            headers = {"X-Error-Code": refused.code} if refused.code else {}
            self.answer({"error": "refused"}, refused.status, headers)

    do_GET = do_POST = do_PUT = do_HEAD = _serve  # noqa: N815

    def answer(self, told: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = told if isinstance(told, bytes) else json.dumps(told).encode()
        self.send_response(status)
        given = {"Content-Type": "application/json", **(headers or {})}
        for name, value in {"Content-Length": str(len(content)), **given}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    @property
    def token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def may_write(self) -> None:
        if self.token != WRITER:
            raise RefusedError(403 if self.token == READER else 401)

    def found(self, repo: str, revision: str | None = None) -> tuple[Repo, str]:
        one = self.hub.repos.get(repo)
        if one is None or (one.private and self.token not in (WRITER, READER)):
            raise RefusedError(404 if self.token else 401, "RepoNotFound")
        sha = one.sha_of(revision or "main")
        if sha is None:
            raise RefusedError(404, "RevisionNotFound")
        return one, sha


def home(self: Handler) -> None:
    self.answer({})


def create(self: Handler) -> None:
    self.may_write()
    told = json.loads(self.body)
    repo = f"{told['organization']}/{told['name']}"
    url = f"{self.hub.endpoint}/{repo}"
    if repo in self.hub.repos:
        self.answer({"url": url, "error": "exists"}, 409)
        return
    private = told.get("visibility") == "private" or told.get("private") is True
    self.hub.repos[repo] = Repo(private)
    self.hub.repos[repo].commit("main", {".gitattributes": b""}, "initial commit")
    self.answer({"url": url, "name": repo})


def branch(self: Handler, repo: str, revision: str) -> None:
    self.may_write()
    one, sha = self.found(repo)
    if revision in one.branches:
        raise RefusedError(409)
    one.branches[revision] = sha
    self.answer({})


def info(self: Handler, repo: str, revision: str | None = None) -> None:
    one, sha = self.found(repo, revision)
    siblings = [{"rfilename": name} for name in one.commits[sha]]
    self.answer({"id": repo, "sha": sha, "siblings": siblings, "tags": [], "private": one.private})


def tree(self: Handler, repo: str, revision: str) -> None:
    one, sha = self.found(repo, revision)
    self.answer(
        [
            {"type": "file", "path": name, "size": len(blob), "oid": hashlib.sha1(blob).hexdigest()}
            for name, blob in one.commits[sha].items()
        ]
    )


def validate(self: Handler) -> None:
    self.answer({"errors": [], "warnings": []})


def preupload(self: Handler, repo: str, revision: str) -> None:
    self.may_write()
    self.found(repo, revision)
    files = json.loads(self.body)["files"]
    self.answer(
        {
            "files": [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for one in files
            ]
        }
    )


def batch(self: Handler, repo: str) -> None:
    self.may_write()
    self.found(repo)
    told = json.loads(self.body)
    objects = []
    for one in told["objects"]:
        href = f"{self.hub.endpoint}/blobs/{one['oid']}"
        actions = {} if one["oid"] in self.hub.blobs else {"actions": {"upload": {"href": href}}}
        objects.append({"oid": one["oid"], "size": one["size"], **actions})
    self.answer({"transfer": "basic", "objects": objects})


def blob(self: Handler, oid: str) -> None:
    assert hashlib.sha256(self.body).hexdigest() == oid
    self.hub.blobs[oid] = self.body
    self.answer({})


def commit(self: Handler, repo: str, revision: str) -> None:
    self.may_write()
    one, sha = self.found(repo, revision)
    files, title = dict(one.commits[sha]), ""
    for line in self.body.splitlines():
        told = json.loads(line)
        value = told["value"]
        if told["key"] == "header":
            title = value["summary"]
        elif told["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif told["key"] == "lfsFile":
            files[value["path"]] = self.hub.blobs[value["oid"]]
        elif told["key"] == "deletedFile":
            del files[value["path"]]
    made = one.commit(revision, files, title)
    self.answer({"success": True, "commitOid": made, "commitUrl": f"{self.hub.endpoint}/{repo}"})


def resolve(self: Handler, repo: str, revision: str, name: str) -> None:
    one, sha = self.found(repo, revision)
    if name not in one.commits[sha]:
        raise RefusedError(404, "EntryNotFound")
    content = one.commits[sha][name]
    etag = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": sha}
    self.answer(content, headers={**etag, "Content-Type": "application/octet-stream"})


API = rf"/api/models/{NAME}"
REVISION = r"(?P<revision>[^/]+)"
ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("HEAD", "/", home),
    ("POST", "/api/repos/create", create),
    ("POST", "/api/validate-yaml", validate),
    ("POST", rf"{API}/branch/{REVISION}", branch),
    ("GET", API, info),
    ("GET", rf"{API}/revision/{REVISION}", info),
    ("GET", rf"{API}/tree/{REVISION}", tree),
    ("POST", rf"{API}/preupload/{REVISION}", preupload),
    ("POST", rf"/{NAME}\.git/info/lfs/objects/batch", batch),
    ("PUT", r"/blobs/(?P<oid>\w+)", blob),
    ("POST", rf"{API}/commit/{REVISION}", commit),
    ("HEAD", rf"/{NAME}/resolve/{REVISION}/(?P<name>.+)", resolve),
    ("GET", rf"/{NAME}/resolve/{REVISION}/(?P<name>.+)", resolve),
]


@contextmanager
def local_hub() -> Iterator[LocalHub]:
    """A hub that answers until the block ends."""
    hub = LocalHub()
    handler = type("HubHandler", (Handler,), {"hub": hub})
    running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    running.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{running.server_port}"
    threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield hub
    finally:
        running.shutdown()
        running.server_close()
