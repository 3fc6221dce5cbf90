from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from numpy.typing import NDArray

import nda_index as nda
from nda_index.serve.server import check_bind, is_loopback, make_config
from tests.conftest import encoded
from tests.serve.conftest import PATIENCE, until


@contextmanager
def process(index: Path, *options: object, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`nda-index serve` on a free port: the process and its address."""
    command = [sys.executable, "-c", "from nda_index.cli.app import main; main()", "serve", str(index), "--port", "0"]
    server = subprocess.Popen(
        [*command, *map(str, options)], stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    assert server.stderr is not None
    try:
        line = server.stderr.readline()
        assert " at http://" in line, line + server.stderr.read()
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
