"""Which images of an index were removed: a file of their ids, until `compact` erases them."""

from __future__ import annotations

import secrets
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nda_index.store.arrow import read_arrow, write_arrow
from nda_index.store.manifest import Manifest

FEATURE = "removed"  # a reader that does not know it would return removed images


def read_removed(folder: Path, manifest: Manifest) -> NDArray[np.int64]:
    """Read the ids of the removed images, ascending."""
    if not manifest.removed:
        return np.empty(0, np.int64)
    return np.asarray(read_arrow(folder / manifest.removed)[0]["image_id"].to_numpy(), np.int64)


def write_removed(folder: Path, image_ids: NDArray[np.int64]) -> str:
    """Write ids, ascending, to a file of a name that no file has had, here or in a copy, and return the name."""
    name = f"removed-{secrets.token_hex(8)}.arrow"
    write_arrow(folder / name, {"image_id": image_ids}, {})
    return name
