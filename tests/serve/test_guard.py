from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

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
    tokens = frozenset(hashlib.sha256(token.encode()).hexdigest() for token in ("first", "second"))
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
