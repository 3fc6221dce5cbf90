"""The commands that make, change and describe an index: build, add, remove, compact, tune, info and verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nda_index.cli.output import (
    Json,
    ValueRangeText,
    count_images,
    messages,
    print_build,
    print_edit,
    print_estimate,
    print_findings,
    print_manifest,
    print_missing,
    print_removal,
    print_tuning,
    print_waiting,
)
from nda_index.errors import WAITING, ConfigError
from nda_index.progress import progress_bars

if TYPE_CHECKING:
    from nda_index.indexing.pipeline import BuildSummary

# Commands import what they need when they run, so that help comes at once; these are the defaults of what they call.
MEMORY_MIB = 3 << 10
NULL = 199
PHOTOGRAPH = 128
RECIPE = "models"

IndexFolder = Annotated[Path, typer.Argument(help="Index folder.")]
ImageSize = Annotated[
    int | None,
    typer.Option(
        help="Side in pixels at which images are compared, 32 by default. Time and disk grow with its square."
    ),
]
Latents = Annotated[
    bool,
    typer.Option("--latents", help="The source holds latents, floats [C, H, W], which are compared as they are."),
]
ImageColumn = Annotated[
    str | None, typer.Option(help="Column of Parquet files that holds the images; found by default.")
]
Split = Annotated[
    str | None, typer.Option(help="Of a folder of Parquet files: train, test, train+test. Needed where it has several.")
]
Pictures = Annotated[
    bool | None,
    typer.Option(
        "--pictures/--no-pictures",
        help="Find regions of pictures at their own size too, at 50 KB each. By default, where most images have "
        f"sides of {PHOTOGRAPH} pixels or more.",
    ),
]
Device = Annotated[
    str,
    typer.Option(help="auto, cpu or cuda: where patches are encoded. auto is a GPU where one works."),
]
MaxFailures = Annotated[
    int | None, typer.Option(help="Unreadable images allowed; 1% by default. Each leaves a gap in the collection.")
]


def build_command(
    source: Annotated[
        str,
        typer.Argument(help="Folder, Parquet or image file(s), WebDataset .tar shard(s), .npz, .npy or .safetensors."),
    ],
    index: Annotated[Path, typer.Argument(help="Folder to write the index to, such as my.nda.")],
    image_size: ImageSize = None,
    scale: Annotated[
        list[str] | None,
        typer.Option(help="PATCH, PATCH/DOWNSCALE or PATCH/DOWNSCALE*WEIGHT; may be repeated. Each costs a pass."),
    ] = None,
    grey: Annotated[bool, typer.Option("--grey", help="Compare in grey: one channel. A third of the pixels.")] = False,
    column: Annotated[list[str] | None, typer.Option(help="Metadata column to keep, on disk; may be repeated.")] = None,
    image_column: ImageColumn = None,
    split: Split = None,
    max_failures: MaxFailures = None,
    coarse_stride: Annotated[
        int | None, typer.Option(help="Every how many pixels a patch is indexed. More is smaller and finds less.")
    ] = None,
    memory_mib: Annotated[
        int, typer.Option(help="Memory for the coarse stage of the open index. Less finds less.")
    ] = MEMORY_MIB,
    pictures: Pictures = None,
    value_range: ValueRangeText = None,
    latents: Latents = False,
    null: Annotated[
        int, typer.Option(help="Pictures that verdicts are set against; 0: no verdicts. More take longer to build.")
    ] = NULL,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted build.")] = False,
    device: Device = "auto",
    ray: Annotated[
        str | None, typer.Option(help="Build on the Ray cluster at this address; auto: this machine's.")
    ] = None,
    shards: Annotated[
        int, typer.Option(help="Parts of the index, with --ray. More build on more machines; each needs its memory.")
    ] = 4,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate time, memory and disk; write nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Index a collection of images.

    Examples:

      nda-index build photos/ photos.nda --image-size 64

      nda-index build cifar10.parquet cifar.nda --scale 7 --scale 14/2

      nda-index build 'laion/*.parquet' laion.nda --dry-run

      nda-index build latents.npy latents.nda --latents
    """
    from nda_index.indexing.pipeline import build
    from nda_index.indexing.request import DEFAULT_SCALES, estimate_build
    from nda_index.scales import parse_scale

    options: dict[str, Any] = {
        "image_size": image_size, "channels": 1 if grey else None, "columns": column, "max_failures": max_failures,
        "scales": [parse_scale(text) for text in scale] if scale else DEFAULT_SCALES, "memory": memory_mib << 20,
        "coarse_stride": coarse_stride, "pictures": pictures, "image_column": image_column, "split": split,
        "value_range": value_range, "latents": latents,
    }  # fmt: skip
    if dry_run:
        print_estimate(estimate_build(source, null=null, **options), as_json)
        return
    with progress_bars(messages) as report:
        options |= {"null": null, "device": device, "progress": report}
        if ray is None:
            summary = build(source, index, resume=resume, **options)
        else:
            summary = _build_on_ray(source, index, shards=shards, address=ray, **options)
    print_build(index, summary, as_json)


def _build_on_ray(source: str, index: Path, **options: Any) -> BuildSummary:
    from nda_index.cluster.build import build_shards  # Ray is optional

    return build_shards(source, index, **options)


def add_command(
    index: IndexFolder,
    source: Annotated[str, typer.Argument(help="Images, as for build; metadata columns that they lack are null.")],
    image_column: ImageColumn = None,
    split: Split = None,
    max_failures: MaxFailures = None,
    value_range: ValueRangeText = None,
    allow_duplicates: Annotated[
        bool, typer.Option("--allow-duplicates", help="Add images again that the index has by key and pixels.")
    ] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Add images to an index. Whoever has it open goes on without them.

    Example:

      nda-index add photos.nda new-photos/
    """
    from nda_index.indexing.addition import add_images

    with progress_bars(messages) as report:
        summary = add_images(
            index, source, max_failures=max_failures, allow_duplicates=allow_duplicates, image_column=image_column,
            split=split, value_range=value_range, device=device, progress=report,
        )  # fmt: skip
    print_edit(index, summary, as_json, f"Added {count_images(summary.changed)}")
    if not as_json:
        print_missing(summary.failures, summary.left_out, summary.missing)


def remove_command(
    index: IndexFolder,
    image_id: Annotated[list[int] | None, typer.Option(help="Id of an image; may be repeated.")] = None,
    key: Annotated[list[str] | None, typer.Option(help="Key of an image; may be repeated.")] = None,
    pixel_hash: Annotated[
        list[str] | None,
        typer.Option(help="Hash of an image's pixels, as in a line `removal` of the audit log; may be repeated."),
    ] = None,
    where: Annotated[str | None, typer.Option(help="Condition on the metadata, as for query.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed; remove nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Remove images: they are never returned again. `compact` erases their bytes.

    Examples:

      nda-index remove photos.nda --key holiday/0042.jpg

      nda-index remove photos.nda --where "artist = 'A. Painter'" --dry-run
    """
    from nda_index.indexing.removal import remove_images

    summary = remove_images(
        index, image_ids=image_id or [], keys=key or [], pixel_hashes=pixel_hash or [], where=where, dry_run=dry_run
    )
    print_removal(index, summary, as_json)


def compact_command(
    index: IndexFolder,
    wait: Annotated[
        float,
        typer.Option(help="Seconds to wait for those who read the earlier state. Services leave it by themselves."),
    ] = 60.0,
    as_json: Json = False,
) -> None:
    """Erase the bytes of removed images. The remaining images get new ids, in the same order.

    Exit code 10 if somebody still reads the earlier state after --wait seconds: run it again, or end that process.

    Example:

      nda-index compact photos.nda && nda-index verify photos.nda
    """
    from nda_index.indexing.compaction import compact
    from nda_index.serve.results import drop_stale_answers

    if not wait >= 0:
        raise ConfigError(f"wait is {wait}; it must be 0 or more seconds")
    with progress_bars(messages) as report:
        summary = compact(index, wait=wait, progress=report)
    drop_stale_answers(index)
    print_edit(index, summary, as_json, f"Erased {count_images(summary.changed)}")
    if summary.waiting:
        if not as_json:
            print_waiting(summary)
        raise typer.Exit(WAITING)


def tune_command(
    index: IndexFolder,
    recall: Annotated[
        float | None, typer.Option(help="Wanted fraction of the exact top 100. More makes questions slower.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Wanted time of a question. Less finds less.")] = None,
    timestep: Annotated[
        int | None, typer.Option(help="Of the questions, in place of a recipe. The setting is measured for it alone.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help=f"Of the questions; {RECIPE} by default.")] = None,
    queries: Annotated[
        int, typer.Option(help="Number of questions. More measure better; each scores the whole collection once.")
    ] = 8,
    as_json: Json = False,
) -> None:
    """Choose how much an index looks at, measured on it, for a wanted recall or a wanted time.

    Examples:

      nda-index tune photos.nda --recall 0.95

      nda-index tune photos.nda --seconds 0.5
    """
    from nda_index.evaluate.tuning import tune
    from nda_index.index import open_index
    from nda_index.store.manifest import read_manifest

    with progress_bars(messages) as report:
        tuning = tune(
            open_index(index), recall=recall, seconds=seconds, timestep=timestep, recipe=recipe, queries=queries,
            progress=report,
        )  # fmt: skip
    print_tuning(index, tuning, read_manifest(index).tuning, as_json)


def info_command(index: IndexFolder, as_json: Json = False) -> None:
    """Say what an index holds, who changes it and who reads it, and which device answers questions here.

    Example:

      nda-index info photos.nda
    """
    from nda_index.device import describe_device
    from nda_index.query.shard import count_resident
    from nda_index.store.manifest import read_manifest
    from nda_index.store.state import look

    manifest, device = read_manifest(index), describe_device()
    print_manifest(index, manifest, look(index), device, count_resident(manifest, device), as_json)


def verify_command(index: IndexFolder, as_json: Json = False) -> None:
    """Hash every file of an index again.

    Exit code 1 if a file is changed, missing or truncated; else 10 if old files wait for readers or for compact; else
    11 if there are files that do not belong to the index; else 12 if a pull was interrupted.

    Example:

      nda-index verify photos.nda
    """
    from nda_index.store.verify import judge_findings, verify

    with progress_bars(messages) as report:
        findings = verify(index, report)
    print_findings(index, findings, as_json)
    raise typer.Exit(judge_findings(findings))
