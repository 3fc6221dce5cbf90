from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import nda_index as nda


def test_keys_and_metadata_come_in_the_order_of_the_ids(index: nda.Index) -> None:
    ids = np.array([299, 0, 150, 0])
    assert index.keys(ids).equals(pa.array(["00000299", "00000000", "00000150", "00000000"]))
    assert index.metadata(ids).to_pydict() == {"label": ["ship", "cat", "cat", "cat"], "year": [2002, 2000, 2001, 2000]}
    assert index.metadata([]).schema == index.metadata_schema()
    assert (len(index.keys([])), len(index.metadata([]))) == (0, 0)
    assert index.pixels([]).shape == (0, 3, 24, 20)


def test_ids_come_key_by_key_without_removed_images(index_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(index_folder, tmp_path / "x.nda"))
    nda.add_images(folder, nda.open_index(folder).pixels([7, 9]).transpose(0, 2, 3, 1) ^ 255)
    index = nda.open_index(folder)  # the new ones have the keys 00000000 and 00000001
    keys = ["00000001", "00000007", "00000000", "00000001"]
    assert index.ids(keys).tolist() == [1, 301, 7, 0, 300]
    assert index.ids([]).tolist() == []
    assert index.metadata([300]).to_pylist() == [{"label": None, "year": None}]
    nda.remove_images(folder, image_ids=[1, 7])
    index = nda.open_index(folder)
    assert index.ids(keys[:1]).tolist() == [301]
    with pytest.raises(nda.QueryError, match="keys has '00000007', which no image"):
        index.ids(keys)
    for look_up in (index.keys, index.metadata, index.pixels):
        with pytest.raises(nda.QueryError, match="image_ids has 7, which the index does not hold"):
            look_up([3, 7])


def test_what_could_mean_other_images_is_refused(index: nda.Index) -> None:
    for look_up in (index.keys, index.metadata, index.pixels):
        with pytest.raises(nda.ConfigError, match="is a mask"):
            look_up(np.arange(300) == 7)
        with pytest.raises(nda.ConfigError, match="holds 1.5"):
            look_up([1.5])  # type: ignore[list-item]
    with pytest.raises(nda.ConfigError, match="one text"):
        index.ids("00000007")


def test_a_notebook_shows_an_index(index: nda.Index) -> None:
    shown = index._repr_html_()
    assert "<td>300 of 24 x 20 pixels</td>" in shown and "label (string), year (int64)" in shown
    assert "against 199 pictures" in shown
