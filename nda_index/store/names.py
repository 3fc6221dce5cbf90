"""The ids and keys by which a caller names images, checked: what could mean other images is refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nda_index.errors import ConfigError, QueryError
from nda_index.sources.metadata import clean_text


def check_ids(name: str, image_ids: Any, known: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return ids as int64 [n], in their order.

    Args:
        name: of the argument, for messages.
        image_ids: whole numbers: a sequence, a NumPy array or an Arrow array.
        known: bool [N], True at the ids of images that are there.

    Raises:
        ConfigError: they are no whole numbers, such as a mask.
        QueryError: no image has one of them.

    Example:
        >>> check_ids("image_ids", [2, 0], np.array([True, False, True]))
        array([2, 0])
    """
    values = image_ids.to_pylist() if isinstance(image_ids, pa.Array | pa.ChunkedArray) else image_ids
    if isinstance(values, np.ndarray) and values.dtype == np.bool_:
        raise ConfigError(f"{name} is a mask; give ids, as numpy.flatnonzero(mask)")
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise ConfigError(f"{name} has shape {list(values.shape)}; it must be a sequence of ids, as [7]")
    if isinstance(values, np.ndarray) and values.dtype.kind in "iu":
        values = values.tolist()
    if isinstance(values, str | bytes | dict) or not hasattr(values, "__iter__"):
        raise ConfigError(f"{name} is {image_ids!r}; it must be a sequence of ids, as [7]")
    values = list(values)
    for value in values:
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
            raise ConfigError(f"{name} holds {value!r}; ids are whole numbers, as `Attribution.image_ids` has them")
    for value in values:
        if not 0 <= value < len(known) or not known[value]:
            raise QueryError(f"{name} has {value}, which the index does not hold; give ids of its images")
    return np.array(values, np.int64)


def check_keys(keys: Any) -> list[str]:
    """Return keys as a list, in their order.

    Args:
        keys: a sequence of texts, or an Arrow array.

    Raises:
        ConfigError: it is one text, or holds something else.

    Example:
        >>> check_keys(("a.png", "b.png"))
        ['a.png', 'b.png']
    """
    values = keys.to_pylist() if isinstance(keys, pa.Array | pa.ChunkedArray) else keys
    if isinstance(values, str | bytes):
        raise ConfigError(f"keys is {keys!r}, one text; give a sequence of keys, as [{keys!r}]")
    if isinstance(values, dict) or not hasattr(values, "__iter__"):
        raise ConfigError(f"keys is {keys!r}; it must be a sequence of keys, as ['a.png']")
    values = list(values)
    for value in values:
        if not isinstance(value, str):
            raise ConfigError(f"keys holds {value!r}; keys are text, as `Attribution.keys` has them: {str(value)!r}")
    return [clean_text(str(value)) for value in values]


def check_hashes(hashes: Any) -> list[str]:
    """Return sha256 of pixels as a list, in their order, in small letters.

    Args:
        hashes: a sequence of texts, each of 64 hexadecimal digits.

    Raises:
        ConfigError: it is one text, or holds something else.

    Example:
        >>> check_hashes(["AB" * 32]) == ["ab" * 32]
        True
    """
    if isinstance(hashes, str | bytes | dict) or not hasattr(hashes, "__iter__"):
        raise ConfigError(f"pixel_hashes is {hashes!r}; it must be a sequence of texts, as [HASH]")
    values = list(hashes)
    for value in values:
        if not isinstance(value, str) or not re.fullmatch("[0-9A-Fa-f]{64}", value):
            raise ConfigError(
                f"pixel_hashes holds {value!r}; a hash has 64 hexadecimal digits, as in `pictures` of a line `removal` "
                f"of the audit log"
            )
    return [value.lower() for value in values]


def missing_key(keys: Sequence[str], found: set[str]) -> QueryError | None:
    """Return the error that names a key which no image has, or None where each has one."""
    missing = [key for key in dict.fromkeys(keys) if key not in found]
    if not missing:
        return None
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return QueryError(f"keys has {missing[0]!r}{more}, which no image of the index has; give keys as answers show them")
