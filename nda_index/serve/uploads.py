"""Pictures from strangers: which files are accepted, decided before anything is decoded."""

from __future__ import annotations

import io

from PIL import Image

from nda_index.images.quiet import no_warnings
from nda_index.serve.refusal import Refusal
from nda_index.serve.settings import FORMATS


def open_picture(data: bytes, pixels: int) -> Image.Image:
    """Open a picture of a known format and a bearable size, without decoding it.

    Args:
        data: the file's bytes.
        pixels: width times height at most. Decoding takes several bytes of memory for each.

    Raises:
        Refusal: it is not a picture of these formats, or too large.
    """
    try:
        with no_warnings():  # Pillow warns at another number of pixels; ours is checked below
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise Refusal(413, "pixels", f"the picture has too many pixels; send at most {pixels:,} in all") from error
    except Exception as error:  # parsers of damaged files raise almost anything
        problem = "the upload is empty" if not data else "the upload is not a picture that can be read"
        raise Refusal(415, "image", f"{problem}; send one of {', '.join(FORMATS)}") from error
    if picture.width * picture.height > pixels:
        raise Refusal(
            413,
            "pixels",
            f"the picture has {picture.width:,} x {picture.height:,} pixels; send at most {pixels:,} in all",
        )
    return picture
