"""Images: read from whatever holds one, in one rule for every depth and colour, and resized as the index compares them.

docs/sources.md has the rule and the forms.
"""

from nda_index.images.decoding import (
    Picture,
    crop_region,
    decode_image,
    fit_pixels,
    open_upright,
    read_picture,
    read_upright,
)
from nda_index.images.encodings import PICTURE_ENDINGS, explain_ending
from nda_index.images.forms import arrange_axes, describe_input, measure_side
from nda_index.images.latents import Latent, fit_latent, is_latent, shows_same
from nda_index.images.output import Pixels, encode_jpeg, encode_png, encode_small, to_float
from nda_index.images.values import ValueRange, check_values, parse_value_range

__all__ = [
    "PICTURE_ENDINGS",
    "Latent",
    "Picture",
    "Pixels",
    "ValueRange",
    "arrange_axes",
    "check_values",
    "crop_region",
    "decode_image",
    "describe_input",
    "encode_jpeg",
    "encode_png",
    "encode_small",
    "explain_ending",
    "fit_latent",
    "fit_pixels",
    "is_latent",
    "measure_side",
    "open_upright",
    "parse_value_range",
    "read_picture",
    "read_upright",
    "shows_same",
    "to_float",
]
