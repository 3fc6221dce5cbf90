"""The command line: nda-index build | query | denoise | add | remove | compact | tune | serve | token | ..."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nda_index.answer.attribution import Attribution
from nda_index.answer.denoised import DENOISED_FORMS, Denoised
from nda_index.answer.forms import FORMS, strict_json
from nda_index.errors import ConfigError, NdaIndexError
from nda_index.evaluate.commands import evaluate
from nda_index.index import Index, open_index
from nda_index.indexing.addition import add_images
from nda_index.indexing.compaction import compact
from nda_index.indexing.edits import EditSummary
from nda_index.indexing.pipeline import BuildSummary, build
from nda_index.indexing.plan import Estimate
from nda_index.indexing.removal import remove_images
from nda_index.indexing.request import DEFAULT_MEMORY, DEFAULT_SCALES, estimate_build
from nda_index.progress import progress_bars
from nda_index.scales import parse_scale
from nda_index.serve.commands import serve, token
from nda_index.store.files import ending_of
from nda_index.store.manifest import read_manifest
from nda_index.store.verify import verify
from nda_index.tune import tune, tuning_summary
from nda_index.version import __version__

EXIT_CODES = """
Exit codes: 0 success, 1 `verify` found damage, 2 a wrong option, 3 the images cannot be read, 4 the folder cannot be
used as an index, 5 the question cannot be answered, 6 the disk is full, 7 a package is missing, 130 interrupted.
"""

app = typer.Typer(
    name="nda-index",
    help="Which training images is a picture made of?" + "\n\n" + EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
console = Console()
messages = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def main() -> None:
    """Run the command line; errors become one line on standard error and an exit code."""
    try:
        app()
    except NdaIndexError as error:
        fail(error)
    except KeyboardInterrupt:
        messages.print("interrupted")
        sys.exit(130)


def fail(error: NdaIndexError) -> NoReturn:
    """Print an error as one line and exit with its code."""
    print("error: " + " ".join(str(error).split()), file=sys.stderr)
    sys.exit(error.exit_code)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command("build")
def build_command(
    source: Annotated[str, typer.Argument(help="Folder, Parquet file(s), WebDataset .tar shard(s) or .npz.")],
    index: Annotated[Path, typer.Argument(help="Folder to write the index to, such as my.nda.")],
    image_size: Annotated[int, typer.Option(help="Side in pixels at which images are compared.")] = 32,
    scale: Annotated[
        list[str] | None, typer.Option(help="PATCH, PATCH/DOWNSCALE or PATCH/DOWNSCALE*WEIGHT; may be repeated.")
    ] = None,
    grey: Annotated[bool, typer.Option("--grey", help="Compare in grey: one channel.")] = False,
    column: Annotated[list[str] | None, typer.Option(help="Metadata column to keep; may be repeated.")] = None,
    max_failures: Annotated[int | None, typer.Option(help="Unreadable images allowed; 1% by default.")] = None,
    coarse_stride: Annotated[int | None, typer.Option(help="Every how many pixels a patch is indexed.")] = None,
    memory_mib: Annotated[int, typer.Option(help="Memory for the coarse stage of the open index.")] = DEFAULT_MEMORY
    >> 20,
    null: Annotated[int, typer.Option(help="Pictures that verdicts are set against; 0: no verdicts.")] = 199,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted build.")] = False,
    ray: Annotated[
        str | None, typer.Option(help="Build on the Ray cluster at this address; auto: this machine's.")
    ] = None,
    shards: Annotated[int, typer.Option(help="Parts of the index, with --ray.")] = 4,
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
        _print_estimate(estimate_build(source, **options), as_json)
        return
    with progress_bars(messages) as report:
        if ray is None:
            summary = build(source, index, null=null, resume=resume, progress=report, **options)
        else:
            from nda_index.cluster.build import build_shards  # Ray is optional

            summary = build_shards(source, index, shards=shards, address=ray, null=null, progress=report, **options)
    if as_json:
        _print_json({"index": str(index), **_summary_values(summary)})
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


@app.command()
def query(
    index: Annotated[Path, typer.Argument(help="Index folder.")],
    image: Annotated[Path, typer.Argument(help="The picture to explain.")],
    timestep: Annotated[list[int] | None, typer.Option(help="0 to 999; may be repeated. 100 by default.")] = None,
    top: Annotated[int, typer.Option(help="Number of images in the answer.")] = 10,
    noise: Annotated[str, typer.Option(help="none, draw (one, as published) or average.")] = "none",
    seed: Annotated[int, typer.Option(help="Number of the noise draw.")] = 0,
    draws: Annotated[int, typer.Option(help="Number of draws with --noise average.")] = 8,
    temper: Annotated[float, typer.Option(help="Divides the logits: above 1 is broader.")] = 1.0,
    mode: Annotated[str, typer.Option(help="ann: score a shortlist; exact: score every image.")] = "ann",
    candidates: Annotated[int | None, typer.Option(help="Length of the shortlist; chosen by default.")] = None,
    per_image_topk: Annotated[int | None, typer.Option(help="Only the K largest weights of an image count.")] = None,
    mirror: Annotated[bool, typer.Option("--mirror", help="Mirror images belong to the collection too.")] = False,
    where: Annotated[str | None, typer.Option(help="SQL condition on the metadata, as \"license = 'CC0'\".")] = None,
    ray: Annotated[
        str | None, typer.Option(help="Ask on the Ray cluster at this address; auto: this machine's.")
    ] = None,
    save: Annotated[
        list[Path] | None, typer.Option(help="Write .html, .png, .json, .parquet or .arrow; may be repeated.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="The .html also has the picture as the collection explains it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Ask an index where a picture comes from.

    Examples:

      nda-index query photos.nda picture.png --save report.html --explain

      nda-index query photos.nda picture.png --timestep 50 --timestep 200 --top 20 --json
    """
    forms = [ending_of(path, FORMS) for path in save or []]
    if explain and "html" not in forms:
        raise ConfigError("--explain is given, but no --save ends in .html; the report alone shows it")
    if explain and per_image_topk is not None:
        raise ConfigError("--explain is given with --per-image-topk; a mean counts every window, so leave one out")
    with progress_bars(messages) as report:
        report("open", 0, 1)
        opened = _opened(index, ray)
        report("open", 1, 1)
        options: dict[str, Any] = {
            "noise": noise, "seed": seed, "draws": draws, "temper": temper, "mode": mode, "candidates": candidates,
            "mirror": mirror, "where": where, "progress": report,
        }  # fmt: skip
        timesteps = timestep or [100]
        answer = opened.attribute(image, timesteps, top, per_image_topk=per_image_topk, **options)
        explained = _explained(opened, image, timesteps, answer, options) if explain else []
    for path, form in zip(save or [], forms, strict=True):
        answer.save(path, explained=explained if form == "html" else ())
    if as_json:
        _print_json(answer.to_dict())
        return
    table = Table("rank", "share", "score", "image", "key", "verdict")
    for rank, row in enumerate(answer.to_table().to_pylist()):
        judged = (
            "" if row["percentile"] is None or row["percentile"] != row["percentile"] else str(answer.verdict(rank))
        )
        score = f"{row['score']:.3f} +- {row['score_error']:.3f}" if row["score_error"] else f"{row['score']:.3f}"
        table.add_row(str(rank + 1), f"{row['share']:.1%}", score, str(row["image_id"]), escape(row["key"]), judged)
    console.print(table)
    console.print(
        f"{answer.scored:,} of {answer.collection:,} images scored exactly; they hold {answer.mass_covered:.0%} "
        f"(+- {2 * answer.mass_error:.0%}) of the posterior. A share is likeness, not proof."
    )
    for path in save or []:
        console.print(f"Wrote {escape(str(path))}.")


def _explained(
    index: Index, image: Path, timesteps: list[int], answer: Attribution, options: dict[str, Any]
) -> list[Denoised]:
    """The picture as the collection explains it, and without the images of the answer, if any are left."""
    left_out = ((), answer.image_ids) if answer.collection > len(answer) else ((),)
    return [
        index.denoise(image, timesteps, without=ids, **{**options, "candidates": _enough(answer, len(ids))})
        for ids in left_out
    ]


def _enough(answer: Attribution, left_out: int) -> int:
    """Candidates that leave as many as the answer had, without some of its images."""
    return min(answer.scored + left_out, answer.collection)


@app.command("denoise")
def denoise_command(
    index: Annotated[Path, typer.Argument(help="Index folder.")],
    image: Annotated[Path, typer.Argument(help="The picture to explain.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .png to write.")],
    timestep: Annotated[list[int] | None, typer.Option(help="0 to 999; may be repeated. 100 by default.")] = None,
    without_top: Annotated[int, typer.Option(help="Leave out so many images with the highest scores.")] = 0,
    mode: Annotated[str, typer.Option(help="ann: average over a shortlist; exact: over every image.")] = "ann",
    mirror: Annotated[bool, typer.Option("--mirror", help="Mirror images belong to the collection too.")] = False,
    where: Annotated[str | None, typer.Option(help="SQL condition on the metadata, as \"license = 'CC0'\".")] = None,
    ray: Annotated[
        str | None, typer.Option(help="Ask on the Ray cluster at this address; auto: this machine's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a picture as the collection explains it: the mean of its images' pixels by their posterior weights.

    Examples:

      nda-index denoise photos.nda picture.png -o explained.png

      nda-index denoise photos.nda picture.png --without-top 5 -o without.png
    """
    ending_of(output, DENOISED_FORMS)
    options: dict[str, Any] = {"mode": mode, "mirror": mirror, "where": where}
    timesteps = timestep or [100]
    with progress_bars(messages) as report:
        opened = _opened(index, ray)
        if without_top:
            answer = opened.attribute(image, timesteps, without_top, **options)
            options |= {"without": answer.image_ids, "candidates": _enough(answer, without_top)}
        found = opened.denoise(image, timesteps, progress=report, **options)
    found.save(output)
    if as_json:
        _print_json({"picture": str(output), **found.to_dict()})
        return
    console.print(
        f"Wrote {escape(str(output))}: {found.distance:.3f} away from the picture (root mean square of pixels from -1 "
        f"to 1), from {found.averaged:,} of {found.collection:,} images."
    )


@app.command()
def add(
    index: Annotated[Path, typer.Argument(help="Index folder.")],
    source: Annotated[str, typer.Argument(help="Images, as for build, with the metadata columns of the index.")],
    max_failures: Annotated[int | None, typer.Option(help="Unreadable images allowed; 1% by default.")] = None,
    as_json: Json = False,
) -> None:
    """Add images to an index. Who has it open goes on without them.

    Example:

      nda-index add photos.nda new-photos/
    """
    with progress_bars(messages) as report:
        summary = add_images(index, source, max_failures=max_failures, progress=report)
    _print_edit(index, summary, as_json, f"Added {summary.changed:,} images")
    if summary.failures and not as_json:
        console.print(f"{summary.failures:,} images could not be read; the index's failures files list them.")


@app.command()
def remove(
    index: Annotated[Path, typer.Argument(help="Index folder.")],
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
    _print_edit(index, summary, as_json, f"Removed {summary.changed:,} images")


@app.command("compact")
def compact_command(index: Annotated[Path, typer.Argument(help="Index folder.")], as_json: Json = False) -> None:
    """Erase the bytes of removed images. The remaining images get new ids, in the same order.

    Example:

      nda-index compact photos.nda && nda-index verify photos.nda
    """
    with progress_bars(messages) as report:
        summary = compact(index, progress=report)
    _print_edit(index, summary, as_json, f"Erased {summary.changed:,} images")
    if summary.waiting and not as_json:
        console.print(f"{summary.waiting} old files wait for open readers; close them and run compact again.")


@app.command("tune")
def tune_command(
    index: Annotated[Path, typer.Argument(help="Index folder.")],
    recall: Annotated[float | None, typer.Option(help="Wanted fraction of the exact top 100.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Wanted time of a question.")] = None,
    timestep: Annotated[int, typer.Option(help="Of the questions.")] = 100,
    queries: Annotated[int, typer.Option(help="Number of questions; each scores the whole collection once.")] = 8,
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
        _print_json({"index": str(index), **asdict(tuning)})
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
    console.print(f"Chosen: {tuning_summary(read_manifest(index).tuning)}. Questions use it unless they say otherwise.")


app.command("serve")(serve)
app.command("token")(token)
app.command("evaluate")(evaluate)


@app.command()
def info(index: Annotated[Path, typer.Argument(help="Index folder.")], as_json: Json = False) -> None:
    """Say what an index holds.

    Example:

      nda-index info photos.nda
    """
    manifest = read_manifest(index)
    size = sum(entry["size"] for entry in manifest.files.values())
    if as_json:
        _print_json(
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
    table.add_row("tuning", tuning_summary(manifest.tuning) if manifest.tuning else "none; see nda-index tune")
    table.add_row("on disk", f"{size / 2**20:,.1f} MiB in {len(manifest.files)} files")
    table.add_row("written by", f"nda_index {manifest.version}, format {manifest.format_version}")
    table.add_row("index hash", manifest.index_hash)
    console.print(table)


@app.command("verify")
def verify_command(index: Annotated[Path, typer.Argument(help="Index folder.")], as_json: Json = False) -> None:
    """Hash every file of an index again; exit code 1 if one is changed, missing, truncated or does not belong.

    Example:

      nda-index verify photos.nda
    """
    with progress_bars(messages) as report:
        problems = verify(index, report)
    if as_json:
        _print_json({"index": str(index), "intact": not problems, "problems": problems})
    elif problems:
        for problem in problems:
            console.print(escape(problem))
        console.print(f"{len(problems)} problems; restore the index from a copy, or build it again.")
    else:
        console.print("Every file is as it was built.")
    if problems:
        raise typer.Exit(1)


def _opened(index: Path, ray: str | None) -> Index:
    if ray is None:
        return open_index(index)
    from nda_index.cluster.shards import open_cluster  # Ray is optional

    return open_cluster(index, ray)


def _print_edit(index: Path, summary: EditSummary, as_json: bool, what: str) -> None:
    if as_json:
        _print_json({"index": str(index), **asdict(summary)})
    else:
        console.print(f"{what}; {escape(str(index))} has {summary.images:,} now.")


def _print_estimate(estimate: Estimate, as_json: bool) -> None:
    if as_json:
        _print_json(asdict(estimate))
        return
    table = Table(show_header=False, box=None)
    table.add_row("images", f"{estimate.images:,}")
    table.add_row("time", f"about {estimate.seconds / 60:,.1f} minutes on this machine")
    table.add_row("disk", f"{estimate.disk_bytes / 2**30:,.2f} GiB")
    table.add_row("memory", f"{estimate.memory_bytes / 2**30:,.2f} GiB while it builds")
    table.add_row("lists", f"{estimate.served_bytes / 2**30:,.2f} GiB, mapped to memory by who asks")
    for name, description in estimate.scales.items():
        table.add_row(f"scale {name}", description)
    console.print(table)


def _summary_values(summary: BuildSummary) -> dict[str, Any]:
    return {
        "images": summary.images,
        "failures": summary.failures,
        "scales": summary.scales,
        "started_over": summary.started_over,
        "resumed": summary.resumed,
    }


def _print_json(values: dict[str, Any]) -> None:
    print(strict_json(values))
