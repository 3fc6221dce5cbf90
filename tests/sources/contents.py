"""What the tests of sources share: a source read to its end, and shards to read."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nda_index.sources import Failure, OpenSource, open_source, read_batches


class Contents(NamedTuple):
    images: NDArray[np.uint8]  # [N, 3, H, W]
    keys: list[str]
    metadata: pa.Table
    failures: list[Failure]


def read(source: Any, size: tuple[int, int] = (12, 10), **options: Any) -> Contents:
    """All that a source holds, read in batches of three."""
    opened = source if isinstance(source, OpenSource) else open_source(source, **options)
    batches = list(read_batches(opened, size, 3, batch_size=3))
    return Contents(
        np.concatenate([batch.images for batch in batches]),
        [key for batch in batches for key in batch.keys],
        pa.concat_tables([batch.metadata for batch in batches]),
        [failure for batch in batches for failure in batch.failures],
    )


def numbered(count: int) -> NDArray[np.uint8]:
    """Images [N, 2, 2, 3] of one colour each, no two of 16 million alike."""
    digits = np.arange(count)[:, None] // np.array([1, 256, 65536]) % 256
    return np.broadcast_to(digits[:, None, None], (count, 2, 2, 3)).astype(np.uint8)


def write_shard(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path
