"""The commands of the service; `test_server` starts `nda-index serve` as a process."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from nda_index.serve import commands
from nda_index.serve.commands import serve
from nda_index.serve.settings import ServeSettings
from nda_index.serve.tokens import find_token, read_tokens
from tests.cli.running import run

WEB = {"fastapi", "starlette", "uvicorn", "prometheus_client"}  # not pydantic, which LanceDB imports


def test_nothing_of_the_extra_is_imported_before_it_is_needed() -> None:
    modules = "nda_index, nda_index.client, nda_index.question, nda_index.serve.commands, nda_index.cli.app"
    code = f"import sys, {modules}; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not WEB.intersection(output.split())


def test_defaults_are_those_of_the_settings(tmp_path: Path) -> None:
    settings, parameters = ServeSettings(tmp_path), inspect.signature(serve).parameters
    for name in ("queue", "batch", "deadline", "jobs", "job_pictures"):
        assert parameters[name].default == getattr(settings, name)
    assert parameters["results_mib"].default << 20 == settings.results_bytes
    assert parameters["job_mib"].default << 20 == settings.job_bytes
    assert parameters["upload_mib"].default << 20 == settings.upload_bytes


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--host", "0.0.0.0"], 2, "there are no tokens"),
        (["--host", "192.0.2.1", "--without-tokens"], 2, "cannot listen on 192.0.2.1"),
        (["--port", 99999], 2, "port is 99999"),
        (["--token-file", "absent.txt"], 2, "cannot be read"),
        (["--queue", 0], 2, "queue is 0"),
        (["--jobs", -1], 2, "jobs is -1"),
        (["--deadline", 0], 2, "deadline is 0"),
        (["--texts", "absent.js"], 2, "the texts absent.js cannot be read"),
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


def test_an_error_is_a_line_of_a_json_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    index_folder: Path,
) -> None:  # fmt: skip
    configured = list[bool]()
    monkeypatch.setattr(commands, "configure_logs", configured.append)
    found, out, err = run(capsys, monkeypatch, "serve", index_folder, "--log-json", "--host", "0.0.0.0")
    assert (found, out, err, configured) == (2, "", "", [True])
    assert [(record.levelname, "there are no tokens" in record.message) for record in caplog.records] == [
        ("CRITICAL", True)
    ]


def test_a_token_and_its_hash_are_made(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = run(capsys, monkeypatch, "token")
    assert code == 0
    assert find_token(f"Bearer {err.split()[-1]}", [out.strip()])


def test_a_tokens_line_says_whose_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code, out, _ = run(capsys, monkeypatch, "token", "per-day=20 Ada Lovelace")
    assert code == 0
    (tmp_path / "tokens").write_text(out)
    ((digest, quota),) = read_tokens(tmp_path / "tokens", "").items()
    assert (len(digest), quota.owner, quota.per_day) == (64, "Ada Lovelace", 20)
    assert run(capsys, monkeypatch, "token", "Ada\nLovelace")[0] != 0


def test_a_missing_fastapi_names_the_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, index_folder: Path
) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "nda_index.serve.app", raising=False)
    code, _, err = run(capsys, monkeypatch, "serve", index_folder)
    assert code == 7
    assert "fastapi is not installed; run: pip install 'nda-index[serve]'" in err
