"""What several benchmarks share: pictures of CIFAR-10, and the scales of version 0.1.0 that many results are about."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.machine import SHARED
from nda_index.images import decode_image
from nda_index.scales import Scale

FIRST_SCALES = (Scale(7), Scale(14, 2))  # the default of a build in version 0.1.0


def read_pictures(part: str, first: int, count: int) -> NDArray[np.uint8]:
    """Read pictures of a part of CIFAR-10, "train" or "test", in the order of the file: uint8 [count, 32, 32, 3]."""
    column = pq.read_table(SHARED / "data" / f"cifar10_{part}.parquet", columns=["image"])["image"].slice(first, count)
    return np.stack([decode_image(row["bytes"], (32, 32), 3).transpose(1, 2, 0) for row in column.to_pylist()])
