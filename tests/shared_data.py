"""Where the reference scores and CIFAR-10 lie beside a checkout; tests that need them skip without."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def shared_file(name: str) -> Path:
    """A file of the folder `shared` beside the checkout, or skip the test."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is absent; this test compares with data that is not part of the project")
    return path
