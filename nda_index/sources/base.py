"""What every kind of source gives: images before and after decoding, with their keys and metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

Source: TypeAlias = "str | PathLike[str] | Sequence[str | PathLike[str]] | NDArray[np.uint8]"

IMAGE_ENDINGS = frozenset([".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"])
Describe: TypeAlias = "Callable[[Image.Image, Path | None], Any]"  # an upright RGB picture, and its file

CHUNK = 64  # images that are read, and decoded by a thread, at a time


@dataclass(frozen=True)
class RawImage:
    """One image before it is decoded.

    Attributes:
        key: the image's name in the source.
        data: bytes of an image file, the path of one, pixels uint8 [H, W, C] or [H, W], or None where the source holds
            nothing for it.
        metadata: values by column.
    """

    key: str
    data: bytes | Path | NDArray[np.uint8] | None
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Failure:
    """An image that could not be read, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class ImageBatch:
    """Decoded images.

    Attributes:
        images: uint8 [B, C, H, W].
        keys: of the images.
        metadata: a row for each image.
        failures: images of this stretch of the source that could not be read; they have no row.
        pictures: what a `Describe` said of each image; empty where none was given.
    """

    images: NDArray[np.uint8]
    keys: list[str]
    metadata: pa.Table
    failures: list[Failure]
    pictures: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class OpenSource:
    """A source whose images are counted and whose metadata columns are known.

    Attributes:
        kind: "array", "folder", "npz", "parquet" or "webdataset".
        count: number of images, broken ones included.
        schema: metadata columns.
        read: starts at the first image and gives all of them, in the same order every time.
        files: that it is read from, where these are not the images themselves.
        dropped: columns that an index cannot keep, and why.
        notes: sentences for the caller: columns that are kept under another name, or not at all.
    """

    kind: str
    count: int
    schema: pa.Schema
    read: Callable[[], Iterator[RawImage]]
    files: tuple[Path, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
