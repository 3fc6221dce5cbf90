"""Attribution methods that need no model: a score of every training image for every query.

Each takes training images and queries, uint8 [N, H, W, C] and [Q, H, W, C] of one size, and returns float64 [Q, N].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nda_index.errors import ConfigError
from nda_index.exact.posterior import score_views
from nda_index.images import to_float
from nda_index.progress import quiet
from nda_index.question import Options, as_question
from nda_index.recipe import Recipe, Term, as_recipe
from nda_index.scales import Scale

if TYPE_CHECKING:
    from typing_extensions import Unpack

Pictures = NDArray[np.uint8]
Scores = NDArray[np.float64]
Method = Callable[[Pictures, Pictures], Scores]

BLOCK = 1024  # training images at a time


def posterior_scores(
    train: Pictures,
    queries: Pictures,
    scales: Sequence[Scale],
    timestep: int | Sequence[int] | None,
    **options: Unpack[Options],
) -> Scores:
    """Score images by the exact patch posterior (arXiv 2510.14269), as `Index.scores` does, without an index.

    Args:
        train: uint8 [N, H, W, C].
        queries: uint8 [Q, H, W, C].
        scales: their scores are summed with their weights; each costs a pass.
        timestep: one, or several, which are averaged; each costs a pass. None where `recipe` is given.
        **options: as for `Index.scores`. `mode`, `candidates` and `where` have no effect.

    Raises:
        ConfigError: an option breaks a rule, queries and training images differ in size, or a patch is larger.

    Example:
        >>> pictures = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), np.uint8)
        >>> posterior_scores(pictures, pictures[4:5], [Scale(3)], timestep=20).argmax()
        np.int64(4)
    """
    question = as_question(timestep, **options)
    if queries.shape[1:] != train.shape[1:]:
        raise ConfigError(
            f"queries are {list(queries.shape[1:])} and training images {list(train.shape[1:])}; "
            "resize them to one size"
        )
    for scale in scales:
        scale.check_fits(*train.shape[1:3])
    pixels = to_float(_channels_first(train))
    blocks = [pixels[first : first + BLOCK] for first in range(0, len(pixels), BLOCK)]
    rows = [
        score_views(
            question.views(query, scales),
            lambda: blocks,
            len(pixels),
            question.posterior,
            partial(quiet, "score"),
        ).scores
        for query in _channels_first(queries)
    ]
    return np.stack(rows)


def recipe_scores(
    train: Pictures, queries: Pictures, recipe: str | Recipe | Sequence[Term], *, seed: int = 0
) -> Scores:
    """Score images by a recipe, as `Index.scores` does, without an index.

    Args:
        train: uint8 [N, H, W, C].
        queries: uint8 [Q, H, W, C].
        recipe: as for `Index.attribute`; each term and draw costs a pass.
        seed: number of the first noise draw.

    Raises:
        ConfigError: as `posterior_scores`.

    Example:
        >>> pictures = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), np.uint8)
        >>> recipe_scores(pictures, pictures[4:5], "models").argmax()
        np.int64(4)
    """
    return posterior_scores(train, queries, as_recipe(recipe).scales, None, recipe=recipe, seed=seed)


def pixel_distance(train: Pictures, queries: Pictures) -> Scores:
    """Score images by minus the squared distance of the pixels."""
    a, b = _flat(queries), _flat(train)
    return np.asarray(2 * a @ b.T - (b**2).sum(axis=1) - (a**2).sum(axis=1)[:, None], np.float64)


def pixel_cosine(train: Pictures, queries: Pictures) -> Scores:
    """Score images by the cosine of the pixels, as values in [-1, 1]."""
    return embedding_cosine(train, queries, _flat)


def embedding_cosine(train: Pictures, queries: Pictures, embed: Callable[[Pictures], NDArray[np.floating]]) -> Scores:
    """Score images by the cosine of their embeddings, by CLIP or any other model.

    Args:
        train: uint8 [N, H, W, C].
        queries: uint8 [Q, H, W, C].
        embed: uint8 [n, H, W, C] to floats [n, D].

    Example:
        >>> pictures = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), np.uint8)
        >>> embedding_cosine(pictures, pictures[4:5], lambda batch: batch.mean(axis=(1, 2)) - 128).argmax()
        np.int64(4)
    """
    a, b = (np.asarray(embed(pictures), np.float64) for pictures in (queries, train))
    a, b = (each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-300) for each in (a, b))
    return np.asarray(a @ b.T, np.float64)


def random_scores(train: Pictures, queries: Pictures) -> Scores:
    """Draw scores that know nothing: standard normal, the same every time."""
    return np.random.default_rng(0).standard_normal((len(queries), len(train)))


def _channels_first(pictures: Pictures) -> Pictures:
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))


def _flat(pictures: Pictures) -> NDArray[np.float64]:
    return np.asarray(to_float(pictures).reshape(len(pictures), -1), np.float64)
