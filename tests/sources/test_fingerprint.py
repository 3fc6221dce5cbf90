from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nda_index.sources import open_source
from nda_index.sources.fingerprint import fingerprint_source
from tests.conftest import RED, encoded
from tests.sources.contents import write_shard


def test_a_renamed_added_or_longer_file_makes_another_source(tmp_path: Path) -> None:
    def fingerprint() -> str:
        return fingerprint_source(open_source(tmp_path))

    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(encoded(RED))
    first = fingerprint()
    os.utime(tmp_path / "a.png")
    assert fingerprint() == first
    (tmp_path / "a.png").rename(tmp_path / "d.png")
    renamed = fingerprint()
    (tmp_path / "d.png").write_bytes(encoded(RED) + b"more")
    longer = fingerprint()
    (tmp_path / "c.png").unlink()
    assert len({first, renamed, longer, fingerprint()}) == 4


def test_files_that_hold_images_count_in_their_order(tmp_path: Path) -> None:
    for name in "ab":
        pq.write_table(pa.table({"image": [encoded(RED)]}), tmp_path / f"{name}.parquet")
        write_shard(tmp_path / f"{name}.tar", {f"{name}.png": encoded(RED)})
    for ending in ("parquet", "tar"):
        paths = [tmp_path / f"{name}.{ending}" for name in "ab"]
        there, back = (fingerprint_source(open_source(order)) for order in (paths, paths[::-1]))
        assert there != back
        assert there == fingerprint_source(open_source(paths))


def test_an_array_counts_by_its_images() -> None:
    images = np.zeros((3, 2, 2, 3), np.uint8)
    others = images.copy()
    others[2, 1, 1, 2] = 1
    one, other, swapped = (fingerprint_source(open_source(array)) for array in (images, others, others[::-1]))
    assert len({one, other, swapped}) == 3
