"""Encodings of image files: which are read, which need an extra, and what to do with the others."""

from __future__ import annotations

import io
from collections.abc import Collection
from importlib import import_module
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError, features

FORMATS = (
    "PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF", "JPEG2000", "TGA", "PCX", "QOI", "SGI", "DDS", "ICO",
    "DIB", "HEIF",
)  # fmt: skip  # of Pillow; not those that run another program (EPS) or are drawings (WMF)
_READ = """
    .png .apng .jpg .jpeg .jpe .jfif .mpo .webp .gif .tif .tiff .bmp .dib .ppm .pgm .pbm .pnm .pfm .avif .jp2 .j2k .jpc
    .jpf .jpx .j2c .tga .pcx .qoi .sgi .rgb .dds .ico
"""
_HEIF_ENDINGS = (".heic", ".heif", ".hif")
_JXL_ENDINGS = (".jxl",)
PICTURE_ENDINGS = frozenset([*_READ.split(), *_HEIF_ENDINGS, *_JXL_ENDINGS])  # of files that are taken for pictures
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_NEED_HEIF = "is HEIC, which the extra heif reads: pip install 'nda-index[heif]'"
_NEED_AVIF = "is AVIF, which this Pillow cannot read: pip install --upgrade pillow (11.3 or newer)"
_NEED_JXL = "is JPEG XL, which no extra reads; convert it to PNG or WebP"
_OTHERS = {
    **dict.fromkeys((".svg", ".svgz"), "is SVG, a drawing without pixels; render it to PNG at the size you want"),
    **dict.fromkeys((".psd", ".psb", ".xcf", ".kra"), "is a file of a drawing program; export it as PNG"),
    **dict.fromkeys((".eps", ".ai", ".pdf", ".ps"), "is a page description; render it to PNG"),
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2"), "is camera raw; develop it"),
    **dict.fromkeys((".exr", ".hdr"), "is a picture of floats without a range; convert it to PNG"),
    **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm"), "is a video; save the frames you want as pictures"),
    **dict.fromkeys((".zip", ".gz", ".tgz", ".7z", ".rar", ".zst", ".xz", ".bz2"), "is an archive; unpack it"),
}  # files that hold pictures, or could be made pictures
_CONTENTS = (
    (b"\xff\x0a", _NEED_JXL),
    (b"\0\0\0\x0cJXL ", _NEED_JXL),
    (b"8BPS", _OTHERS[".psd"]),
    (b"%PDF", _OTHERS[".pdf"]),
    (b"%!PS", _OTHERS[".eps"]),
    (b"\xc5\xd0\xd3\xc6", _OTHERS[".eps"]),
    (b"<svg", _OTHERS[".svg"]),
    (b"v/1\x01", _OTHERS[".exr"]),
    (b"#?RADIANCE", _OTHERS[".hdr"]),
    (b"PK\x03\x04", _OTHERS[".zip"]),
    (b"\x1f\x8b", _OTHERS[".gz"]),
    (b"PAR1", "is a Parquet table; give one picture, or ask about all of its with --table"),
    (b"\x1aE\xdf\xa3", _OTHERS[".mkv"]),
    (b"<html", "is a web page, perhaps an error in place of the picture; fetch it again"),
    (b"<!DOCTYPE html", "is a web page, perhaps an error in place of the picture; fetch it again"),
)
_HEAD = 512  # bytes that say what a file is


def explain_ending(ending: str) -> str:
    """Say why a file that is no picture by its ending is not read, and what would do.

    Example:
        >>> explain_ending(".txt")
        'is not a picture by its name (.txt)'
    """
    default = f"is not a picture by its name ({ending})" if ending else "is not a picture by its name (no ending)"
    return _OTHERS.get(ending, default)


def open_file(file: str | PathLike[str] | bytes) -> Image.Image:
    """Open an image file, by its path or its bytes, without decoding it.

    Raises:
        OSError and others, as Pillow: it is none of `FORMATS`, is not there, or is damaged.
    """
    try:
        return _open(file)
    except UnidentifiedImageError:
        if not _is_heif(read_head(file)) or not register_heif():
            raise
        return _open(file)


def register_heif() -> bool:
    """Let Pillow read HEIC, where pillow-heif is installed; whether that is new."""
    if "HEIF" in _registered() or find_spec("pillow_heif") is None:
        return False
    import_module("pillow_heif").register_heif_opener()
    return True


def explain_contents(head: bytes) -> str | None:
    """Say what a file is that cannot be read, by its first bytes; None where it may be damaged.

    Example:
        >>> explain_contents(b"<svg xmlns='http://www.w3.org/2000/svg'>")
        'is SVG, a drawing without pixels; render it to PNG at the size you want'
    """
    if not head:
        return "is empty; copy it again"
    if _is_heif(head) and "HEIF" not in _registered():
        return _NEED_HEIF
    if head[4:8] == b"ftyp" and b"avif" in head[:32] and not features.check("avif"):
        return _NEED_AVIF
    if head[4:8] == b"ftyp" and not _is_heif(head) and b"avif" not in head[:32]:
        return _OTHERS[".mp4"]
    text = head.lstrip(b"\xef\xbb\xbf \r\n\t")
    text = text[text.find(b"<svg") :] if text.startswith(b"<?xml") and b"<svg" in text else text
    return next((reason for begin, reason in _CONTENTS if text.lower().startswith(begin.lower())), None)


def read_head(file: str | PathLike[str] | bytes) -> bytes:
    """Read the first bytes of a file, given its path or bytes."""
    if isinstance(file, bytes):
        return file[:_HEAD]
    with Path(file).open("rb") as opened:
        return _read_some(opened)


def _read_some(opened: BinaryIO) -> bytes:
    return opened.read(_HEAD)


def _open(file: str | PathLike[str] | bytes) -> Image.Image:
    known = [name for name in FORMATS if name in _registered()]
    return Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=known)


def _is_heif(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS and b"avif" not in head[:32]


def _registered() -> Collection[str]:
    Image.init()  # only the first call does anything
    return Image.OPEN
