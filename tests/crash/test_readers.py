"""A short form of benchmarks/readers.py: readers go on while a writer changes the index."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_readers_never_see_a_mixed_state() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "benchmarks.readers", "--minutes", "0.1", "--quiet"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 problems" in done.stdout
