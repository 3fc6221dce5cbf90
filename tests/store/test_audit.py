from __future__ import annotations

import json
from pathlib import Path

import pytest

import nda_index as nda
from nda_index.store.audit import VARIABLE, audit_path, check_writable, whoami, write_event


def test_events_are_lines_that_only_their_owner_reads(tmp_path: Path) -> None:
    path = audit_path(tmp_path / "x.nda")
    assert path == tmp_path / "x.nda.audit.jsonl"
    check_writable(path)
    write_event(path, "question", who="Ada\nLovelace")
    write_event(path, "removal", images=2)
    first, second = map(json.loads, path.read_text().splitlines())
    assert (first["event"], first["who"], second["event"], second["images"]) == (
        "question",
        "Ada\nLovelace",
        "removal",
        2,
    )
    assert first["time"] <= second["time"] and first["time"].endswith("+00:00")
    assert path.stat().st_mode & 0o777 == 0o600
    assert " on " in whoami()


def test_the_log_can_be_elsewhere_or_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "log"))
    assert audit_path(tmp_path / "x.nda") == tmp_path / "log"
    monkeypatch.setenv(VARIABLE, "off")
    path = audit_path(tmp_path / "x.nda")
    write_event(path, "question")
    check_writable(path)
    assert path is None and list(tmp_path.iterdir()) == []


def test_a_log_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(nda.StorageError, match="cannot be written"):
        check_writable(tmp_path / "nowhere" / "x.audit.jsonl")
