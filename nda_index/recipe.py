"""A recipe: the terms that a score is the sum of, each with the patch and the noise that it looks through.

At a low timestep little noise hides little, and small patches tell which images a model learned from; at a high one
larger patches do. So a recipe names pairs of patch and timestep. docs/method.md has the measurements behind those here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from nda_index.diffusion import noise_level
from nda_index.errors import ConfigError
from nda_index.scales import Scale

_TERM = re.compile(
    r"(?P<patch>\d+)(/(?P<downscale>\d+))?@(?P<timestep>\d+)(\*(?P<weight>[^(\s]+))?\s*(\((?P<rest>.*)\))?"
)
_NEXT_TERM = re.compile(r"\+(?=\s*\d+\s*(?:/\s*\d+\s*)?@)")  # and not the sign of an exponent
_RULE = "write PATCH@TIMESTEP, as 3@100, with /DOWNSCALE, *WEIGHT or (draws=, stride=, temper=) where needed"


@dataclass(frozen=True)
class Term:
    """One summand of a score: the posterior of patches of one size at one timestep.

    Args:
        scale: the patch and its grids; its `weight` is the term's part of the sum. Time grows with the number of
            positions of both grids, not with the patch.
        timestep: 0 (nearly clean) to 999 (nearly pure noise): the noise that hides detail.
        draws: number of noise draws whose posteriors are averaged; 0 leaves the query clean. More are steadier, at a
            cost that grows alike.
        temper: divides the logits: above 1 the posterior is broader.

    Raises:
        ConfigError: a value breaks a rule.

    Example:
        >>> str(Term(Scale(14, 2, query_stride=2, train_stride=2), timestep=100, draws=0))
        '14/2@100(draws=0, stride=2)'
    """

    scale: Scale
    timestep: int
    draws: int = 1
    temper: float = 1.0

    def __post_init__(self) -> None:
        noise_level(self.timestep)  # raises for what is not a timestep
        if isinstance(self.draws, bool) or not isinstance(self.draws, int | np.integer) or self.draws < 0:
            raise ConfigError(f"draws is {self.draws!r}; it must be 0 (a clean query) or more")
        if not isinstance(self.temper, int | float | np.number) or not 0.0 < self.temper < np.inf:
            raise ConfigError(f"temper is {self.temper!r}; it must be a number above 0")

    def __str__(self) -> str:
        """Write the term as `parse_recipe` reads it."""
        scale = self.scale
        text = f"{scale.patch}{f'/{scale.downscale}' if scale.downscale > 1 else ''}@{self.timestep}"
        text += f"*{_write_number(scale.weight)}" if scale.weight != 1 else ""
        options = {"draws": (self.draws, 1), "temper": (self.temper, 1.0)}
        if scale.query_stride == scale.train_stride:
            options["stride"] = (scale.query_stride, 1)
        else:
            options |= {"query_stride": (scale.query_stride, 1), "train_stride": (scale.train_stride, 1)}
        changed = {name: value for name, (value, default) in options.items() if value != default}
        named = ", ".join(f"{name}={_write_number(value)}" for name, value in changed.items())
        return f"{text}({named})" if named else text


def _write_number(value: float) -> str:
    """Write a number with all its digits, so that a recipe that is read again is the same."""
    return repr(float(value)).removesuffix(".0")


@dataclass(frozen=True)
class Recipe:
    """Terms of a score. Each term's scores are normalised, so that they sum to its weight over all images.

    Args:
        terms: one or more. Each costs a pass over the images that are scored, and one more for each further draw.
        name: of a recipe that is known by one.
        title, summary: what it compares, for a person: some words that follow "compare", and a sentence.

    Raises:
        ConfigError: there are no terms, or terms of one patch have different strides.
    """

    terms: tuple[Term, ...]
    name: str | None = None
    title: str = field(default="", compare=False)
    summary: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.terms:
            raise ConfigError(f"recipe has no terms; {_RULE}")
        strides: dict[str, tuple[int, int]] = {}
        for scale in (term.scale for term in self.terms):
            both = scale.query_stride, scale.train_stride
            if strides.setdefault(scale.name, both) != both:
                raise ConfigError(
                    f"recipe has patch {scale.patch} with strides {strides[scale.name]} and {both}; terms of one patch "
                    f"must have the same strides"
                )

    def __str__(self) -> str:
        """Write the terms as `parse_recipe` reads them."""
        return " + ".join(map(str, self.terms))

    @property
    def scales(self) -> tuple[Scale, ...]:
        """The scales of the terms, each once, with the sum of the weights of its terms."""
        merged: dict[str, Scale] = {}
        for scale in (term.scale for term in self.terms):
            weight = scale.weight + (merged[scale.name].weight if scale.name in merged else 0.0)
            merged[scale.name] = replace(scale, weight=weight)
        return tuple(merged.values())

    @property
    def passes(self) -> int:
        """Number of passes over the images: a term's draws, or one where it has none."""
        return sum(max(1, term.draws) for term in self.terms)


def _grid(patch: int, downscale: int = 1, weight: float = 1.0) -> Scale:
    """Return a scale at every second position: a sixteenth of the time."""
    return Scale(patch, downscale, weight, query_stride=2, train_stride=2)


MODELS = Recipe(
    (
        Term(_grid(4), 150, draws=2),
        Term(_grid(10, 2, weight=0.5), 400, draws=2),
        Term(_grid(10, 2, weight=0.02), 50, draws=0),  # says little of models, but copies stand out by it
    ),
    "models",
    "what a model learns from",
    "The comparison looks at texture, small parts and larger shapes through as much noise as a model sees them: this "
    "tells best from which images a model learned to make such a picture.",
)
PIECES = Recipe(
    (Term(_grid(4), 50, draws=0), Term(_grid(10, 2), 50, draws=0)),
    "pieces",
    "pieces that are the same",
    "The comparison looks for the very pieces of your picture: this finds images that it was copied or pasted "
    "together from.",
)
PUBLISHED = Recipe(
    (Term(Scale(7), 100),),
    "published",
    "as published",
    "The comparison looks at patches of 7 pixels through one draw of noise, as the paper's authors do.",
)
RECIPES: Mapping[str, Recipe] = {str(recipe.name): recipe for recipe in (MODELS, PIECES, PUBLISHED)}
DEFAULT = MODELS


def parse_recipe(text: str) -> Recipe:
    """Read a recipe: the name of one, or its terms.

    Terms that are those of a named recipe are that recipe.

    Args:
        text: a name of `RECIPES`; or terms as "3@100 + 5@200*2", patch 3 at timestep 100 and twice patch 5 at timestep
            200, each with one noise draw. In parentheses stand other draws, strides and tempers: "14/2@100(draws=0,
            stride=2)" is patch 14 with downscale 2, a clean query, every second position.

    Raises:
        ConfigError: it is neither.

    Example:
        >>> str(parse_recipe("3@100 + 5@200 * 2 (draws=4)"))
        '3@100 + 5@200*2(draws=4)'
        >>> str(parse_recipe("published"))
        '7@100'
    """
    if text.strip() in RECIPES:
        return RECIPES[text.strip()]
    if "@" not in text:
        raise ConfigError(f"recipe is {text!r}, which is no name of one ({', '.join(RECIPES)}); or {_RULE}")
    return as_recipe([_parse_term(part) for part in _NEXT_TERM.split(text)])


def _parse_term(text: str) -> Term:
    found = _TERM.fullmatch(re.sub(r"\s*([@*/])\s*", r"\1", text.strip()))
    if found is None:
        raise ConfigError(f"recipe has the term {text.strip()!r}; {_RULE}")
    options: dict[str, float] = {}
    for part in filter(None, map(str.strip, (found["rest"] or "").split(","))):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in ("draws", "temper", "stride", "query_stride", "train_stride"):
            raise ConfigError(f"recipe has the option {part!r} in {text.strip()!r}; {_RULE}")
        options[name] = _parse_number(value, text, whole=name != "temper")
    both = int(options.get("stride", 1))
    strides = [int(options.get(name, both)) for name in ("query_stride", "train_stride")]
    weight = _parse_number(found["weight"] or "1", text, whole=False)
    scale = Scale(int(found["patch"]), int(found["downscale"] or 1), weight, *strides)
    return Term(scale, int(found["timestep"]), int(options.get("draws", 1)), options.get("temper", 1.0))


def _parse_number(value: str, text: str, *, whole: bool) -> float:
    try:
        return int(value) if whole else float(value)
    except ValueError as error:
        kind = "a whole number" if whole else "a number"
        raise ConfigError(f"recipe has {value!r} in {text.strip()!r}, where {kind} must stand; {_RULE}") from error


def as_recipe(recipe: str | Recipe | Sequence[Term]) -> Recipe:
    """Take a recipe as users give it: its name or text, terms, or a `Recipe`."""
    if isinstance(recipe, str):
        return parse_recipe(recipe)
    if isinstance(recipe, Recipe):
        return recipe
    given = tuple(recipe) if isinstance(recipe, Sequence) else ()
    terms = tuple(term for term in given if isinstance(term, Term))
    if not isinstance(recipe, Sequence) or len(terms) < len(given):
        raise ConfigError(f"recipe is {recipe!r}; it must be text, a Recipe or a list of Term; {_RULE}")
    return next((named for named in RECIPES.values() if named.terms == terms), Recipe(terms))
