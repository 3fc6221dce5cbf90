from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from nda_index.errors import ConfigError, QueryError
from nda_index.store.names import check_ids, check_keys, missing_key

KNOWN = np.array([True, False, True, True])


@pytest.mark.parametrize(
    "ids",
    [[3, 0], (3, 0), np.array([3, 0]), np.array([3, 0], np.uint8), iter([3, 0]), pa.array([3, 0]), [np.int8(3), 0]],
)
def test_ids_keep_their_order(ids: Any) -> None:
    found = check_ids("image_ids", ids, KNOWN)
    assert (found.tolist(), found.dtype.name) == ([3, 0], "int64")


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        (KNOWN, ConfigError, r"image_ids is a mask; give ids, as numpy.flatnonzero"),
        (KNOWN.tolist(), ConfigError, "holds True; ids are whole numbers"),
        ([0, True], ConfigError, "holds True"),
        ([0, 2.0], ConfigError, "holds 2.0"),
        (np.array([0.0]), ConfigError, "ids are whole numbers"),
        (["0"], ConfigError, "holds '0'"),
        (pa.array([0, None]), ConfigError, "holds None"),
        (np.array([[0]]), ConfigError, r"has shape \[1, 1\]"),
        (np.array(0), ConfigError, r"has shape \[\]"),
        ("02", ConfigError, "must be a sequence of ids"),
        (2, ConfigError, "must be a sequence of ids"),
        ([1], QueryError, "has 1, which the index does not hold"),
        ([4], QueryError, "has 4"),
        ([-1], QueryError, "has -1"),
        ([2**70], QueryError, "has 1180591620717411303424"),
    ],
)
def test_what_could_mean_other_images_is_refused(ids: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_ids("image_ids", ids, KNOWN)


def test_keys_are_a_sequence_of_texts() -> None:
    assert check_keys(["k\ud800"]) == ["k\ufffd"]  # as they are stored
    assert check_keys(np.array(["a", "b"])) == check_keys(pa.array(["a", "b"])) == ["a", "b"]
    with pytest.raises(ConfigError, match=r"keys is 'a.png', one text; give a sequence of keys, as \['a.png'\]"):
        check_keys("a.png")
    with pytest.raises(ConfigError, match="keys holds 7; keys are text, .*: '7'"):
        check_keys([7])
    with pytest.raises(ConfigError, match="must be a sequence of keys"):
        check_keys(7)
    assert missing_key(["a", "b"], {"a", "b"}) is None
    assert "keys has 'b' and 1 more" in str(missing_key(["b", "a", "c", "b"], {"a"}))
