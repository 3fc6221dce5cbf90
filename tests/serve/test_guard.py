from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

import nda_index as nda
from nda_index.client import AsyncClient
from nda_index.serve.app import create_app
from nda_index.serve.logs import REQUESTS
from nda_index.serve.settings import ServeSettings
from nda_index.serve.tokens import Quota
from tests.serve.conftest import Served, serving

PATHS = ("/", "/static/app.js", "/v1/index", "/v1/images/3", "/v1/images/300", "/healthz", "/metrics", "/openapi.json")
STRICT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def test_every_response_has_the_security_headers(served: Served, upload: bytes) -> None:
    responses = [served.http.get(path) for path in PATHS]
    responses += [served.ask(upload, top=1), served.ask(b""), served.http.get("/", headers={"Host": "evil.example"})]
    for response in responses:
        assert response.headers["content-security-policy"] == STRICT
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert response.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in response.headers
        assert "server" not in response.headers


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "[::2]:80"]
)
def test_other_names_of_this_machine_are_refused(served: Served, host: str) -> None:
    """A page of a site whose name is made to lead to this machine is refused."""
    response = served.http.get("/v1/index", headers={"Host": host})
    assert response.status_code in (400, 403)


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1", "[::1]:8000", "[::1]"])
def test_names_of_this_machine_are_served(served: Served, host: str) -> None:
    assert served.http.get("/v1/index", headers={"Host": host}).status_code == 200


def test_pages_of_other_sites_are_refused(served: Served, upload: bytes) -> None:
    host = served.url.removeprefix("http://")
    for headers, status in (
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
        ({"Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}, 200),
    ):
        files = {"image": ("a", upload)}
        assert served.http.post("/v1/attribute", files=files, headers=headers).status_code == status
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert served.http.get("/", headers=link).status_code == 200
    assert served.http.get("/v1/images/3", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    assert served.http.options("/v1/attribute", headers=preflight).status_code == 403


def test_a_service_with_tokens_answers_only_their_owners(index_folder: Path, tmp_path: Path, upload: bytes) -> None:
    tokens = {hashlib.sha256(token.encode()).hexdigest(): Quota() for token in ("first", "second")}
    with serving(index_folder, tmp_path / "results", tokens=tokens) as served:
        known = {"Authorization": "Bearer second"}
        answered = served.http.post("/v1/attribute", files={"image": ("a", upload)}, headers=known)
        assert answered.status_code == 200
        place = answered.headers["location"]
        protected = ["/v1/index", "/v1/images/3", place, f"{place}/maps/1/query.png", f"{place}/links/1", "/v1/x"]
        for path in [*protected, "/metrics"]:
            for sent in ({}, {"Authorization": "Bearer third"}, {"Authorization": "Basic second"},
                         {"Authorization": "second"}, {"Authorization": "Bearer"},
                         {"Authorization": "Bearer " + next(iter(tokens))}):  # fmt: skip
                refused = served.http.get(path, headers=sent)
                assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
                assert refused.json()["error"]["code"] == "token"
            assert served.http.get(path, headers=known).status_code == (404 if path == "/v1/x" else 200)
        assert served.ask(upload).status_code == 401
        for path in ("/", "/static/app.js", "/healthz", "/readyz", "/openapi.json"):
            assert served.http.get(path).status_code == 200
        for path in ("//v1/index", "/V1/index", "/v1/../v1/index", "/static/../v1/index", "/%76%31/index"):
            assert served.http.get(path).status_code in (401, 404)


@pytest.mark.parametrize(
    "path", ["/", "/static/app.js", "/healthz", "/readyz", "/metrics", "/v1/index", "/v1/images/3"]
)
def test_head_is_get_without_its_body(served: Served, path: str) -> None:
    got, head = served.http.get(path), served.http.head(path)
    assert (head.status_code, head.content) == (200, b"")
    varying = {"date", "x-request-id", *({"content-length"} if path == "/metrics" else ())}
    assert {name: value for name, value in head.headers.items() if name not in varying} == {
        name: value for name, value in got.headers.items() if name not in varying
    }
    assert served.http.head("/v1/images/300").status_code == 404


def test_options_name_the_methods(served: Served) -> None:
    for path, methods in (("/v1/index", "GET, HEAD, OPTIONS"), ("/static/app.js", "GET, HEAD, OPTIONS"),
                          ("/v1/attribute", "OPTIONS, POST")):  # fmt: skip
        response = served.http.options(path)
        assert (response.status_code, response.content, response.headers["allow"]) == (204, b"", methods)
        assert served.http.delete(path).headers["allow"] == methods
    assert served.http.options("/v1/nothing").status_code == 404
    assert served.http.head("/v1/attribute").status_code == 405


def test_a_request_has_an_id_in_its_answer_and_in_its_error(served: Served) -> None:
    for path in ("/v1/index", "/v1/images/300", "/v1/nothing", "/static/nothing"):
        response = served.http.get(path, headers={"X-Request-ID": "mine-1"})
        assert response.headers["x-request-id"] == "mine-1"
        assert response.status_code == 200 or response.json()["error"]["request_id"] == "mine-1"
    made = {served.http.get("/healthz", headers={"X-Request-ID": "a b"}).headers["x-request-id"] for _ in range(2)}
    assert len(made) == 2 and all(len(each) == 32 for each in made)


def test_large_texts_are_compressed_and_pictures_are_not(served: Served) -> None:
    for path, expected in (("/v1/index", "gzip"), ("/static/app.js", "gzip"), ("/healthz", None)):
        response = served.http.get(path, headers={"Accept-Encoding": "gzip"})
        assert response.headers.get("content-encoding") == expected
        plain = served.http.get(path, headers={"Accept-Encoding": "identity"})
        assert plain.content == response.content
    index = served.http.get("/v1/index", headers={"Accept-Encoding": "gzip"})
    tag = index.headers["etag"]
    assert index.headers["cache-control"] == "private, no-cache"
    assert served.http.get("/v1/index", headers={"If-None-Match": tag}).status_code == 304


Call = Callable[..., httpx.Response]  # a method, a path, and options of httpx


@pytest.fixture
def below_app(index_folder: Path, tmp_path: Path) -> FastAPI:
    """A service behind a proxy, at /photos; nothing answers its questions."""
    digest = hashlib.sha256(b"token").hexdigest()
    settings = ServeSettings(
        tmp_path / "results",
        root_path="/photos",
        tokens={digest: Quota("Ada", per_day=2)},
    )
    app = create_app(nda.open_index(index_folder), settings)
    app.state.service.ready = True
    return app


@pytest.fixture
def below(below_app: FastAPI) -> Call:
    """Requests to that service."""

    async def call(method: str, path: str, **options: Any) -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(below_app), base_url="http://photos.example"
        ) as http:
            return await http.request(method, path, **options)

    return lambda *arguments, **options: asyncio.run(call(*arguments, **options))


@pytest.mark.parametrize("prefix", ["/photos", ""], ids=["the proxy leaves the path", "the proxy cuts it"])
def test_a_service_below_a_path_answers_whatever_the_proxy_does_with_it(below: Call, prefix: str) -> None:
    known = {"Authorization": "Bearer token"}
    assert below("GET", f"{prefix}/").status_code == 200
    assert below("GET", f"{prefix}/static/app.js").status_code == 200
    assert below("GET", f"{prefix}/healthz").status_code == 200
    for path in ("/v1/index", "/v1/images/3", "/metrics"):
        assert below("GET", f"{prefix}{path}").status_code == 401
        assert below("GET", f"{prefix}{path}", headers=known).status_code == 200
    assert below("GET", "/photos").headers["location"] == "/photos/"
    assert below("GET", "/photos/photos/v1/index", headers=known).status_code == 404


def test_the_client_works_below_a_path(below_app: FastAPI) -> None:
    async def ask() -> int:
        transport = httpx.ASGITransport(below_app)
        async with AsyncClient("http://photos.example/photos", "token", transport=transport) as client:
            return int((await client.index())["images"])

    assert asyncio.run(ask()) == 300


def test_the_page_names_nothing_from_the_root() -> None:
    static = Path(nda.__file__).parent / "serve" / "static"
    for path in static.iterdir():
        for quote in "\"'`":
            assert f"{quote}/v1/" not in path.read_text() and f"{quote}/static/" not in path.read_text(), path


def test_looks_at_a_service_are_lines_only_where_they_see_a_change(
    below_app: FastAPI, below: Call, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, REQUESTS.name)
    known = {"Authorization": "Bearer token"}
    for ready in (True, True, False, False, True):
        below_app.state.service.ready = ready
        for prefix in ("/photos", ""):
            assert below("GET", f"{prefix}/readyz").status_code == (200 if ready else 503)
            assert below("GET", f"{prefix}/healthz").status_code == 200
            assert below("GET", f"{prefix}/metrics", headers=known).status_code == 200
    below("GET", "/metrics")
    facts = [record.facts for record in caplog.records if record.name == REQUESTS.name]  # type: ignore[attr-defined]
    assert [(line["route"], line["status"]) for line in facts] == [
        ("/readyz", 200), ("/healthz", 200), ("/metrics", 200), ("/readyz", 503), ("/readyz", 200), ("other", 401),
    ]  # fmt: skip


def test_a_token_has_a_limit_and_a_request_a_line(below: Call, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, REQUESTS.name)
    known = {"Authorization": "Bearer token", "X-Request-ID": "mine"}
    statuses = [below("POST", "/v1/attribute", data={"image_id": "x"}, headers=known).status_code for _ in range(3)]
    assert statuses == [415, 415, 429]
    assert below("GET", "/v1/index", headers=known).status_code == 200
    facts = [record.facts for record in caplog.records if record.name == REQUESTS.name]  # type: ignore[attr-defined]
    assert [(line["method"], line["route"], line["status"], line["owner"]) for line in facts] == [
        ("POST", "/v1/attribute", 415, "Ada"), ("POST", "/v1/attribute", 415, "Ada"), ("POST", "other", 429, "Ada"),
        ("GET", "/v1/index", 200, "Ada"),
    ]  # fmt: skip
    assert all(line["seconds"] >= 0 for line in facts)
    assert "token" not in str(facts)
