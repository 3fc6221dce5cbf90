"""What the commands print: tables and summaries on standard output, messages and errors on standard error."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from nda_index.errors import NdaIndexError

if TYPE_CHECKING:
    from nda_index.answer.attribution import Attribution
    from nda_index.device import DeviceFacts
    from nda_index.evaluate.tuning import Trial, Tuning
    from nda_index.indexing.edits import EditSummary
    from nda_index.indexing.estimate import Estimate
    from nda_index.indexing.pipeline import BuildSummary
    from nda_index.indexing.removal import RemovalSummary
    from nda_index.query.many import Summary
    from nda_index.store.manifest import Manifest
    from nda_index.store.state import State
    from nda_index.store.verify import Finding

console = Console()
messages = Console(stderr=True)
LISTED = 20  # images that a removal names

ValueRangeText = Annotated[
    str | None,
    typer.Option(help="What is black and what is white in pictures of floats: 0..1, -1..1 or 0..255. Else refused."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def print_error(error: NdaIndexError) -> None:
    """Print an error as one line on standard error."""
    print("error: " + " ".join(str(error).split()), file=sys.stderr)


def print_json(values: dict[str, Any]) -> None:
    """Print values as JSON that any parser reads."""
    from nda_index.answer.forms import strict_json

    print(strict_json(values))


def print_build(index: Path, summary: BuildSummary, as_json: bool) -> None:
    """Print what a build indexed."""
    if as_json:
        values = asdict(summary)
        print_json({"index": str(index), **values})
        return
    if summary.started_over:
        messages.print(
            "An interrupted build was cleared away and the build started over; --resume would go on with it."
        )
    if summary.resumed:
        messages.print(f"Went on with an interrupted build that had read {summary.resumed:,} images.")
    if summary.latents is None:
        console.print(f"Indexed {count_images(summary.images)} in {escape(str(index))}.")
    else:
        shape = " x ".join(map(str, summary.latents))
        console.print(f"Indexed {summary.images:,} latents of {shape} in {escape(str(index))}.")
        console.print(f"  their standard deviation is {summary.deviation:.3g}; there are no verdicts on latents")
    for name, description in summary.scales.items():
        console.print(f"  {name}: {description}")
    if summary.pictures:
        console.print("  regions of pictures can be found, at their own size")
    if summary.device != "cpu":
        console.print(f"  built on {escape(summary.device)}", soft_wrap=True)
    print_notes(summary.notes)
    print_missing(summary.failures, summary.left_out, summary.missing)


def print_missing(failures: int, left_out: int, first: Sequence[tuple[str, str]]) -> None:
    """Print what of a source is not in the index: the first with their reasons, and last how many there are."""
    from nda_index.indexing.missing import count_missing

    if not first:
        return
    print_first(first, failures + left_out)
    console.print(f"{count_missing(failures, left_out)}; failures.parquet lists all, with reasons.", soft_wrap=True)


def print_first(first: Sequence[tuple[str, str]], count: int) -> None:
    """Print the first of what is missing, with their reasons, and how many more there are."""
    for key, reason in first:
        console.print(f"  {escape(key)}: {escape(reason)}", highlight=False, soft_wrap=True)
    if count > len(first):
        console.print(f"  and {count - len(first):,} more")


def print_estimate(estimate: Estimate, as_json: bool) -> None:
    """Print what a build will need, and what an index would lack."""
    from nda_index.indexing.missing import count_missing

    if as_json:
        print_json(asdict(estimate))
        return
    table = Table(show_header=False, box=None)
    table.add_row("images", f"{estimate.images:,}")
    seconds = estimate.seconds
    time = f"{seconds / 60:,.1f} minutes" if seconds >= 60 else f"{max(1, round(seconds))} seconds"
    table.add_row("time", f"about {time} on this machine")
    table.add_row("disk", decimal(estimate.disk_bytes))
    table.add_row("memory", f"{decimal(estimate.memory_bytes)} while it builds")
    table.add_row("lists", f"{decimal(estimate.served_bytes)}, mapped to memory while the index is open")
    for name, description in estimate.scales.items():
        table.add_row(f"scale {name}", description)
    console.print(table)
    print_notes(estimate.notes)
    print_first(estimate.missing, estimate.failures + estimate.left_out)
    if estimate.missing:
        of = "" if estimate.sampled == estimate.images else f", of the first {estimate.sampled:,} that were tried"
        said = count_missing(estimate.failures, estimate.left_out)
        console.print(f"{said}{of}. A build writes all of them to failures.parquet.", soft_wrap=True)


def print_edit(index: Path, summary: EditSummary, as_json: bool, change: str) -> None:
    """Print how many images an index has after a change, such as "Added 3 images"."""
    if as_json:
        print_json({"index": str(index), **asdict(summary)})
    else:
        console.print(f"{change}; {escape(str(index))} has {summary.images:,} now.")
        print_notes(summary.notes)


def count_images(count: int) -> str:
    """Return "1 image", or "2 images"."""
    return "1 image" if count == 1 else f"{count:,} images"


def print_notes(notes: Sequence[str]) -> None:
    """Print what was changed or left out of a source."""
    for note in notes:
        console.print(f"  {escape(note)}", highlight=False)


def print_removal(index: Path, summary: RemovalSummary, as_json: bool) -> None:
    """Print which images were removed, or would be."""
    if not as_json:
        for image_id, key in zip(summary.image_ids[:LISTED], summary.keys[:LISTED], strict=True):
            console.print(f"  image {image_id}: {escape(key)}", highlight=False)
        if summary.changed > LISTED:
            console.print(f"  and {summary.changed - LISTED:,} more; --json lists all")
        for key, count in list(summary.found.items())[:LISTED]:
            have = "image has" if count == 1 else "images have"
            console.print(f"{count:,} {have} the key {escape(repr(key))}.", highlight=False)
        absent = sum(count == 0 for count in summary.found_pixels.values())
        if summary.found_pixels:
            console.print(f"{absent:,} of {len(summary.found_pixels):,} hashes are of no image.", highlight=False)
    verb = "Would remove" if summary.dry_run else "Removed"
    print_edit(index, summary, as_json, f"{verb} {count_images(summary.changed)}")


def print_manifest(
    index: Path, manifest: Manifest, state: State, device: DeviceFacts, resident: int, as_json: bool
) -> None:
    """Print what an index holds, and the device that answers questions, with how many images stay there."""
    size = sum(entry["size"] for entry in manifest.files.values())
    if as_json:
        print_json(
            {
                "index": str(index),
                "index_hash": manifest.index_hash,
                "writer": state.writer or None,
                "readers": [asdict(reader) for reader in state.readers],
                "earlier_readers": [asdict(reader) for reader in state.earlier],
                "old_files": state.old_files,
                "version": manifest.version,
                "format_version": manifest.format_version,
                "bytes": size,
                **manifest.counts,
                "config": manifest.config.to_json(),
                "tuning": manifest.tuning,
                "device": {**asdict(device), "resident_images": resident},
            }
        )
        return
    config, counts = manifest.config, manifest.counts
    height, width = config.image_size
    table = Table(show_header=False, box=None)
    table.add_row("images", f"{counts['images'] - counts['removed']:,} ({counts['failures']:,} unreadable)")
    if counts.get("left_out"):
        table.add_row("left out", f"{counts['left_out']:,} other things of the sources; failures.parquet lists them")
    if counts["removed"]:
        table.add_row("removed", f"{counts['removed']:,}; their bytes are here until nda-index compact")
    values = ", latents in float16" if config.latents else ""
    table.add_row("image size", f"{height} x {width}, {config.channels} channels{values}")
    for scale in config.scales:
        coarse = config.coarse[scale.name]
        table.add_row(
            f"scale {scale.name}",
            f"patch {scale.patch}, downscale {scale.downscale}, weight {scale.weight}; "
            f"{coarse.patches_per_image} patches an image, {coarse.codec} codes",
        )
    regions = "of pictures can be found, at their own size"
    if config.latents:
        regions = "none; latents have none"
    elif not config.pictures:
        regions = "none; for parts of pictures, build again from the files, with --pictures"
    table.add_row("regions", regions)
    from nda_index.evaluate.tuning import summarize_tuning

    table.add_row("tuning", summarize_tuning(manifest.tuning) if manifest.tuning else "none; see nda-index tune")
    for sentence in state.describe():
        table.add_row("state", escape(sentence))
    table.add_row("device", escape(str(device)))
    if device.device == "cuda":
        fit = f"{resident:,} of {counts['images']:,} images stay there between questions"
        table.add_row("", fit if resident < counts["images"] else "all images stay there between questions")
    table.add_row("on disk", f"{size / 2**20:,.1f} MiB in {len(manifest.files)} files")
    table.add_row("written by", f"nda_index {manifest.version}, format {manifest.format_version}")
    table.add_row("index hash", manifest.index_hash)
    console.print(table)


def print_waiting(summary: EditSummary) -> None:
    """Print who still reads files that are to be erased."""
    console.print(f"{summary.waiting} old files are there still. The earlier state is read by")
    for reader in summary.readers:
        console.print(f"  {escape(reader)}", highlight=False)
    console.print("A service erases them when the last reader is done; or end the readers and run compact again.")


def print_findings(index: Path, findings: Sequence[Finding], as_json: bool) -> None:
    """Print what `verify` found."""
    damaged = [finding for finding in findings if finding.kind == "damage"]
    if as_json:
        print_json({"index": str(index), "intact": not damaged, "findings": [asdict(finding) for finding in findings]})
        return
    for finding in findings:
        console.print(escape(str(finding)))
    if damaged:
        console.print(f"{len(damaged)} files are damaged; restore the index from a copy, or build it again.")
    else:
        console.print("Every file of the index is as it was built.")


def print_tuning(index: Path, tuning: Tuning, written: dict[str, Any], as_json: bool) -> None:
    """Print all trials, and the setting that was written to the manifest."""
    if as_json:
        print_json({"index": str(index), **asdict(tuning)})
        return
    from nda_index.evaluate.tuning import summarize_tuning

    table = Table("probes", "candidates", "recall@100", "mass", "seconds")
    for trial in tuning.trials:
        mark = "[bold]" if trial == tuning.chosen else ""
        table.add_row(*(mark + cell for cell in _trial_cells(trial)))
    console.print(table)
    console.print(f"Chosen: {summarize_tuning(written)}. Questions use it unless they say otherwise.")


def print_table(table: Path, asked: Summary, as_json: bool) -> None:
    """Print what became of many questions."""
    if as_json:
        print_json({"table": str(table), **asked._asdict()})
        return
    earlier = f", {asked.kept:,} of them by an earlier run" if asked.kept else ""
    count = "1 question" if asked.questions == 1 else f"{asked.questions:,} questions"
    console.print(f"Wrote {escape(str(table))}: {count}{earlier}.")
    print_first(asked.missing, asked.failed + asked.left_out)
    if asked.failed:
        console.print(
            f"{asked.failed:,} {'has' if asked.failed == 1 else 'have'} no answer; the column error says why."
        )
    if asked.left_out:
        were = "thing of the source was" if asked.left_out == 1 else "things of the source were"
        console.print(f"{asked.left_out:,} other {were} left out; these are no questions.")


def print_answer(answer: Attribution) -> None:
    """Print the strong regions of an answer, its images, and how complete it is."""
    regions = answer.picture_size is not None
    if regions:
        _print_regions(answer)
    table = Table("rank", "share", "score", "image", "key", "verdict on the whole picture" if regions else "verdict")
    for rank, row in enumerate(answer.to_table().to_pylist()):
        has_verdict = row["percentile"] is not None and row["percentile"] == row["percentile"]  # not NaN
        score = f"{row['score']:.3f} +- {row['score_error']:.3f}" if row["score_error"] else f"{row['score']:.3f}"
        verdict = str(answer.verdict(rank)) if has_verdict else ""
        table.add_row(str(rank + 1), f"{row['share']:.1%}", score, str(row["image_id"]), escape(row["key"]), verdict)
    console.print(table)
    console.print(
        f"{answer.scored:,} of {answer.collection:,} images scored exactly; they hold {answer.mass_covered:.0%} "
        f"(+- {2 * answer.mass_error:.0%}) of the posterior. A share is likeness, not proof."
    )
    for note in answer.notes:
        console.print(note, highlight=False)


def _print_regions(answer: Attribution) -> None:
    """Print the strong regions, or that there are none, and what the shares below them are of."""
    from nda_index.answer.region import say_no_region_is_strong

    strong = [region.tell() for region in answer.regions if region.strong]
    for sentence in strong or [say_no_region_is_strong(answer.regions)]:
        console.print(escape(sentence), highlight=False)
    height, width = answer.query.shape[:2]
    console.print(f"Shares compare the whole picture, made small ({width} x {height} pixels):", highlight=False)


def _trial_cells(trial: Trial) -> tuple[str, ...]:
    return (
        str(trial.probes),
        f"{trial.candidates:,}",
        f"{trial.recall:.2f}",
        f"{trial.mass:.2f}",
        f"{trial.seconds:.2f}",
    )
