"""From pixels to scores: the softmax over all training images, block by block, of all views of a question at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from nda_index.diffusion import NoisyImage
from nda_index.errors import ConfigError
from nda_index.exact import cpu, gpu, reference
from nda_index.exact.masses import Masses, merge_log_totals
from nda_index.exact.views import View, scales_of
from nda_index.images import to_float
from nda_index.scales import Scale

BACKENDS = ("auto", "reference", "cpu", "gpu")
KEPT_BYTES = 1 << 30  # above it the masses of all images are computed twice instead of being kept
KEPT_BYTES_OF_A_GPU = 8 << 30
BYTES_OF_A_LAUNCH = 1 << 28  # of the images that a GPU is given at once
FEWEST_IMAGES = 16  # for which a GPU without memory is asked again

Block = NDArray[np.floating | np.uint8] | torch.Tensor  # clean training images, [N, C, H, W]: floats, or bytes
BlockMasses: TypeAlias = Sequence[Masses | gpu.DeviceMasses]  # of a block, for each view


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


@dataclass(frozen=True)
class ViewScores:
    """Scores summed over views.

    Attributes:
        scores: float64 [N].
        log_normalisers: of each view's whole posterior, float64 [P].
        left_out: at most this fraction of a position's mass was too small to be computed and is missing.
        backend: what computed them; "gpu and cpu" where the GPU had too little memory for some.
    """

    scores: NDArray[np.float64]
    log_normalisers: tuple[NDArray[np.float64], ...]
    left_out: float
    backend: str


@dataclass(frozen=True)
class PosteriorSums:
    """What some images add to the posterior, before its normaliser is known.

    Attributes:
        log_totals: log of the mass of these images, float64 [P] for each view.
        scores: from the log normalisers of the whole posterior, [P] for each view, to the images' scores. It is the
            second pass, and is called once.
    """

    log_totals: list[NDArray[np.float64]]
    scores: Callable[[Sequence[NDArray[np.float64]]], ViewScores]


def block_masses(
    views: Sequence[View],
    train: NDArray[np.floating],
    settings: PosteriorSettings,
    floors: Sequence[NDArray[np.float64] | None] | None = None,
) -> list[Masses]:
    """Return the masses of a block of clean training images, floats [N, C, H, W] in [-1, 1], for each view.

    `floors` may hold what other images have at least added to each view's log normaliser, [P] each: it saves work.
    """
    block = np.concatenate([train, train[..., ::-1]]) if settings.mirror else train
    floors = floors if floors is not None else [None] * len(views)
    masses: dict[int, Masses] = {}
    for scale in dict.fromkeys(view.scale for view in views):
        chosen = [i for i, view in enumerate(views) if view.scale == scale]
        queries = [views[i].noisy for i in chosen]
        if settings.backend == "reference":
            results = [_sum_by_definition(query, block, scale, settings) for query in queries]
        else:
            results = cpu.masses(
                queries, block, scale, settings.mask_value, settings.per_image_topk, [floors[i] for i in chosen]
            )
        masses.update(zip(chosen, results, strict=True))
    ordered = [masses[i] for i in range(len(views))]
    return [_fold_mirror_images(part, len(train)) for part in ordered] if settings.mirror else ordered


def image_weights(
    views: Sequence[View], train: Block, settings: PosteriorSettings, log_totals: Sequence[NDArray[np.float64]]
) -> list[NDArray[np.float64]]:
    """Weigh clean images [n, C, H, W] at every query position of every view, over known totals: float64 [n, P] each.

    The images need not be among those that the totals are of: their weights may be above 1.
    """
    on_gpu = gpu.attempt(
        settings.backend,
        lambda: _weigh(_masses_on_gpu(views, gpu.move_pixels(train), settings, log_totals), log_totals),
    )
    return (
        on_gpu if on_gpu is not None else _weigh(block_masses(views, on_cpu(train), settings, log_totals), log_totals)
    )


def _weigh(
    masses: Sequence[Masses | gpu.DeviceMasses], log_totals: Sequence[NDArray[np.float64]]
) -> list[NDArray[np.float64]]:
    return [part.weights(total) for part, total in zip(masses, log_totals, strict=True)]


def score_views(
    views: Sequence[View],
    blocks: Callable[[], Iterable[Block]],
    count: int,
    settings: PosteriorSettings,
    progress: Callable[[int, int], None],
) -> ViewScores:
    """Score `count` images that are all there are; arguments as for `sum_posterior`."""
    sums = sum_posterior(views, blocks, count, settings, progress)
    return sums.scores(sums.log_totals)


def sum_posterior(
    views: Sequence[View],
    blocks: Callable[[], Iterable[Block]],
    count: int,
    settings: PosteriorSettings,
    progress: Callable[[int, int], None],
    *,
    keep_masses: bool = True,
) -> PosteriorSums:
    """Sum the masses of images that come in blocks: the first of two passes, in bounded memory.

    Args:
        views: of the query.
        blocks: gives the images, [n, C, H, W], as bytes or floats in [-1, 1], arrays or tensors; is called once, or
            twice where there are too many masses to keep.
        count: number of images.
        settings: what the softmax runs over.
        progress: is called with the number of images done and of all to do.
        keep_masses: False where only the totals are wanted.

    Returns:
        The totals of these images; its `scores` is the second pass.

    Raises:
        ConfigError: the backend is "gpu" and there is none.
    """
    totals = [np.full(view.positions, -np.inf) for view in views]
    if settings.backend == "gpu" or (settings.backend == "auto" and gpu.available()):
        if not gpu.available():
            raise ConfigError("backend is 'gpu', but there is no CUDA device with Triton; take backend 'cpu' or 'auto'")
        kept_bytes = KEPT_BYTES_OF_A_GPU

        def compute(train: Block) -> list[BlockMasses]:
            return _compute_what_fits(views, gpu.move_pixels(train), settings, totals)

        def read() -> Iterable[Block]:
            return _join_blocks(blocks())

    else:
        kept_bytes, read = KEPT_BYTES, blocks

        def compute(train: Block) -> list[BlockMasses]:
            return [block_masses(views, on_cpu(train), settings, totals)]

    keep = keep_masses and 4 * count * sum(view.positions for view in views) <= kept_bytes
    kept: list[BlockMasses] = []
    done, left_out, backends = 0, 0.0, dict[str, None]()
    to_do = count if keep else 2 * count
    for train in read():
        for block in compute(train):
            totals[:] = [merge_log_totals([total, part.log_total]) for total, part in zip(totals, block, strict=True)]
            left_out += max(part.left_out for part in block)
            backends[block[0].backend] = None
            if keep:
                kept.append(block)
        done += len(train)
        progress(done, to_do)

    def score(normalisers: Sequence[NDArray[np.float64]]) -> ViewScores:
        backend = " and ".join(backends) or settings.backend
        if keep:
            parts = [_score_block(views, block, normalisers) for block in kept]
            return ViewScores(np.concatenate([np.empty(0), *parts]), tuple(normalisers), left_out, backend)
        parts, missing, scored = [], left_out, count
        for train in read():
            for again in compute(train):
                parts.append(_score_block(views, again, normalisers))
                missing += max(part.left_out for part in again)
            scored += len(train)
            progress(scored, to_do)
        return ViewScores(np.concatenate([np.empty(0), *parts]), tuple(normalisers), missing, backend)

    return PosteriorSums(list(totals), score)


def _compute_what_fits(
    views: Sequence[View], pixels: torch.Tensor, settings: PosteriorSettings, floors: Sequence[NDArray[np.float64]]
) -> list[BlockMasses]:
    """Compute the masses of a block on the GPU; in halves where its memory is too small, on the CPU where they are."""
    try:
        return [_masses_on_gpu(views, pixels, settings, floors)]
    except torch.cuda.OutOfMemoryError:
        pass  # what follows must not run while the error keeps the tensors of the attempt
    torch.cuda.empty_cache()
    if len(pixels) <= FEWEST_IMAGES:
        return [block_masses(views, on_cpu(pixels), settings, floors)]
    halves = torch.tensor_split(pixels, 2)
    return [block for half in halves for block in _compute_what_fits(views, half, settings, floors)]


def _masses_on_gpu(
    views: Sequence[View], pixels: torch.Tensor, settings: PosteriorSettings, floors: Sequence[NDArray[np.float64]]
) -> list[gpu.DeviceMasses]:
    block = torch.cat([pixels, pixels.flip(-1)]) if settings.mirror else pixels  # [N or 2 N, C, H, W]
    masses: dict[int, gpu.DeviceMasses] = {}
    started = []  # a scale is prepared while the GPU is busy with the one before
    for scale in scales_of(views):
        chosen = [i for i, view in enumerate(views) if view.scale == scale]
        finish = gpu.start_masses(
            [views[i].noisy for i in chosen], block, scale, settings.mask_value, settings.per_image_topk,
            [floors[i] for i in chosen],
        )  # fmt: skip
        started.append((chosen, finish))
    for chosen, finish in started:
        masses.update(zip(chosen, finish(), strict=True))
    ordered = [masses[i] for i in range(len(views))]
    return [part.fold(len(pixels)) for part in ordered] if settings.mirror else ordered


def _join_blocks(blocks: Iterable[Block]) -> Iterator[torch.Tensor]:
    """Put small blocks together on the GPU: a launch for few images costs more than the images."""
    waiting: list[torch.Tensor] = []
    for block in blocks:
        waiting.append(gpu.move_pixels(block))
        if sum(part.numel() * part.element_size() for part in waiting) >= BYTES_OF_A_LAUNCH:
            yield torch.cat(waiting)
            waiting = []
    if waiting:
        yield torch.cat(waiting)


def on_cpu(train: Block) -> NDArray[np.floating]:
    """Return a block as an array of floats: bytes in [-1, 1], others as they are."""
    array: NDArray[Any] = train.cpu().numpy() if isinstance(train, torch.Tensor) else train
    return to_float(array) if array.dtype in (np.uint8, np.float16) else array


def _score_block(
    views: Sequence[View], block: BlockMasses, totals: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    parts = [view.factor * part.scores(total) for view, part, total in zip(views, block, totals, strict=True)]
    return np.asarray(sum(parts[1:], parts[0]), np.float64)


def _sum_by_definition(
    query: NoisyImage, train: NDArray[np.floating], scale: Scale, settings: PosteriorSettings
) -> Masses:
    total, counted = reference.log_masses(
        torch.from_numpy(np.array(query.pixels, np.float64)),
        torch.from_numpy(np.array(train, np.float64)) * query.signal,
        scale,
        sigma=query.sigma,
        mask_value=settings.mask_value,
        per_image_topk=settings.per_image_topk,
    )
    unit = total.amax(dim=0).numpy()
    unit = np.where(np.isfinite(unit), unit, 0.0)
    return Masses(np.exp(total.numpy() - unit), np.exp(counted.numpy() - unit), unit, 0.0, "reference")


def _fold_mirror_images(masses: Masses, count: int) -> Masses:
    """Give an image and its mirror image, two training images, one mass."""
    total = masses.total[:count] + masses.total[count:]
    counted = masses.counted[:count] + masses.counted[count:]
    return Masses(total, counted, masses.log_unit, masses.left_out, masses.backend)
