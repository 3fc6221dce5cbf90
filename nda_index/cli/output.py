"""What the commands print: tables on standard output, messages on standard error, JSON where it is wanted."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nda_index.answer.attribution import Attribution
from nda_index.answer.forms import strict_json
from nda_index.indexing.edits import EditSummary
from nda_index.indexing.pipeline import BuildSummary
from nda_index.indexing.plan import Estimate

console = Console()
messages = Console(stderr=True)


def print_edit(index: Path, summary: EditSummary, as_json: bool, what: str) -> None:
    """Print what an edit did."""
    if as_json:
        print_json({"index": str(index), **asdict(summary)})
    else:
        console.print(f"{what}; {escape(str(index))} has {summary.images:,} now.")


def print_estimate(estimate: Estimate, as_json: bool) -> None:
    """Print what a build will need."""
    if as_json:
        print_json(asdict(estimate))
        return
    table = Table(show_header=False, box=None)
    table.add_row("images", f"{estimate.images:,}")
    table.add_row("time", f"about {estimate.seconds / 60:,.1f} minutes on this machine")
    table.add_row("disk", f"{estimate.disk_bytes / 2**30:,.2f} GiB")
    table.add_row("memory", f"{estimate.memory_bytes / 2**30:,.2f} GiB while it builds")
    table.add_row("lists", f"{estimate.served_bytes / 2**30:,.2f} GiB, mapped to memory when the index is open")
    for name, description in estimate.scales.items():
        table.add_row(f"scale {name}", description)
    console.print(table)


def print_build(index: Path, summary: BuildSummary, as_json: bool) -> None:
    """Print what was built."""
    if as_json:
        print_json({"index": str(index), **asdict(summary)})
        return
    if summary.started_over:
        messages.print(
            "An interrupted build was cleared away and the build started over; --resume would go on with it."
        )
    if summary.resumed:
        messages.print(f"Went on with an interrupted build that had read {summary.resumed:,} images.")
    console.print(f"Indexed {summary.images:,} images in {escape(str(index))}.")
    if summary.failures:
        console.print(f"{summary.failures:,} images could not be read; they are listed in failures.parquet.")
    for name, description in summary.scales.items():
        console.print(f"  {name}: {description}")


def print_answer(answer: Attribution) -> None:
    """Print the images of an answer, and how much of the posterior they rest on."""
    table = Table("rank", "share", "score", "image", "key", "verdict")
    for rank, row in enumerate(answer.to_table().to_pylist()):
        verdict = "" if math.isnan(answer.percentiles[rank]) else str(answer.verdict(rank))
        score = f"{row['score']:.3f} +- {row['score_error']:.3f}" if row["score_error"] else f"{row['score']:.3f}"
        table.add_row(str(rank + 1), f"{row['share']:.1%}", score, str(row["image_id"]), escape(row["key"]), verdict)
    console.print(table)
    console.print(
        f"{answer.scored:,} of {answer.collection:,} images scored exactly; they hold {answer.mass_covered:.0%} "
        f"(+- {2 * answer.mass_error:.0%}) of the posterior. A share is likeness, not proof."
    )


def print_json(values: dict[str, Any]) -> None:
    """Print values as JSON that any parser reads."""
    print(strict_json(values))
