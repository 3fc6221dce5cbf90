"""The settings of an index's build, as its manifest keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nda_index.scales import Scale

PIXELS, LATENTS = "uint8", "float16"  # what an index holds of an image, by the type of its values


@dataclass(frozen=True)
class CoarseConfig:
    """How the patches of one scale are kept.

    Attributes:
        stride: every how many pixels a patch of a training image was taken.
        patches_per_image: number of patches of an image.
        codec: "sq8" or "pq", how a patch is coded.
    """

    stride: int
    patches_per_image: int
    codec: str


@dataclass(frozen=True)
class IndexConfig:
    """The settings of a build.

    Attributes:
        image_size: (height, width) of the images.
        channels: 3 or 1; of latents any number.
        scales: of the index.
        source: kind of the source.
        coarse: of each scale, by its name.
        pictures: whether regions of pictures at their own size can be found.
        values: "uint8" for pixels, "float16" for latents.

    Example:
        >>> coarse = {"p7r1": CoarseConfig(2, 256, "sq8")}
        >>> config = IndexConfig((32, 32), 3, (Scale(7),), "folder", coarse)
        >>> IndexConfig.from_json(config.to_json()) == config
        True
    """

    image_size: tuple[int, int]
    channels: int
    scales: tuple[Scale, ...]
    source: str
    coarse: Mapping[str, CoarseConfig]
    pictures: bool = False
    values: str = PIXELS

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images."""
        return self.channels, *self.image_size

    @property
    def latents(self) -> bool:
        """Whether the images are latents, and not pictures."""
        return self.values == LATENTS

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values, as they are on disk."""
        return {
            "image_size": list(self.image_size),
            "channels": self.channels,
            "scales": [asdict(scale) for scale in self.scales],
            "source": self.source,
            "coarse": {name: asdict(coarse) for name, coarse in self.coarse.items()},
            "pictures": self.pictures,
            "values": self.values,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> IndexConfig:
        """Return the settings that `to_json` wrote."""
        height, width = values["image_size"]
        return cls(
            image_size=(height, width),
            channels=values["channels"],
            scales=tuple(Scale(**scale) for scale in values["scales"]),
            source=values["source"],
            coarse={name: CoarseConfig(**coarse) for name, coarse in values["coarse"].items()},
            pictures=values.get("pictures", False),
            values=values.get("values", PIXELS),
        )
