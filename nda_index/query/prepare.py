"""From what is asked to a query: a picture decoded, or a latent as it is."""

from __future__ import annotations

from typing import Any

from nda_index.errors import ConfigError
from nda_index.images import crop_region, fit_pixels, read_upright, shows_same
from nda_index.progress import Progress
from nda_index.query.timing import StageTimer
from nda_index.question import Query, Question
from nda_index.sources import read_latent
from nda_index.store.config import IndexConfig


def prepare_query(image: Any, config: IndexConfig, question: Question, top: int, progress: Progress | None) -> Query:
    """Read what is asked about an index; `Index.attribute` has the arguments and errors.

    Args:
        image: what holds the picture or the latent.
        config: of the index.
        question: the options.
        top: number of images in the answer.
        progress: of the query.
    """
    if config.latents:
        return _prepare_latent(image, config, question, top, progress)
    timer = StageTimer()
    with timer.stage("decode"):
        upright, region = read_upright(image, None).image, question.region
        whole = crop_region(upright, region) if region else upright
        pixels = fit_pixels(whole, config.image_size, config.channels)
    picture = upright.convert("RGB") if config.pictures else None
    return Query(pixels, question, top, progress, timer.seconds["decode"], picture)


def _prepare_latent(image: Any, config: IndexConfig, question: Question, top: int, progress: Progress | None) -> Query:
    if question.region is not None:
        raise ConfigError(
            f"region is {question.region}, and the index holds latents, which are asked about as a whole; leave it out"
        )
    timer = StageTimer()
    with timer.stage("decode"):
        latent = read_latent(image, config.shape)
        picture = None if latent.picture is None else read_upright(latent.picture, None).image.convert("RGB")
    if picture is not None and not shows_same(picture, config.shape):
        raise ConfigError(
            f"the picture of the latent is {picture.width} x {picture.height} pixels, not of the proportions of "
            f"{list(config.shape)}; give it as it was encoded, cropped and resized"
        )
    return Query(latent.values, question, top, progress, timer.seconds["decode"], picture)
