"""Files that are cut short, told from files that are damaged otherwise."""

from __future__ import annotations

from collections.abc import Callable


def is_truncated(data: bytes) -> bool:
    """Tell whether an image file ends before its picture does, by what its encoding says of its length or end.

    Example:
        >>> is_truncated(b"RIFF" + (100).to_bytes(4, "little") + b"WEBPVP8 ")
        True
    """
    return any(data.startswith(begin, at) and cut(data) for begin, at, cut in _ENCODINGS)


def _lacks_png_end(data: bytes) -> bool:
    place = 8
    while place + 8 <= len(data):
        if data[place + 4 : place + 8] == b"IEND":
            return False
        place += 12 + int.from_bytes(data[place : place + 4], "big")
    return place >= len(data)


def _lacks_jpeg_end(data: bytes) -> bool:
    return b"\xff\xd9" not in data[-64:]


def _lacks_gif_end(data: bytes) -> bool:
    return not data.rstrip(b"\0").endswith(b";")


def _is_short_riff(data: bytes) -> bool:
    return int.from_bytes(data[4:8], "little") + 8 > len(data)


def _is_short_bmp(data: bytes) -> bool:
    return int.from_bytes(data[2:6], "little") > len(data)


def _has_short_box(data: bytes) -> bool:
    """Whether a box of an AVIF, HEIC or JPEG 2000 file ends after the file."""
    place = 0
    while place + 8 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        if size == 1:
            size = int.from_bytes(data[place + 8 : place + 16], "big")
        if size == 0:  # to the end of the file, whatever that is
            return data[place + 4 : place + 8] == b"jp2c" and _lacks_codestream_end(data)
        if size < 8:
            return False
        place += size
    return place != len(data)


def _lacks_codestream_end(data: bytes) -> bool:
    return not data.endswith(b"\xff\xd9")


_ENCODINGS: tuple[tuple[bytes, int, Callable[[bytes], bool]], ...] = (
    (b"\x89PNG", 0, _lacks_png_end),
    (b"\xff\xd8", 0, _lacks_jpeg_end),
    (b"GIF8", 0, _lacks_gif_end),
    (b"RIFF", 0, _is_short_riff),
    (b"BM", 0, _is_short_bmp),
    (b"ftyp", 4, _has_short_box),
    (b"jP  ", 4, _has_short_box),
    (b"\xff\x4f\xff\x51", 0, _lacks_codestream_end),
)  # how a file begins, at which byte, and what tells that its end is missing
