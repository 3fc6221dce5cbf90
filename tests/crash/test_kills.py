"""A short form of benchmarks/crash.py: processes are killed at random moments of every kind of change."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_no_kill_leaves_a_wrong_index() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "benchmarks.crash", "--kills", "16", "--quiet"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "16 kills, 0 wrong" in done.stdout
    assert "| build | resumed |" in done.stdout  # so processes were killed, and not all at rest
