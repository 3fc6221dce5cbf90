"""The settings of an index's build, as its manifest keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nda_index.scales import Scale


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
        channels: 3 or 1.
        scales: of the index.
        source: kind of the source.
        coarse: of each scale, by its name.
        pictures: whether regions of pictures at their own size can be found.

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

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images."""
        return self.channels, *self.image_size

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values, as they are on disk."""
        return {
            "image_size": list(self.image_size),
            "channels": self.channels,
            "scales": [asdict(scale) for scale in self.scales],
            "source": self.source,
            "coarse": {name: asdict(coarse) for name, coarse in self.coarse.items()},
            "pictures": self.pictures,
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
        )
