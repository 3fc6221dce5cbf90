from __future__ import annotations

from functools import partial

import pytest

from tests.cli import running
from tests.cli.running import Run


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Arguments of `nda-index` to its exit code, standard output and standard error."""
    return partial(running.run, capsys, monkeypatch)
