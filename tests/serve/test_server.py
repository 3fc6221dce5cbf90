from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from numpy.typing import NDArray

import nda_index as nda
from nda_index.serve.server import check_bind, is_loopback, make_config
from tests.conftest import encoded
from tests.serve.conftest import PATIENCE, Gate, serving, until


@contextmanager
def process(index: Path, *options: object, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`nda-index serve` on a free port: the process and its address."""
    command = [sys.executable, "-c", "from nda_index.cli.app import main; main()", "serve", str(index), "--port", "0"]
    server = subprocess.Popen(
        [*command, *map(str, options)], stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    assert server.stderr is not None
    try:
        lines: list[str] = []
        while not lines or " at http://" not in lines[-1]:
            lines.append(server.stderr.readline())
            assert lines[-1], "".join(lines)
        line = lines[-1]
        threading.Thread(target=server.stderr.read, daemon=True).start()  # a full pipe would stop the service
        yield server, line.split(" at ")[1].strip().rstrip("/")
    finally:
        server.kill()
        server.wait()
        server.stderr.close()


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=PATIENCE).status_code == 200
    except httpx.TransportError:
        return False


def ended(url: str) -> bool:
    try:
        httpx.get(f"{url}/healthz", timeout=PATIENCE)
    except httpx.TransportError:
        return True
    return False


def test_answers_survive_a_kill_under_load(index_folder: Path, tmp_path: Path, pictures: NDArray[np.uint8]) -> None:
    index = Path(shutil.copytree(index_folder, tmp_path / "x.nda"))
    answered: dict[str, str] = {}

    def ask(url: str, number: int) -> None:
        try:
            response = httpx.post(
                f"{url}/v1/attribute", files={"image": ("a", encoded(pictures[number]))}, timeout=PATIENCE
            )
        except httpx.TransportError:  # the process was killed
            return
        if response.status_code == 200:
            answered[response.json()["id"]] = response.text

    with process(index) as (server, url), ThreadPoolExecutor(8) as pool:
        until(lambda: ready(url))
        assert httpx.get(f"{url}/v1/index", headers={"Host": "evil.example"}).status_code == 403
        futures = [pool.submit(ask, url, number) for number in range(120)]
        until(lambda: len(answered) >= 10)
        server.send_signal(signal.SIGKILL)
        for future in futures:
            future.result()
    assert 10 <= len(answered) < 120
    kept = list((tmp_path / "x.nda.results").glob("*.arrow"))
    assert len(kept) >= len(answered)
    for path in kept:
        assert len(nda.read_answer(path)) == 10
    with process(index, NDA_INDEX_TOKENS=hashlib.sha256(b"token").hexdigest()) as (server, url):
        until(lambda: ready(url))
        for identity, text in answered.items():
            place = f"{url}/v1/results/{identity}"
            assert httpx.get(place).status_code == 401
            assert httpx.get(place, headers={"Authorization": "Bearer token"}).text == text
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE) in (0, -signal.SIGTERM)


def test_a_service_that_is_told_to_end_answers_what_it_has_begun(
    index_folder: Path, tmp_path: Path, gate: Gate, upload: bytes
) -> None:
    with serving(index_folder, tmp_path / "results") as served, ThreadPoolExecutor(1) as pool:
        gate.opened.clear()
        begun = len(gate.begun)
        question = pool.submit(served.ask, upload, top=1)
        until(lambda: len(gate.begun) > begun)
        served.terminate()
        until(lambda: served.http.get("/readyz").status_code == 503)
        assert served.http.get("/readyz").json()["error"]["code"] == "draining"
        assert served.http.get("/healthz").status_code == 200
        assert served.metric("nda_index_ready") == 0
        refused = served.ask(upload, top=2)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        gate.opened.set()
        assert question.result().status_code == 200
        until(lambda: not ready(served.url))


def test_questions_are_taken_until_the_proxy_has_seen_that_the_service_ends(
    index_folder: Path, tmp_path: Path, upload: bytes
) -> None:
    with serving(index_folder, tmp_path / "results", linger=PATIENCE) as served:
        served.terminate()
        until(lambda: served.http.get("/readyz").status_code == 503)
        assert served.ask(upload, top=1).status_code == 200


def test_without_a_proxy_a_service_ends_at_once(index_folder: Path, tmp_path: Path, upload: bytes) -> None:
    with serving(index_folder, tmp_path / "results", ready=False, linger=PATIENCE) as served:
        until(lambda: served.ask(upload, top=1).status_code == 200)
        served.terminate()
        until(lambda: ended(served.url))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not tell what is mapped")
def test_a_service_lets_go_of_the_files_that_it_started_with(index_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy.nda"
    shutil.copytree(index_folder, folder)

    def mapped() -> str:
        lines = Path(f"/proc/{server.pid}/maps").read_text().splitlines()
        return "\n".join(line for line in lines if str(folder) in line)

    with process(folder, "--results", tmp_path / "results") as (server, url):
        until(lambda: ready(url))
        assert "lists-00000" in mapped()
        nda.remove_images(folder, image_ids=[3])
        nda.compact(folder, wait=PATIENCE)
        until(lambda: "lists-00000" not in mapped())
        assert "(deleted)" not in mapped()


def test_a_service_that_cannot_store_answers_is_not_ready_until_it_can(
    index_folder: Path, tmp_path: Path, upload: bytes
) -> None:
    with serving(index_folder, tmp_path / "results") as served:
        served.results.rename(tmp_path / "away")
        assert served.ask(upload, top=1, timestep=50).status_code == 200
        refused = served.http.get("/readyz")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "storage")
        assert str(tmp_path) not in refused.text
        (tmp_path / "away").rename(served.results)
        until(lambda: ready(served.url))


def test_each_question_is_a_line_of_the_audit_log(index_folder: Path, tmp_path: Path, upload: bytes) -> None:
    audit = tmp_path / "audit.jsonl"
    with serving(index_folder, tmp_path / "results", audit=audit) as served:
        asked = served.ask(upload, top=1, timestep=50).json()
        assert served.ask(upload, top=1, timestep=50).status_code == 200
        assert served.http.post("/v1/attribute", json={"image_id": 300}).status_code == 404
        assert served.ask(b"no picture").status_code == 415
        assert served.http.get("/v1/index").status_code == 200
        events = [json.loads(line) for line in audit.read_text().splitlines()]
        assert [event["outcome"] for event in events] == ["answered", "answered", "image_id", "image"]
        assert {(event["event"], event["who"], event["index_hash"]) for event in events} == {
            ("question", "anyone", asked["index_hash"])
        }
        digest = hashlib.sha256(upload).hexdigest()
        assert [event.get("picture") for event in events[:3]] == [digest, digest, None]
        assert [event.get("answer") for event in events] == [asked["id"], asked["id"], None, None]
        assert events[2]["image_id"] == 300
        audit.unlink()
        audit.mkdir()
        assert served.ask(upload, top=1, timestep=50).status_code == 200
        assert served.http.get("/readyz").json()["error"]["code"] == "storage"
        audit.rmdir()
        until(lambda: ready(served.url))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_a_loopback_address_needs_no_tokens(host: str) -> None:
    assert is_loopback(host)
    check_bind(host, has_tokens=False, without_tokens=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.org", ""])
def test_other_addresses_need_tokens_or_a_flag(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(nda.ConfigError, match="there are no tokens"):
        check_bind(host, has_tokens=False, without_tokens=False)
    check_bind(host, has_tokens=True, without_tokens=False)
    check_bind(host, has_tokens=False, without_tokens=True)


def test_uvicorn_tells_nothing_of_itself_or_of_clients() -> None:
    config = make_config(FastAPI(), 7.4)
    assert not config.server_header
    assert not config.access_log
    assert not config.proxy_headers
    assert config.timeout_graceful_shutdown == 7


def test_every_line_is_json_where_the_log_is(index_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from nda_index.cli.app import main; main()", "serve", str(index_folder)]
    options = ["--port", "0", "--log-json", "--results", str(tmp_path / "results")]
    server = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert server.stdout is not None
    lines = list[dict[str, Any]]()
    try:
        while not lines or lines[-1].get("event") != "ready":
            lines.append(json.loads(server.stdout.readline()))
        assert httpx.get(f"{lines[-1]['address']}v1/index", timeout=PATIENCE).status_code == 200
        server.send_signal(signal.SIGINT)
        lines += [json.loads(line) for line in server.stdout]
        assert server.wait(PATIENCE) == 130
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    assert [line["event"] for line in lines if "event" in line] == ["warming_up", "ready"]
    ready = next(line for line in lines if line.get("event") == "ready")
    assert (ready["images"], ready["message"]) == (300, f"Serving {index_folder} at {ready['address']}")
    assert [line["route"] for line in lines if line["message"] == "request"] == ["/v1/index"]
    assert lines[-1]["message"] == "interrupted"
