"""Hostile files: refused with 4xx and a sentence; the process lives, and its memory comes back."""

from __future__ import annotations

import json
import time

import httpx
import numpy as np
import pytest

from tests.bridge.serving.bombs import BAD_FILES
from tests.bridge.serving.hostile import SLACK, file, post, refused
from tests.bridge.serving.place import NUMBERS, Place, Running


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_in_a_sentence(http: httpx.Client, name: str) -> None:
    content, filename = BAD_FILES[name]()
    started = time.monotonic()
    refused(post(http, file(content, filename)), 413, 415, 422)
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("kind", ["images", "sounds", "clouds"])
def test_files_cut_anywhere_or_with_wrong_bytes(
    http: httpx.Client, place: Place, kind: str
) -> None:
    path = place.file(kind, NUMBERS[0])
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(12):
        cut = whole[: int(rng.integers(1, len(whole)))]
        wrong = bytearray(whole)
        for place_ in rng.integers(0, len(whole), 20):
            wrong[place_] = int(rng.integers(256))
        for content in (cut, bytes(wrong)):
            response = post(http, file(content, path.name), collections=["clouds"], k=1)
            assert response.status_code in {200, 413, 415, 422}, response.text


def test_memory_comes_back(server: Running, http: httpx.Client) -> None:
    post(http, {"text": "one"})
    before = server.resident()
    for name in ("pixels of a PNG bomb", "an archive bomb", "a sound that is too long"):
        content, filename = BAD_FILES[name]()
        for _ in range(3):
            refused(post(http, file(content, filename)))
    big = {"queries": [{"content": "A" * 40_000_000, "filename": "a.png"}]}
    for _ in range(5):
        refused(http.post("/v1/search", json=big), 413)
    assert server.resident() - before < SLACK


NAMES = ["a.exe", "a", ".png.", "a.tiff", "a.webm", "a.glb", "a.h5", "a.pkl", "\ud800.png", "a\0.x"]


@pytest.mark.parametrize("name", NAMES)
def test_other_kinds_of_files_are_refused(http: httpx.Client, name: str) -> None:
    body = json.dumps({"queries": [file(b"abc", name)]})
    headers = {"content-type": "application/json"}
    refused(http.post("/v1/search", content=body, headers=headers), 415, 422)
