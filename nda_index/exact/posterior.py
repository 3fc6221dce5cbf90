"""From log masses to scores: the softmax over all training images, block by block.

A block of training images gives `logsumexp` of its logits per image and query position. The normaliser of a position is
the `logsumexp` of these over all images, so blocks, shards and machines combine exactly and in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from nda_index.diffusion import NoisyImage
from nda_index.errors import ConfigError
from nda_index.exact import cpu, reference
from nda_index.scales import Scale

BACKENDS = ("auto", "reference", "cpu")
KEPT_BYTES = 1 << 30  # above it the masses of all images are computed twice instead of being kept


@dataclass(frozen=True)
class Masses:
    """Log posterior masses of a block of N images at P query positions, not yet normalised.

    Attributes:
        total: float64 [N, P], over all windows of an image: what the normaliser is made of.
        counted: float64 [N, P], over the windows that count for its score: all, or its `per_image_topk` best.
    """

    total: NDArray[np.float64]
    counted: NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Scores of N images, float64 [N], and the log of the normaliser at every query position, float64 [P]."""

    scores: NDArray[np.float64]
    log_normaliser: NDArray[np.float64]


@dataclass(frozen=True)
class PosteriorSettings:
    """What the softmax runs over and what counts; `nda_index.exact.image_scores` explains each.

    The default `mask_value` lets windows match only those that stick out of the image by the same amount.
    """

    mask_value: float = np.inf
    per_image_topk: int | None = None
    mirror: bool = False
    backend: str = "auto"

    def __post_init__(self) -> None:
        if np.isnan(self.mask_value):
            raise ConfigError("mask_value is nan; it must be a number or inf")
        if self.per_image_topk is not None and self.per_image_topk < 1:
            raise ConfigError(f"per_image_topk is {self.per_image_topk}; it must be 1 or more, or None for all")
        if self.backend not in BACKENDS:
            raise ConfigError(f"backend is {self.backend!r}; it must be one of {', '.join(map(repr, BACKENDS))}")


def masses(noisy: NoisyImage, train: NDArray[np.floating], scale: Scale, settings: PosteriorSettings) -> Masses:
    """Log masses of a block of clean training images, floats [N, C, H, W] in [-1, 1]."""
    block = np.concatenate([train, train[..., ::-1]]) if settings.mirror else train
    if settings.backend == "reference":
        tensors = reference.log_masses(
            torch.from_numpy(np.array(noisy.pixels, np.float64)),
            torch.from_numpy(np.array(block, np.float64)) * noisy.signal,
            scale,
            sigma=noisy.sigma,
            mask_value=settings.mask_value,
            per_image_topk=settings.per_image_topk,
        )
        total, counted = tensors[0].numpy(), tensors[1].numpy()
    else:
        total, counted = cpu.log_masses(noisy, block, scale, settings.mask_value, settings.per_image_topk)
    if settings.mirror:  # an image and its mirror image are two training images with one score
        n = len(train)
        total, counted = np.logaddexp(total[:n], total[n:]), np.logaddexp(counted[:n], counted[n:])
    return Masses(total, counted)


def position_weights(counted: NDArray[np.floating], log_normaliser: NDArray[np.float64]) -> NDArray[np.float64]:
    """Posterior weight of every image at every query position: [N, P].

    Over all images each position sums to 1, or to 0 where no training window can match: with `mask_value=inf` and a
    train_stride above 1, a window at the border may find none that sticks out by the same amount.
    """
    with np.errstate(under="ignore", over="ignore"):
        weights: NDArray[np.float64] = np.exp(counted - _finite(log_normaliser))
    return weights


def scores_of_blocks(blocks: Callable[[], Iterable[Masses]], count: int, positions: int) -> Scores:
    """Scores over any number of blocks, with memory for at most `KEPT_BYTES` of masses.

    Args:
        blocks: gives the blocks; called once, or twice where there is too much to keep.
        count: number of images in all blocks.
        positions: number of query positions.

    Returns:
        The scores (at scale weight 1), in the blocks' order.
    """
    if 4 * count * positions > KEPT_BYTES:
        normaliser = np.full(positions, -np.inf)
        for block in blocks():
            normaliser = np.logaddexp(normaliser, _log_sum(block.total))
        parts = [position_weights(block.counted, normaliser).sum(axis=1) for block in blocks()]
        return Scores(np.concatenate(parts), normaliser)
    normaliser, kept = np.full(positions, -np.inf), []
    for block in blocks():
        offset = _log_sum(block.total)
        normaliser = np.logaddexp(normaliser, offset)
        # Relative to the block's own sum float32 is enough: what is far below it does not matter.
        kept.append((offset, (block.counted - _finite(offset)).astype(np.float32)))
    parts = [position_weights(part, _finite(normaliser) - _finite(offset)).sum(axis=1) for offset, part in kept]
    return Scores(np.concatenate(parts), normaliser)


def _log_sum(total: NDArray[np.float64]) -> NDArray[np.float64]:
    highest = _finite(total.max(axis=0))
    with np.errstate(under="ignore", divide="ignore"):
        return np.asarray(highest + np.log(np.exp(total - highest).sum(axis=0)), np.float64)


def _finite(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isfinite(logs), logs, 0.0)
