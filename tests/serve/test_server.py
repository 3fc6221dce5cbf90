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
from numpy.typing import NDArray

import nda_index as nda
from nda_index.serve.server import check_bind, is_loopback
from nda_index.serve.tokens import is_accepted
from tests.cli.test_cli import run
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
def test_this_machine_alone_needs_no_tokens(host: str) -> None:
    assert is_loopback(host)
    check_bind(host, has_tokens=False, without_tokens=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.org", ""])
def test_others_are_served_with_tokens_or_on_purpose(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(nda.ConfigError, match="there are no tokens"):
        check_bind(host, has_tokens=False, without_tokens=False)
    check_bind(host, has_tokens=True, without_tokens=False)
    check_bind(host, has_tokens=False, without_tokens=True)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--host", "0.0.0.0"], 2, "there are no tokens"),
        (["--host", "192.0.2.1", "--without-tokens"], 2, "cannot listen on 192.0.2.1"),
        (["--port", 99999], 2, "port is 99999"),
        (["--token-file", "absent.txt"], 2, "cannot be read"),
        (["--queue", 0], 2, "queue is 0"),
        (["--deadline", 0], 2, "deadline is 0"),
        (["--ray", "auto"], 2, "is not in shards"),
        (["--device", "abacus"], 2, "device is 'abacus'"),
    ],
)
def test_wrong_options_are_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, index_folder: Path, options: list[object],
    code: int, message: str,
) -> None:  # fmt: skip
    found, _, err = run(capsys, monkeypatch, "serve", index_folder, *options)
    assert (found, err.count("\n")) == (code, 1)
    assert message in err


def test_a_token_and_its_hash_are_made(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = run(capsys, monkeypatch, "token")
    assert code == 0
    assert is_accepted(f"Bearer {err.split()[-1]}", [out.strip()])


def test_a_missing_fastapi_names_the_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, index_folder: Path
) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "nda_index.serve.app", raising=False)
    code, _, err = run(capsys, monkeypatch, "serve", index_folder)
    assert code == 7
    assert "fastapi is not installed; run: pip install 'nda-index[serve]'" in err
