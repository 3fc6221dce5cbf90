"""What every kind of source gives: images before and after decoding, with their keys and metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from nda_index.images import Pixels, ValueRange

Source: TypeAlias = "str | PathLike[str] | Sequence[Any] | NDArray[Any] | Iterable[Any] | Callable[[], Iterable[Any]]"
# a path or several, an array, or images of Python: docs/sources.md

Describe: TypeAlias = "Callable[[Image.Image, Path | None], Any]"  # an upright RGB picture, and its file

CHUNK = 64  # images that are read, and decoded by a thread, at a time


@dataclass(frozen=True)
class Failure:
    """An image that could not be read, or something of a source that was left out, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class Unreadable:
    """Stands for an image of which a source knows, before it is decoded, that it cannot be read."""

    reason: str


@dataclass(frozen=True)
class Absent:
    """Stands for an image that a source lists and never had, as a row of a download that failed."""

    reason: str


@dataclass(frozen=True)
class RawImage:
    """One image before it is decoded.

    Attributes:
        key: the image's name in the source.
        data: bytes of an image file, the path of one, a PIL image, numbers [H, W, C] or what else `decode_image` takes;
            `Latent`; `Unreadable`; `Absent`; or None where the source holds nothing for it.
        metadata: values by column.
    """

    key: str
    data: Any
    metadata: dict[str, Any]


@dataclass(frozen=True)
class ImageBatch:
    """Decoded images.

    Attributes:
        images: uint8 [B, C, H, W], of latents float16.
        keys: of the images.
        metadata: a row for each image.
        failures: images of this stretch of the source that could not be read; they have no row.
        pictures: what a `Describe` said of each image, or files of small pictures beside latents, None where a latent
            has none; empty where there is neither.
        left_out: parts of these images that are not in the index, such as later frames of an animation.
        absent: what this stretch of the source lists and never had; they have no row.
    """

    images: Pixels
    keys: list[str]
    metadata: pa.Table
    failures: list[Failure]
    pictures: list[Any] = field(default_factory=list)
    left_out: list[Failure] = field(default_factory=list)
    absent: list[Failure] = field(default_factory=list)

    @property
    def read(self) -> int:
        """How many images of the source this stretch has, whatever became of them."""
        return len(self.images) + len(self.failures) + len(self.absent)


@dataclass(frozen=True)
class OpenSource:
    """A source whose images are counted and whose metadata columns are known.

    Attributes:
        kind: "array", "folder", "npz", "npy", "parquet", "webdataset", "images" or "dataset".
        count: number of images, broken ones included.
        schema: metadata columns.
        read: starts at the first image and gives all of them, in the same order every time.
        files: that it is read from, where these are not the images themselves.
        dropped: columns that an index cannot keep, and why.
        notes: sentences for the caller: columns that are kept under another name, or not at all.
        left_out: what lies in the source and is no image of it, and why.
        value_range: what is black and what is white in floats; None: they are refused.
        latents: (C, H, W) of the latents that it holds; None: it holds pictures.
        shown: pictures lie beside its latents.
    """

    kind: str
    count: int
    schema: pa.Schema
    read: Callable[[], Iterator[RawImage]]
    files: tuple[Path, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    left_out: Sequence[Failure] = ()
    value_range: ValueRange | None = None
    latents: tuple[int, int, int] | None = None
    shown: bool = False


def to_text(name: str | PathLike[str]) -> str:
    """Return the name of a file as text: bytes that are not UTF-8 are percent-encoded, and with them percent signs.

    Halves of surrogate pairs that stand for no byte become U+FFFD.

    Example:
        >>> to_text("caf\\udce9.png")  # as Python gives the name b"caf\\xe9.png"
        'caf%E9.png'
    """
    raw = str(name)
    try:
        raw.encode()
    except UnicodeEncodeError:
        if any(_is_byte(sign) for sign in raw):
            raw = "".join(f"%{ord(sign) - 0xDC00:02X}" if _is_byte(sign) else sign for sign in raw.replace("%", "%25"))
        return raw.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return raw


def _is_byte(sign: str) -> bool:
    """Whether a sign stands for a byte that is not UTF-8, as Python has it in the names of files."""
    return 0xDC80 <= ord(sign) <= 0xDCFF
