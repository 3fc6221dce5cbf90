"""Requests made up from the service's own description, valid and not: none breaks it, and its answers keep to it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from tests.serve.conftest import PATIENCE, Served

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

from schemathesis import GenerationMode  # noqa: E402
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance,
]  # fmt: skip


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_request_breaks_the_service(served: Served, upload: bytes, mode: Any) -> None:
    known = served.ask(upload, top=3).json()["id"]
    operations = [
        found.ok() for found in schemathesis.openapi.from_url(f"{served.url}/openapi.json").get_all_operations()
    ]
    assert len(operations) == 18
    for operation in operations:  # the options of a job are those of a question: fewer examples do

        @given(case=operation.as_strategy(generation_mode=mode), of_known=st.booleans())
        @settings(
            max_examples=6 if "/jobs" in operation.path else 25,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def check(case: Any, of_known: bool) -> None:
            if of_known and "identity" in (case.path_parameters or {}):
                case.path_parameters["identity"] = known
            if isinstance(case.body, dict) and case.body.get("draws") in range(5, 65):
                case.body["draws"] = 4  # more take as long as they are many
            case.validate_response(case.call(timeout=PATIENCE), checks=CHECKS)

        try:
            check()
        except Unsatisfiable:  # nothing about this operation can be wrong
            assert mode is GenerationMode.NEGATIVE


def test_what_is_described_is_all_that_there_is(served: Served) -> None:
    paths = httpx.get(f"{served.url}/openapi.json").json()["paths"]
    assert sorted(paths) == [
        "/healthz",
        "/metrics",
        "/readyz",
        "/v1/attribute",
        "/v1/images/{image_id}",
        "/v1/index",
        "/v1/jobs",
        "/v1/jobs/{identity}",
        "/v1/jobs/{identity}/events",
        "/v1/jobs/{identity}/results",
        "/v1/results/{identity}",
        "/v1/results/{identity}/crops/{rank}.jpg",
        "/v1/results/{identity}/links/{rank}",
        "/v1/results/{identity}/maps/{rank}/{which}.png",
        "/v1/results/{identity}/picture.jpg",
        "/v1/results/{identity}/query.png",
    ]
    kinds = paths["/v1/attribute"]["post"]["requestBody"]["content"]
    assert set(kinds) == {"multipart/form-data", "application/json"}
    assert set(paths["/v1/jobs"]["post"]["requestBody"]["content"]) == {
        "multipart/form-data", "application/x-tar", "application/zip",
    }  # fmt: skip
