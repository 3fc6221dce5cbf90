"""Pictures from strangers: what is looked at before anything is decoded, and reading no more than that."""

from __future__ import annotations

import io
import warnings

from PIL import Image

from nda_index.serve.refusal import Refusal
from nda_index.serve.settings import FORMATS


def opened_picture(data: bytes, pixels: int) -> Image.Image:
    """A picture whose file has a known format and a bearable size, not decoded yet.

    Args:
        data: the file's bytes.
        pixels: width times height at most.

    Raises:
        Refusal: it is no picture of these formats, or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures at another size; ours is checked below
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise Refusal(413, "pixels", f"the picture has too many pixels; send at most {pixels:,} in all") from error
    except Exception as error:  # parsers of damaged files raise almost anything
        what = "the upload is empty" if not data else "the upload is no picture that can be read"
        raise Refusal(415, "image", f"{what}; send one of {', '.join(FORMATS)}") from error
    if picture.width * picture.height > pixels:
        raise Refusal(
            413,
            "pixels",
            f"the picture has {picture.width:,} x {picture.height:,} pixels; send at most {pixels:,} in all",
        )
    return picture
