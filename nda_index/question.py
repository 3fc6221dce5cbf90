"""A question: the options that say how a picture is scored, and the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

import numpy as np
from PIL import Image

from nda_index.diffusion import NoiseSetting
from nda_index.errors import ConfigError
from nda_index.exact.posterior import PosteriorSettings
from nda_index.exact.views import View, views_of_recipe, views_of_terms
from nda_index.images import Pixels
from nda_index.progress import Progress
from nda_index.recipe import DEFAULT, Recipe, Term, as_recipe, parse_recipe
from nda_index.scales import Scale

if TYPE_CHECKING:
    from typing_extensions import Unpack

Mode = Literal["ann", "exact"]
DEFAULT_TIMESTEP = 100  # of a question that sets its noise and no timestep
_OF_TIMESTEPS = ("noise", "draws", "temper")  # options that go with timesteps and not with a recipe


class Options(TypedDict, total=False):
    """The options of `Index.attribute` that say how a query is scored; `Question` has their defaults."""

    recipe: str | Recipe | Sequence[Term] | None
    noise: NoiseSetting
    seed: int
    draws: int
    temper: float
    mode: Mode
    candidates: int | None
    per_image_topk: int | None
    mirror: bool
    where: str | None
    region: Sequence[int] | None


@dataclass(frozen=True)
class Question:
    """The options of a query; `Index.attribute` has the meaning of each field.

    It has a recipe, or timesteps at which every scale of the index looks, with `noise`, `draws` and `temper`.
    """

    timesteps: tuple[int, ...] = ()
    recipe: Recipe | None = None
    noise: NoiseSetting = "none"
    seed: int = 0
    draws: int = 8
    temper: float = 1.0
    mode: Mode = "ann"
    candidates: int | None = None
    per_image_topk: int | None = None
    mirror: bool = False
    where: str | None = None
    region: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        if self.recipe is None and not self.timesteps:
            raise ConfigError("timestep is empty; give an integer from 0 to 999, or several")
        if self.recipe is not None and (self.timesteps or _sets_noise(vars(self))):
            raise ConfigError(
                f"recipe is {str(self.recipe)!r}, and timestep, noise, draws or temper are given too; each term of a "
                f"recipe has its own, as 3@100(draws=4, temper=2)"
            )
        if self.noise not in get_args(NoiseSetting):
            known = ", ".join(map(repr, get_args(NoiseSetting)))
            raise ConfigError(f"noise is {self.noise!r}; it must be one of {known}")
        _check_whole("draws", self.draws, 1)
        _check_whole("seed", self.seed, 0)
        for timestep in self.timesteps:
            Term(Scale(1), timestep, temper=self.temper)  # raises for what is not a timestep or a temper
        if self.mode not in ("ann", "exact"):
            raise ConfigError(f"mode is {self.mode!r}; it must be 'ann' or 'exact'")
        if self.candidates is not None:
            _check_whole("candidates", self.candidates, 1, ", or None")
        if not isinstance(self.mirror, bool):
            raise ConfigError(f"mirror is {self.mirror!r}; it must be True or False")
        if self.region is not None:
            _check_region(self.region)

    @property
    def posterior(self) -> PosteriorSettings:
        """The options of the exact stage."""
        return PosteriorSettings(per_image_topk=self.per_image_topk, mirror=self.mirror)

    def posterior_on(self, backend: str) -> PosteriorSettings:
        """Return the options of the exact stage on a backend."""
        return replace(self.posterior, backend=backend)

    def views(self, image: Pixels, scales: Sequence[Scale]) -> list[View]:
        """Make the views of a query uint8 [C, H, W]: those of the recipe, or of an index's scales at all timesteps."""
        if self.recipe is not None:
            return views_of_recipe(self.recipe, image, self.seed)
        draws = {"none": 0, "draw": 1, "average": self.draws}[self.noise]
        terms = [Term(scale, timestep, draws, self.temper) for scale in scales for timestep in self.timesteps]
        return views_of_terms(terms, [term.scale.weight / len(self.timesteps) for term in terms], image, self.seed)

    @property
    def passes(self) -> int:
        """Number of noisy versions of the query, over the terms of its recipe or over its timesteps."""
        if self.recipe is not None:
            return self.recipe.passes
        return len(self.timesteps) * (self.draws if self.noise == "average" else 1)

    def as_settings(self) -> dict[str, Any]:
        """Return the fields as JSON values; what has no effect on this question is left out."""
        settings: dict[str, Any] = {"mode": self.mode}
        if self.recipe is not None:
            settings |= {"recipe": str(self.recipe), "recipe_name": self.recipe.name, "seed": self.seed}
        else:
            settings |= {"timestep": list(self.timesteps), "noise": self.noise, "temper": self.temper}
            settings |= {} if self.noise == "none" else {"seed": self.seed}
            settings |= {"draws": self.draws} if self.noise == "average" else {}
        settings |= {"mirror": self.mirror, "candidates": self.candidates}
        settings |= {"per_image_topk": self.per_image_topk, "where": self.where}
        return settings | ({} if self.region is None else {"region": list(self.region)})

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Question:
        """Return the question with these settings; what `as_settings` left out takes a value without effect.

        Example:
            >>> question = Question((100,), draws=1)
            >>> Question.from_settings(question.as_settings()) == question
            True
        """
        names = ("mode", "candidates", "per_image_topk", "mirror", "where")
        options = {name: settings[name] for name in names} | {"seed": settings.get("seed", 0)}
        if settings.get("region") is not None:
            options["region"] = tuple(settings["region"])
        if "recipe" in settings:
            recipe = replace(parse_recipe(settings["recipe"]), name=settings["recipe_name"])
            return cls(recipe=recipe, **options)
        noise, temper, draws = settings["noise"], settings["temper"], settings.get("draws", 1)
        return cls(tuple(settings["timestep"]), noise=noise, temper=temper, draws=draws, **options)


def as_question(timestep: int | Sequence[int] | None = None, **options: Unpack[Options]) -> Question:
    """Make a question of options as `Index.attribute` takes them.

    Args:
        timestep: one or several, at which all scales of the index look; None: a recipe does.
        **options: without `timestep` and `recipe`, the default recipe; with `noise`, `draws` or `temper`, timestep 100.

    Raises:
        ConfigError: an option breaks a rule.
        TypeError: there is no option of a name.

    Example:
        >>> as_question(100) == as_question([100], noise="none")
        True
        >>> as_question().recipe.name
        'models'
    """
    if unknown := sorted(options.keys() - Options.__annotations__.keys()):
        raise TypeError(f"there is no option {unknown[0]!r}; the options are {', '.join(Options.__annotations__)}")
    plain: dict[str, Any] = {name: _plain(value) for name, value in options.items()}
    recipe = plain.pop("recipe", None)
    if timestep is None and recipe is None:
        timestep, recipe = (DEFAULT_TIMESTEP, None) if _sets_noise(plain) else (None, DEFAULT)
    one = isinstance(timestep, int | np.integer | float | str)
    timesteps = () if timestep is None else (timestep,) if one else tuple(timestep)  # type: ignore[arg-type]
    if isinstance(plain.get("region"), Sequence | np.ndarray):
        plain["region"] = tuple(map(_plain, plain["region"]))
    return Question(tuple(map(_plain, timesteps)), None if recipe is None else as_recipe(recipe), **plain)


def parse_region(text: str | None) -> tuple[int, ...] | None:
    """Read a region as it is written on the command line; None where there is none.

    Example:
        >>> parse_region("0, 20, 300, 400")
        (0, 20, 300, 400)
    """
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"region is {text!r}; it must be left,top,right,bottom in whole pixels, as 0,0,200,100"
        ) from error


def _check_whole(name: str, value: Any, least: int, otherwise: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} is {value!r}; it must be {least} or more{otherwise}, a whole number")


def _check_region(region: Any) -> None:
    edges = region if isinstance(region, tuple) and len(region) == 4 else ()
    whole = [edge for edge in edges if isinstance(edge, int) and not isinstance(edge, bool)]
    if len(whole) < 4 or not (0 <= whole[0] < whole[2] and 0 <= whole[1] < whole[3]):
        raise ConfigError(
            f"region is {region!r}; it must be left, top, right, bottom in whole pixels, with left "
            f"< right and top < bottom, as (0, 0, 200, 100)"
        )


def _sets_noise(options: Mapping[str, Any]) -> bool:
    """Tell whether an option that belongs to timesteps is given and differs from its default."""
    return any(options.get(name, getattr(Question, name)) != getattr(Question, name) for name in _OF_TIMESTEPS)


def _plain(value: Any) -> Any:
    """A NumPy number as Python's own, which generators take and JSON writes."""
    return value.item() if isinstance(value, np.generic) else value


@dataclass(frozen=True)
class Query:
    """A picture with a question about it, ready to be answered.

    Attributes:
        pixels: uint8 [C, H, W], the picture as the index compares it; of an index of latents float16, the latent.
        question: how it is to be scored.
        top: number of images in the answer.
        progress: is called with (stage, done, total). What it raises ends this query, and no other of a batch.
        decode_seconds: what it took to read the picture.
        picture: RGB at its own size, where the index can find regions of it; the whole one, also where the question is
            about a region. Beside a latent, what is shown of it.
    """

    pixels: Pixels
    question: Question
    top: int
    progress: Progress | None = None
    decode_seconds: float = 0.0
    picture: Image.Image | None = None

    def __post_init__(self) -> None:
        if isinstance(self.top, bool) or not isinstance(self.top, int | np.integer):
            raise ConfigError(f"top is {self.top!r}; it must be a whole number of images")
