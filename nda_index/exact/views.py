"""Views of a query: each of its noisy versions at each scale that looks at it. Scores are sums over views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nda_index.diffusion import NoiseSetting, NoisyImage, noisy_images
from nda_index.images import Pixels, to_float
from nda_index.recipe import Recipe, Term
from nda_index.scales import Scale


@dataclass(frozen=True)
class View:
    """One noisy version of the query at one scale.

    Attributes:
        noisy: the query.
        scale: its patches.
        factor: its part in the sum of scores.
        timestep: of the noise.
        draw, draws: number of the noise draw, and of how many: views of one draw err together.
    """

    noisy: NoisyImage
    scale: Scale
    factor: float
    timestep: int = 0
    draw: int = 0
    draws: int = 1

    @property
    def positions(self) -> int:
        """Number of query positions."""
        return self.scale.query_positions(*self.noisy.pixels.shape[1:])


def views_of(noisy: Sequence[NoisyImage], scales: Sequence[Scale]) -> list[View]:
    """Return all pairs of noisy images and scales: noisy images are averaged, scales are summed with their weights."""
    return [View(image, scale, scale.weight / len(noisy)) for scale in scales for image in noisy]


def views_of_terms(terms: Sequence[Term], factors: Sequence[float], image: Pixels, seed: int) -> list[View]:
    """Make the views that terms look through: a term's draws are averaged. Terms at one timestep share their noise.

    Args:
        terms: each of a scale and a timestep.
        factors: what each term's scores are multiplied with.
        image: uint8 [C, H, W], the query.
        seed: number of the first draw.
    """
    clean = to_float(image)
    versions: dict[tuple[int, int, float], list[NoisyImage]] = {}
    views = []
    for term, factor in zip(terms, factors, strict=True):
        key = term.timestep, term.draws, term.temper
        if key not in versions:
            noise: NoiseSetting = "average" if term.draws else "none"
            versions[key] = noisy_images(
                clean, term.timestep, noise, seed=seed, draws=max(1, term.draws), temper=term.temper
            )
        draws = len(versions[key])
        views += [
            View(noisy, term.scale, factor / draws, term.timestep, draw, draws)
            for draw, noisy in enumerate(versions[key])
        ]
    return views


def views_of_recipe(recipe: Recipe, image: Pixels, seed: int) -> list[View]:
    """Make the views of a recipe. The scores of all images sum to a term's weight times the query's pixels.

    Raises:
        ConfigError: a patch is larger than the query.
    """
    height, width = image.shape[1:]
    merged = {scale.name: scale for scale in recipe.scales}
    for scale in merged.values():
        scale.check_fits(height, width)
    terms = [replace(term, scale=merged[term.scale.name]) for term in recipe.terms]
    factors = [term.scale.weight * height * width / term.scale.query_positions(height, width) for term in recipe.terms]
    return views_of_terms(terms, factors, image, seed)


def total_score(views: Sequence[View]) -> float:
    """Return what the scores of all training images sum to (without `per_image_topk`)."""
    return sum(view.factor * view.positions for view in views)


def scales_of(views: Sequence[View]) -> list[Scale]:
    """Return the scales of views, each once, in the order of the views."""
    return list(dict.fromkeys(view.scale for view in views))
