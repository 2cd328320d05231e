"""Requests drawn from the server's OpenAPI description: none fails it, answers are as it says."""

from __future__ import annotations

import importlib

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from tests.bridge.serving.place import Running

schemathesis = pytest.importorskip("schemathesis")
EXAMPLES = 20  # of each address, sent right and sent wrong
OPERATIONS = [
    ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics"), ("GET", "/v1/info"),
    ("POST", "/v1/search"), ("POST", "/v1/embed"), ("GET", "/v1/items/{id}"),
    ("GET", "/v1/media/{collection}/{row}/file"), ("GET", "/v1/media/{collection}/{row}/{kind}"),
]  # fmt: skip


@pytest.fixture(scope="module")
def described(server: Running):
    return schemathesis.openapi.from_url(f"{server.address}/openapi.json")


def test_every_address_is_tried(described) -> None:
    found = [one.ok() for one in described.get_all_operations()]
    assert {(one.method.upper(), one.path) for one in found} == set(OPERATIONS)


@pytest.mark.parametrize("path", ["/v1/search", "/v1/embed"])
def test_the_example_of_an_address_is_answered(http: httpx.Client, path: str) -> None:
    described = http.get("/openapi.json").json()
    body = described["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    name = body["schema"]["$ref"].rpartition("/")[2]
    (example,) = described["components"]["schemas"][name]["examples"]
    assert http.post(path, json=example).status_code == 200


@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_request_fails_the_server(
    described, server: Running, method: str, path: str, mode: str
) -> None:
    conform = importlib.import_module("schemathesis.specs.openapi.checks")
    operation = described[path][method]
    way = schemathesis.GenerationMode[mode]
    if mode == "NEGATIVE" and not (operation.body or operation.path_parameters):
        pytest.skip("nothing can be sent wrong")

    @given(case=operation.as_strategy(generation_mode=way))
    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def ask(case) -> None:
        case.call_and_validate(
            checks=[
                schemathesis.checks.not_a_server_error,
                conform.status_code_conformance,
                conform.content_type_conformance,
                conform.response_schema_conformance,
            ]
        )

    ask()
    assert server.process.poll() is None
