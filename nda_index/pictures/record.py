"""What an index keeps of a picture beside its pixels: its size, its windows, and a small copy to compare with."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from nda_index.pictures.windows import DIMENSIONS, INDEXED, KINDS, Kind, find_windows

COPY_SIDE = 256  # pixels of the small copy's shorter side
_LONGEST = 4096  # pixels of its longer side, where that is many times the other
_WEBP = {"quality": 75, "method": 2}  # a third smaller than JPEG of this quality, for 6 ms more
_STEPS = 65535  # of a place in the picture, and of a direction

RECORD = pa.struct(
    [
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("path", pa.string()),
        pa.field("points_frames", pa.binary()),
        pa.field("points_codes", pa.binary()),
        pa.field("grid_frames", pa.binary()),
        pa.field("grid_codes", pa.binary()),
        pa.field("copy", pa.binary()),
    ]
)  # of a picture in the table of images


@dataclass(frozen=True)
class IndexedPicture:
    """A picture as the index knows it.

    Attributes:
        size: width and height in pixels.
        path: of its file when it was indexed, or None.
        frames: by kind float32 [n, 4], as `Windows.frames`.
        codes: by kind uint8 [n, DIMENSIONS].
        copy: a WebP file of the picture, made small.
    """

    size: tuple[int, int]
    path: str | None
    frames: dict[Kind, NDArray[np.float32]]
    codes: dict[Kind, NDArray[np.uint8]]
    copy: bytes

    def open_copy(self) -> Image.Image:
        """Open the small copy."""
        return Image.open(io.BytesIO(self.copy)).convert("RGB")


def make_record(picture: Image.Image, path: Path | None) -> dict[str, Any]:
    """Make the record of a picture, a value of the type `RECORD`.

    Args:
        picture: RGB, upright, at its own size.
        path: of its file, if it has one.
    """
    width, height = picture.size
    record: dict[str, Any] = {"width": width, "height": height, "path": _as_text(path.absolute()) if path else None}
    for kind, windows in find_windows(picture, INDEXED).items():
        record[f"{kind}_frames"] = _pack_frames(windows.frames, picture.size)
        record[f"{kind}_codes"] = windows.codes.tobytes()
    scale = min(1.0, COPY_SIDE / min(picture.size), _LONGEST / max(picture.size))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    buffer = io.BytesIO()
    picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0).save(buffer, "WEBP", **_WEBP)
    record["copy"] = buffer.getvalue()
    return record


def tell_unfit(record: dict[str, Any]) -> str | None:
    """Say why regions of a picture cannot be found, where it has no windows.

    Example:
        >>> tell_unfit(make_record(Image.new("RGB", (2000, 3)), None))
        'is indexed without regions: its 2000 x 3 pixels have no structure that parts could be found by'
    """
    if any(record[f"{kind}_codes"] for kind in KINDS):
        return None
    size = f"{record['width']} x {record['height']} pixels"
    return f"is indexed without regions: its {size} have no structure that parts could be found by"


def read_record(record: dict[str, Any]) -> IndexedPicture:
    """Read what `make_record` made.

    Example:
        >>> picture = Image.new("RGB", (300, 200), "red")
        >>> read_record(make_record(picture, None)).size
        (300, 200)
    """
    size = record["width"], record["height"]
    frames = {kind: _unpack_frames(record[f"{kind}_frames"], size) for kind in KINDS}
    codes = {kind: np.frombuffer(record[f"{kind}_codes"], np.uint8).reshape(-1, DIMENSIONS) for kind in KINDS}
    return IndexedPicture(size, record["path"], frames, codes, record["copy"])


def _as_text(path: Path) -> str | None:
    """Return a path as text; None where its name is not UTF-8: then the small copy stands for the file."""
    try:
        return str(path).encode().decode()
    except UnicodeEncodeError:
        return None


def _pack_frames(frames: NDArray[np.float32], size: tuple[int, int]) -> bytes:
    """Frames as whole numbers of 16 bits: places and widths of the longer side, directions of a turn."""
    parts = np.c_[frames[:, :3] / max(size), (frames[:, 3:] / (2 * np.pi)) % 1.0]
    return bytes(np.rint(np.clip(parts, 0, 1) * _STEPS).astype("<u2").tobytes())


def _unpack_frames(data: bytes, size: tuple[int, int]) -> NDArray[np.float32]:
    parts = np.frombuffer(data, "<u2").reshape(-1, 4).astype(np.float32) / _STEPS
    return np.asarray(parts * np.array([max(size)] * 3 + [2 * np.pi]), np.float32)
