"""How tests run the command line, in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from nda_index.cli.app import main

Run = Callable[..., tuple[int, str, str]]  # arguments; exit code, standard output, standard error


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int, str, str]:
    """Run `nda-index` with arguments; return its exit code, standard output and standard error."""
    monkeypatch.setattr(sys, "argv", ["nda-index", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    captured = capsys.readouterr()
    return int(stopped.value.code or 0), captured.out, captured.err
