"""What is wanted of a build: its arguments, checked, and the source, opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from nda_index.coarse.trainer import check_faiss
from nda_index.errors import ConfigError
from nda_index.images import ValueRange, measure_side
from nda_index.indexing.estimate import Estimate, estimate_need
from nda_index.indexing.plan import ScalePlan, plan_scales
from nda_index.pictures.record import make_record
from nda_index.scales import Scale
from nda_index.sources import OpenSource, Source, open_source, select_positions
from nda_index.store.config import LATENTS, PIXELS, CoarseConfig, IndexConfig
from nda_index.trust.null import DEFAULT_PICTURES
from nda_index.version import __version__

DEFAULT_SCALES = (Scale(patch=4), Scale(patch=10, downscale=2))  # those of the recipe "models": docs/method.md
DEFAULT_SIZE = 32  # pixels of a side
DEFAULT_MEMORY = 3 << 30
PHOTOGRAPH = 128  # pixels of the shorter side from which on regions of a picture can be found
LOOKED_AT = 64  # images of a source


@dataclass(frozen=True)
class Request:
    """The arguments of a build, checked.

    Attributes:
        opened: the source.
        size: (height, width).
        channels: 3 or 1; of latents any number.
        scales: of the index.
        memory, coarse_stride: as for `plan_scales`.
        max_failures: images that may be unreadable.
        pictures: whether regions of pictures at their own size are to be found.
        settings: what of this must be the same when a build is resumed, as JSON values.
    """

    opened: OpenSource
    size: tuple[int, int]
    channels: int
    scales: tuple[Scale, ...]
    memory: int
    coarse_stride: int | None
    max_failures: int
    pictures: bool
    settings: dict[str, Any]

    @property
    def latents(self) -> bool:
        """Whether latents are indexed, and not pictures."""
        return self.opened.latents is not None

    @property
    def values(self) -> str:
        """Type of the images' numbers, as `IndexConfig` has it."""
        return LATENTS if self.latents else PIXELS

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images."""
        return self.channels, *self.size

    def plans(self, images: int) -> list[ScalePlan]:
        """Choose how the patches of this number of images are taken and kept."""
        return plan_scales(images, self.size, self.scales, self.memory, self.coarse_stride)

    def part(self, positions: range) -> Request:
        """The request of a part of the source, for a shard."""
        settings = {**self.settings, "images in the source": len(positions), "first image": positions.start}
        return replace(self, opened=select_positions(self.opened, positions), settings=settings)

    def config(self, plans: Sequence[ScalePlan]) -> IndexConfig:
        """Return what a manifest says of the settings."""
        coarse = {plan.scale.name: CoarseConfig(plan.stride, plan.per_image, plan.codec.codec) for plan in plans}
        return IndexConfig(self.size, self.channels, self.scales, self.opened.kind, coarse, self.pictures, self.values)


def check_request(
    source: Source,
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    scales: Sequence[Scale] = DEFAULT_SCALES,
    columns: Sequence[str] | None = None,
    max_failures: int | None = None,
    coarse_stride: int | None = None,
    memory: int = DEFAULT_MEMORY,
    pictures: bool | None = None,
    image_column: str | None = None,
    split: str | None = None,
    value_range: str | ValueRange | None = None,
    latents: bool | tuple[int, int, int] = False,
) -> Request:
    """Check the arguments of `nda_index.build_index` and open the source.

    `latents` may be (C, H, W), where they must have this shape.
    """
    if latents:
        _check_for_pictures(
            image_size=image_size, channels=channels, pictures=pictures or None, value_range=value_range
        )
    height, width = _check_size(DEFAULT_SIZE if image_size is None else image_size)
    channels = 3 if channels is None else channels
    if channels not in (1, 3):
        raise ConfigError(f"channels is {channels}; it must be 3 (colour) or 1 (grey)")
    _check_scales(scales)
    _check_count("coarse_stride", coarse_stride, 1)
    _check_count("max_failures", max_failures, 0)
    _check_count("memory", memory, 1)
    check_faiss()  # before anything is written: without it nothing can be built
    opened = open_source(
        source, columns=columns, image_column=image_column, split=split, value_range=value_range, latents=latents
    )
    if opened.latents:
        channels, height, width = opened.latents
    for scale in scales:
        scale.check_fits(height, width)
    pictures = not latents and (are_photographs(opened) if pictures is None else pictures)
    settings = {
        "source": opened.kind,
        "images in the source": opened.count,
        "image_size": [height, width],
        "channels": channels,
        "scales": [asdict(scale) for scale in scales],
        "columns": opened.schema.names,
        "coarse_stride": coarse_stride,
        "memory": memory,
        "pictures": pictures,
        "value_range": opened.value_range,
        "latents": bool(latents),
        "version": __version__,
    }
    allowed = max(10, opened.count // 100) if max_failures is None else max_failures
    return Request(opened, (height, width), channels, tuple(scales), memory, coarse_stride, allowed, pictures, settings)


def _check_for_pictures(**given: Any) -> None:
    """Refuse options of pictures where latents are indexed."""
    for name, value in given.items():
        if value is not None:
            raise ConfigError(
                f"{name} is {value!r}, and latents are indexed, which are compared as they are given: leave {name} out"
            )


def _check_scales(scales: Sequence[Scale]) -> None:
    if isinstance(scales, str | Scale) or not scales or not all(isinstance(scale, Scale) for scale in scales):
        raise ConfigError(f"scales is {scales!r}; it must be a list of one or more, as [Scale(patch=7)]")
    names = [scale.name for scale in scales]
    if len(set(names)) < len(names):
        raise ConfigError(f"scales are {', '.join(names)}; no two may have the same patch and downscale")


def are_photographs(opened: OpenSource) -> bool:
    """Tell whether most of a source's first images have a shorter side of `PHOTOGRAPH` pixels or more.

    Example:
        >>> import numpy as np
        >>> are_photographs(open_source(np.zeros((3, 32, 32, 3), np.uint8)))
        False
    """
    sides = [measure_side(raw.data) for raw in islice(opened.read(), LOOKED_AT)]
    return sum(side >= PHOTOGRAPH for side in sides) * 2 > len(sides)


def estimate_build(source: Source, *, null: int | Sequence[Any] = DEFAULT_PICTURES, **options: Any) -> Estimate:
    """Estimate what a build will need, without writing anything.

    Args:
        source: as for `build_index`.
        null: as for `build_index`.
        options: `image_size`, `channels`, `scales`, `columns`, `max_failures`, `coarse_stride`, `memory`, `pictures`,
            `image_column`, `split`, `value_range` and `latents` as for `build_index`.

    Raises:
        As `build_index`.

    Example:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
        >>> estimate_build(images, image_size=16, scales=[Scale(5)]).patches
        5120
    """
    wanted = check_request(source, **options)
    plans = wanted.plans(wanted.opened.count)
    asked = 0 if wanted.latents else null if isinstance(null, int) else len(null)
    describe = make_record if wanted.pictures else None
    return estimate_need(wanted.opened, wanted.size, wanted.channels, plans, asked, describe)


def _check_size(image_size: int | tuple[int, int]) -> tuple[int, int]:
    size = image_size if isinstance(image_size, tuple | list) else (image_size, image_size)
    whole = [side for side in size if isinstance(side, int | np.integer) and not isinstance(side, bool)]
    if len(size) != 2 or len(whole) != 2 or min(whole) < 1:
        raise ConfigError(
            f"image_size is {image_size!r}; it must be a whole number of pixels above 0, as 32, or (height, width)"
        )
    return int(whole[0]), int(whole[1])


def _check_count(name: str, value: int | None, least: int) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least):
        raise ConfigError(f"{name} is {value!r}; it must be a whole number, {least} or more")
