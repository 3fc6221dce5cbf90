"""The commands that make, change and check an index: build, add, remove, compact, tune, info, verify."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from nda_index.cli.options import IndexFolder, Json
from nda_index.cli.output import console, messages, print_build, print_edit, print_estimate, print_json
from nda_index.index import open_index
from nda_index.indexing.addition import add_images
from nda_index.indexing.compaction import compact
from nda_index.indexing.pipeline import build
from nda_index.indexing.removal import remove_images
from nda_index.indexing.request import DEFAULT_MEMORY, DEFAULT_SCALES, estimate_build
from nda_index.progress import progress_bars
from nda_index.scales import parse_scale
from nda_index.store.manifest import read_manifest
from nda_index.store.verify import verify
from nda_index.trust.null import DEFAULT_PICTURES
from nda_index.tune import summarize_tuning, tune


def build_command(
    source: Annotated[str, typer.Argument(help="Folder, Parquet file(s), WebDataset .tar shard(s) or .npz.")],
    index: Annotated[Path, typer.Argument(help="Folder to write the index to, such as my.nda.")],
    image_size: Annotated[
        int,
        typer.Option(
            help="Side in pixels at which images are compared: more show more detail; time grows with its fourth power."
        ),
    ] = 32,
    scale: Annotated[
        list[str] | None, typer.Option(help="PATCH, PATCH/DOWNSCALE or PATCH/DOWNSCALE*WEIGHT; may be repeated.")
    ] = None,
    grey: Annotated[bool, typer.Option("--grey", help="Compare in grey: one channel, a third of the time.")] = False,
    column: Annotated[list[str] | None, typer.Option(help="Metadata column to keep; may be repeated.")] = None,
    max_failures: Annotated[
        int | None, typer.Option(help="Unreadable images allowed before the work stops; 1% by default.")
    ] = None,
    coarse_stride: Annotated[
        int | None,
        typer.Option(
            help="Every how many pixels a patch is indexed: more take less memory and miss more. Chosen by default."
        ),
    ] = None,
    memory_mib: Annotated[
        int, typer.Option(help="MiB for the coarse stage of the open index: more keep more patches, more precisely.")
    ] = DEFAULT_MEMORY >> 20,
    null: Annotated[
        int, typer.Option(help="Pictures that verdicts are set against: more can tell rarer matches; 0: no verdicts.")
    ] = DEFAULT_PICTURES,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted build.")] = False,
    ray: Annotated[
        str | None, typer.Option(help="Build on the Ray cluster at this address, in shards; auto: this machine's.")
    ] = None,
    shards: Annotated[int, typer.Option(help="Parts of the index, with --ray: as many machines can work on it.")] = 4,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate time, memory and disk; write nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Index a collection of images.

    Examples:

      nda-index build photos/ photos.nda --image-size 64

      nda-index build cifar10.parquet cifar.nda --scale 7 --scale 14/2

      nda-index build 'laion/*.parquet' laion.nda --dry-run
    """
    options: dict[str, Any] = {
        "image_size": image_size,
        "channels": 1 if grey else 3,
        "scales": [parse_scale(text) for text in scale] if scale else DEFAULT_SCALES,
        "columns": column,
        "max_failures": max_failures,
        "coarse_stride": coarse_stride,
        "memory": memory_mib << 20,
    }
    if dry_run:
        print_estimate(estimate_build(source, **options), as_json)
        return
    with progress_bars(messages) as report:
        if ray is None:
            summary = build(source, index, null=null, resume=resume, progress=report, **options)
        else:
            from nda_index.cluster.build import build_shards  # Ray is optional

            summary = build_shards(source, index, shards=shards, address=ray, null=null, progress=report, **options)
    print_build(index, summary, as_json)


def add(
    index: IndexFolder,
    source: Annotated[str, typer.Argument(help="Images, as for build, with the metadata columns of the index.")],
    max_failures: Annotated[
        int | None, typer.Option(help="Unreadable images allowed before the work stops; 1% by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Add images to an index. Whoever has it open goes on without them.

    Example:

      nda-index add photos.nda new-photos/
    """
    with progress_bars(messages) as report:
        summary = add_images(index, source, max_failures=max_failures, progress=report)
    print_edit(index, summary, as_json, f"Added {summary.changed:,} images")
    if summary.failures and not as_json:
        console.print(f"{summary.failures:,} images could not be read; the index's failures files list them.")


def remove(
    index: IndexFolder,
    image_id: Annotated[list[int] | None, typer.Option(help="Id of an image; may be repeated.")] = None,
    key: Annotated[list[str] | None, typer.Option(help="Key of an image; may be repeated.")] = None,
    where: Annotated[str | None, typer.Option(help="SQL condition on the metadata.")] = None,
    as_json: Json = False,
) -> None:
    """Remove images: they are never returned again. `compact` erases their bytes.

    Examples:

      nda-index remove photos.nda --key holiday/0042.jpg

      nda-index remove photos.nda --where "artist = 'A. Painter'"
    """
    summary = remove_images(index, image_ids=image_id or [], keys=key or [], where=where)
    print_edit(index, summary, as_json, f"Removed {summary.changed:,} images")


def compact_command(index: IndexFolder, as_json: Json = False) -> None:
    """Erase the bytes of removed images. The remaining images get new ids, in the same order.

    Example:

      nda-index compact photos.nda && nda-index verify photos.nda
    """
    with progress_bars(messages) as report:
        summary = compact(index, progress=report)
    print_edit(index, summary, as_json, f"Erased {summary.changed:,} images")
    if summary.waiting and not as_json:
        console.print(f"{summary.waiting} old files wait for open readers; close them and run compact again.")


def tune_command(
    index: IndexFolder,
    recall: Annotated[float | None, typer.Option(help="Wanted fraction of the exact top 100: more costs time.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Wanted seconds of a question: more find more.")] = None,
    timestep: Annotated[int, typer.Option(help="Of the questions, as they will be asked.")] = 100,
    queries: Annotated[
        int, typer.Option(help="Questions to measure with: more are surer; each scores the whole collection once.")
    ] = 8,
    as_json: Json = False,
) -> None:
    """Choose how much an index looks at, measured on it, for a wanted recall or a wanted time.

    Examples:

      nda-index tune photos.nda --recall 0.95

      nda-index tune photos.nda --seconds 0.5
    """
    with progress_bars(messages) as report:
        tuning = tune(
            open_index(index), recall=recall, seconds=seconds, timestep=timestep, queries=queries, progress=report
        )
    if as_json:
        print_json({"index": str(index), **asdict(tuning)})
        return
    table = Table("probes", "candidates", "recall@100", "mass", "seconds")
    for trial in tuning.trials:
        mark = "[bold]" if trial == tuning.chosen else ""
        table.add_row(
            *(
                mark + text
                for text in (
                    str(trial.probes),
                    f"{trial.candidates:,}",
                    f"{trial.recall:.2f}",
                    f"{trial.mass:.2f}",
                    f"{trial.seconds:.2f}",
                )
            )
        )
    console.print(table)
    console.print(
        f"Chosen: {summarize_tuning(read_manifest(index).tuning)}. Questions use it unless they say otherwise."
    )


def info(index: IndexFolder, as_json: Json = False) -> None:
    """Say what an index holds.

    Example:

      nda-index info photos.nda
    """
    manifest = read_manifest(index)
    size = sum(entry["size"] for entry in manifest.files.values())
    if as_json:
        print_json(
            {
                "index": str(index),
                "index_hash": manifest.index_hash,
                "version": manifest.version,
                "format_version": manifest.format_version,
                "bytes": size,
                **manifest.counts,
                "config": manifest.config.to_json(),
                "tuning": manifest.tuning,
            }
        )
        return
    config = manifest.config
    height, width = config.image_size
    table = Table(show_header=False, box=None)
    images, removed = manifest.counts["images"], manifest.counts["removed"]
    table.add_row("images", f"{images - removed:,} ({manifest.counts['failures']:,} unreadable)")
    if removed:
        table.add_row("removed", f"{removed:,}; their bytes are here until nda-index compact")
    table.add_row("image size", f"{height} x {width}, {config.channels} channels")
    for scale in config.scales:
        coarse = config.coarse[scale.name]
        table.add_row(
            f"scale {scale.name}",
            f"patch {scale.patch}, downscale {scale.downscale}, weight {scale.weight}; "
            f"{coarse.patches_per_image} patches an image, {coarse.codec} codes",
        )
    table.add_row("tuning", summarize_tuning(manifest.tuning) if manifest.tuning else "none; see nda-index tune")
    table.add_row("on disk", f"{size / 2**20:,.1f} MiB in {len(manifest.files)} files")
    table.add_row("written by", f"nda_index {manifest.version}, format {manifest.format_version}")
    table.add_row("index hash", manifest.index_hash)
    console.print(table)


def verify_command(index: IndexFolder, as_json: Json = False) -> None:
    """Hash every file of an index again; exit code 1 if one is changed, missing, truncated or does not belong.

    Example:

      nda-index verify photos.nda
    """
    with progress_bars(messages) as report:
        problems = verify(index, report)
    if as_json:
        print_json({"index": str(index), "intact": not problems, "problems": problems})
    elif problems:
        for problem in problems:
            console.print(escape(problem))
        console.print(f"{len(problems)} problems; restore the index from a copy, or build it again.")
    else:
        console.print("Every file is as it was built.")
    if problems:
        raise typer.Exit(1)
