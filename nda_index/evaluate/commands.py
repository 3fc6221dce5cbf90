"""The command nda-index evaluate. Packages of the extra `eval` are imported when it runs."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, get_args

import typer

from nda_index.errors import ConfigError


def evaluate(
    study: Annotated[Path, typer.Argument(help=".npz with train, masks, queries/GROUP, losses/GROUP.")],
    timestep: Annotated[
        list[int] | None, typer.Option(help="0 to 999; may be repeated. Each costs a pass. 50, 100 and 200 by default.")
    ] = None,
    scale: Annotated[
        list[str] | None, typer.Option(help="Patch size, as 7 or 14/2; may be repeated. Each costs a pass.")
    ] = None,
    noise: Annotated[str, typer.Option(help="none, draw (one) or average, which costs a pass for each draw.")] = "none",
    draws: Annotated[int, typer.Option(help="Draws of the average. More are steadier; each costs a pass.")] = 8,
    temper: Annotated[
        float, typer.Option(help="Divides the logits: above 1 the posterior is broader. Costs nothing.")
    ] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure how well scores predict models that were trained on parts of a collection (linear datamodeling score).

    The table has the named recipes whose patches fit the images, every patch size at every timestep, all together, and
    baselines; and your own method, if the file holds its scores as scores/NAME/GROUP.

    Example:

      nda-index evaluate study.npz --timestep 50 --timestep 100
    """
    from nda_index.diffusion import NoiseSetting  # these take a while, and help does not wait for them
    from nda_index.evaluate.comparison import BASELINES, as_markdown, baseline_rows, posterior_rows
    from nda_index.evaluate.methods import recipe_scores
    from nda_index.evaluate.study import read_study
    from nda_index.indexing.request import DEFAULT_SCALES
    from nda_index.recipe import RECIPES
    from nda_index.scales import parse_scale

    if noise not in get_args(NoiseSetting):
        raise ConfigError(f"noise is {noise!r}; it must be one of {', '.join(map(repr, get_args(NoiseSetting)))}")
    scales = [parse_scale(text) for text in scale] if scale else list(DEFAULT_SCALES)
    contents = read_study(study)
    side = min(contents.train.shape[1:3])
    fitting = [name for name, recipe in RECIPES.items() if max(scale.patch for scale in recipe.scales) <= side]
    recipes = {f"recipe {name}": partial(recipe_scores, recipe=name) for name in fitting}
    rows = baseline_rows(contents, {**recipes, **BASELINES})
    rows += posterior_rows(contents, scales, timestep or [50, 100, 200], noise=noise, draws=draws, temper=temper)  # type: ignore[arg-type]
    if as_json:
        print(json.dumps([row.to_dict() for row in rows], indent=1, allow_nan=False))
    else:
        print(as_markdown(rows), end="")
