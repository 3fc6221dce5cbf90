"""The posterior mean of a question: a picture as the collection explains it, and what it does not explain.

It shows what a list of images cannot: whether the images of an answer suffice to make the picture, and how much of it
changes without them.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nda_index.errors import ConfigError
from nda_index.images import Pixels, encode_png, is_latent
from nda_index.scales import Scale
from nda_index.store.files import ending_of, write_atomically

PICTURE_FORMS, LATENT_FORMS = ("png",), ("npy", "npz")  # endings of the files that a mean is saved in


@dataclass(frozen=True, repr=False)
class Denoised:
    """A picture as a collection explains it: what the best possible local denoiser would make of it.

    Attributes:
        image: float32 [H, W, C], the posterior mean: in [-1, 1], of latents at their own scale.
        by_scale: float32 [scales, H, W, C], that of each scale; `image` is their mean by the scales' weights.
        unexplained: float32 [H, W], how far the picture is from `image`: root mean square over channels, in units of
            pixels from -1 to 1, or of the latents.
        query: uint8 [H, W, C], the picture as it was compared: resized and cropped to the index's size; float16 for a
            latent.
        averaged: number of images that the posterior runs over.
        collection: number of images that the question was about, those that `without` leaves out among them.
        missing: number of images that could not be searched, because their shard was lost; 0 on one machine.
        settings: the question's options, as JSON values.
        scales: the index's scales, in the order of `by_scale`.
        index_hash: sha256 of the index's manifest: names the data that was searched.
        version: version of nda_index that answered.
        seconds: time spent, by stage.
    """

    image: NDArray[np.float32]
    by_scale: NDArray[np.float32]
    unexplained: NDArray[np.float32]
    query: Pixels
    averaged: int
    collection: int
    missing: int
    settings: dict[str, Any]
    scales: tuple[Scale, ...]
    index_hash: str
    version: str
    seconds: dict[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        height, width = self.unexplained.shape
        return f"<Denoised {height} x {width} from {self.averaged:,} images: {self.distance:.3f} away from the picture>"

    @property
    def distance(self) -> float:
        """Root mean square of `unexplained` over the picture."""
        return float(np.sqrt(np.square(self.unexplained, dtype=np.float64).mean()))

    @property
    def latents(self) -> bool:
        """Whether latents were averaged, and not pictures."""
        return is_latent(self.query)

    @property
    def picture(self) -> Pixels:
        """`image` in bytes, uint8 [H, W, C].

        Raises:
            ConfigError: it is a latent, which is no picture.
        """
        if self.latents:
            raise ConfigError("the mean is a latent, and no picture; take its `image`, and decode it with the model")
        return np.asarray(np.rint((self.image + 1) * 127.5).clip(0, 255), np.uint8)

    def to_dict(self) -> dict[str, Any]:
        """Return numbers and settings, without pixels, as JSON values."""
        return {
            "distance": self.distance,
            "averaged": self.averaged,
            "collection": self.collection,
            "missing": self.missing,
            "settings": self.settings,
            "index_hash": self.index_hash,
            "version": self.version,
            "seconds": self.seconds,
        }

    def save(self, path: str | PathLike[str]) -> None:
        """Write `picture` as a PNG file; of latents `image` as floats [C, H, W], an .npy, or an .npz with `latent`.

        Raises:
            ConfigError: the path does not end in .png; of latents, in .npy or .npz.
            StorageError: the file cannot be written.
        """
        path = Path(path)
        form = ending_of(path, LATENT_FORMS if self.latents else PICTURE_FORMS)
        if self.latents:
            buffer, latent = io.BytesIO(), np.ascontiguousarray(self.image.transpose(2, 0, 1))
            np.save(buffer, latent) if form == "npy" else np.savez(buffer, latent=latent)
            write_atomically(path, buffer.getvalue())
            return
        picture = self.picture
        write_atomically(path, encode_png(Image.fromarray(picture if picture.shape[2] == 3 else picture[..., 0])))
