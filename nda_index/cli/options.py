"""Options that several commands have, once each, and the defaults of a question."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nda_index.question import Question

TIMESTEP = 100
DEFAULTS = Question((TIMESTEP,))

IndexFolder = Annotated[Path, typer.Argument(help="Index folder.")]
Picture = Annotated[Path, typer.Argument(help="The picture to explain.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Ray = Annotated[
    str | None, typer.Option(help="Use the Ray cluster at this address; auto: this machine's. An index in shards.")
]
Timestep = Annotated[
    list[int] | None,
    typer.Option(
        help=f"0 (finest detail) to 999 (broad composition); may be repeated, each costs as much. Default {TIMESTEP}."
    ),
]
Mode = Annotated[str, typer.Option(help="ann: take a shortlist; exact: take every image, which is slower by far.")]
Mirror = Annotated[bool, typer.Option("--mirror", help="Mirror images belong to the collection too; twice the time.")]
Where = Annotated[
    str | None,
    typer.Option(help="SQL condition on the metadata, as \"license = 'CC0'\": the other images are left out."),
]
