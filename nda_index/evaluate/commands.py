"""The command nda-index evaluate. What needs the extra `eval` is imported when it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, get_args

import typer

from nda_index.diffusion import NoiseSetting
from nda_index.errors import ConfigError
from nda_index.evaluate.comparison import as_markdown, baseline_rows, posterior_rows
from nda_index.evaluate.study import read_study
from nda_index.indexing.request import DEFAULT_SCALES
from nda_index.scales import parse_scale


def evaluate(
    study: Annotated[Path, typer.Argument(help=".npz with train, masks, queries/GROUP, losses/GROUP.")],
    timestep: Annotated[list[int] | None, typer.Option(help="Timestep; may be repeated.")] = None,
    scale: Annotated[list[str] | None, typer.Option(help="Patch size, as 7 or 14/2; may be repeated.")] = None,
    noise: Annotated[str, typer.Option(help="none, draw or average.")] = "none",
    draws: Annotated[int, typer.Option(help="Draws of the average.")] = 8,
    temper: Annotated[float, typer.Option(help="Divides the logits.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure how well scores predict models that were trained on parts of a collection (linear datamodeling score).

    Every patch size at every timestep, all together, and baselines. Scores of your own method, in the file as
    scores/NAME/GROUP, are judged beside them.

    Example:

      nda-index evaluate study.npz --timestep 50 --timestep 100
    """
    if noise not in get_args(NoiseSetting):
        raise ConfigError(f"noise is {noise!r}; it must be one of {', '.join(map(repr, get_args(NoiseSetting)))}")
    scales = [parse_scale(text) for text in scale] if scale else list(DEFAULT_SCALES)
    given = read_study(study)
    rows = baseline_rows(given)
    rows += posterior_rows(given, scales, timestep or [50, 100, 200], noise=noise, draws=draws, temper=temper)  # type: ignore[arg-type]
    if as_json:
        print(json.dumps([row.to_dict() for row in rows], indent=1, allow_nan=False))
    else:
        print(as_markdown(rows), end="")
