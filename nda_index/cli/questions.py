"""The commands that put a question to an index: query and denoise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from nda_index.cli.output import Json, ValueRangeText, console, messages, print_answer, print_json, print_table
from nda_index.errors import ConfigError, ImageDecodeError
from nda_index.progress import Progress, progress_bars
from nda_index.version import __version__

if TYPE_CHECKING:
    from nda_index.answer.attribution import Attribution
    from nda_index.answer.denoised import Denoised
    from nda_index.index import Index
    from nda_index.question import Query

# Commands import what they need when they run, so that help comes at once; defaults are those of `Index.attribute`.
DEFAULT_TOP = 10
RECIPES = ("models", "pieces", "published")

IndexFolder = Annotated[Path, typer.Argument(help="Index folder.")]
Picture = Annotated[
    Path, typer.Argument(help="The picture to explain; of latents, an .npy, .npz or .safetensors with one.")
]
Shown = Annotated[
    Path | None, typer.Option("--picture", help="Picture that a latent was made of, for the report to show.")
]
Timesteps = Annotated[
    list[int] | None,
    typer.Option(
        help="0 to 999, in place of a recipe: small for detail, large for composition. May be repeated; each costs a "
        "pass."
    ),
]
RecipeText = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help=f"Which patches are compared under which noise: {', '.join(RECIPES)}, or terms PATCH@TIMESTEP, as "
        f"'3@100 + 5@200(draws=2)'. Each term and draw costs a pass. {RECIPES[0]} by default.",
    ),
]
Candidates = Annotated[
    int | None,
    typer.Option(help="Length of the shortlist; chosen by default. More miss less; each costs an exact score."),
]
Mirror = Annotated[bool, typer.Option("--mirror", help="Mirror images belong to the collection too. Twice the time.")]
Where = Annotated[
    str | None,
    typer.Option(help="Condition on the metadata, as \"license = 'CC0'\". Costs a scan of the metadata."),
]
Ray = Annotated[
    str | None, typer.Option(help="Open the shards on the Ray cluster at this address; auto: this machine's.")
]
RegionText = Annotated[
    str | None,
    typer.Option("--region", metavar="L,T,R,B", help="Ask about this part: left, top, right, bottom in its pixels."),
]
Save = Annotated[list[Path] | None, typer.Option(help="Write .html, .png, .json, .parquet or .arrow; may be repeated.")]
TableFile = Annotated[
    Path | None,
    typer.Option(
        "--table",
        help="Ask about every picture of a folder or other source, and write this .csv or .parquet: a line for each "
        "strong region, or for the best image. A run that was ended goes on where it was.",
    ),
]
Explain = Annotated[
    bool,
    typer.Option("--explain", help="The .html also has the picture as the collection explains it. Costs two means."),
]


def query_command(
    index: IndexFolder,
    image: Picture,
    timestep: Timesteps = None,
    recipe: RecipeText = None,
    top: Annotated[int, typer.Option(help="Number of images in the answer. Each costs its heat maps.")] = DEFAULT_TOP,
    noise: Annotated[
        str, typer.Option(help="none, draw (one, as published) or average, which costs a pass for each draw.")
    ] = "none",
    seed: Annotated[int, typer.Option(help="Number of the noise draw. Costs nothing.")] = 0,
    draws: Annotated[
        int, typer.Option(help="Number of draws with --noise average. More are steadier; each costs a pass.")
    ] = 8,
    temper: Annotated[
        float, typer.Option(help="Divides the logits: above 1 is broader, with a longer shortlist.")
    ] = 1.0,
    mode: Annotated[
        str, typer.Option(help="ann: score a shortlist; exact: score every image, in time that grows with them.")
    ] = "ann",
    candidates: Candidates = None,
    per_image_topk: Annotated[
        int | None, typer.Option(help="Only the K largest weights of an image count. Several times slower.")
    ] = None,
    mirror: Mirror = False,
    where: Where = None,
    region: RegionText = None,
    value_range: ValueRangeText = None,
    picture: Shown = None,
    ray: Ray = None,
    save: Save = None,
    explain: Explain = False,
    table: TableFile = None,
    as_json: Json = False,
) -> None:
    """Ask an index where a picture comes from, or every picture of a folder.

    Examples:

      nda-index query photos.nda picture.png --save report.html --explain

      nda-index query photos.nda picture.png --timestep 50 --timestep 200 --top 20 --json

      nda-index query photos.nda pictures/ --table found.csv
    """
    from nda_index.question import parse_region

    files = _check_files(save or [], explain, per_image_topk, table)
    with progress_bars(messages) as report:
        report("open", 0, 1)
        opened = _open(index, ray)
        report("open", 1, 1)
        options: dict[str, Any] = {
            "recipe": recipe, "noise": noise, "seed": seed, "draws": draws, "temper": temper, "mode": mode,
            "candidates": candidates, "mirror": mirror, "where": where, "region": parse_region(region),
        }  # fmt: skip
        if table is not None or image.is_dir():
            options["per_image_topk"] = per_image_topk
            return _ask_many(opened, image, table, timestep, value_range, options, report, as_json)
        options["progress"] = report
        asked = _read_question(opened, image, value_range, picture)
        answer = opened.attribute(asked, timestep, top, per_image_topk=per_image_topk, **options)
        explained = _explain(opened, asked, timestep, answer, options) if explain else []
    for path, form in files.items():
        answer.save(path, explained=explained if form == "html" else ())
    if as_json:
        return print_json(answer.to_dict())
    print_answer(answer)
    for path in files:
        console.print(f"Wrote {escape(str(path))}.")
    return None


def _ask_many(
    index: Index,
    source: Path,
    table: Path | None,
    timestep: list[int] | None,
    value_range: str | None,
    options: dict[str, Any],
    report: Progress,
    as_json: bool,
) -> None:
    """Ask about every picture of a source, write a table, and print what became of it."""
    from nda_index.query.many import SHOWN, ask_many
    from nda_index.question import as_question
    from nda_index.sources import Absent, Unreadable, open_source

    if table is None:
        raise ConfigError(f"{str(source)!r} is a folder; give one picture, or --table FILE to ask about all of them")
    latents = index.latents
    opened = open_source(source, value_range=value_range, latents=index.shape if latents else False)

    left_out = [(one.key, one.reason) for one in opened.left_out]

    def pictures() -> Iterator[tuple[str, Any]]:
        for raw in opened.read():
            if isinstance(raw.data, Absent):
                left_out.append((raw.key, raw.data.reason))
            else:
                yield raw.key, raw.data

    def prepare(picture: Any) -> Query:
        if isinstance(picture, Unreadable):
            raise ImageDecodeError(picture.reason)
        return index.query(_read_question(index, picture, value_range), timestep, 1, **options)

    settings = as_question(timestep, **options).as_settings() | {"index_hash": index.manifest.index_hash}
    settings |= {"source": str(source), "value_range": value_range, "version": __version__}
    asked = ask_many(
        pictures(), table, settings, prepare, index.attribute_batch,
        lambda done: report("questions", done, opened.count),
    )  # fmt: skip
    some = (*asked.missing, *left_out)[:SHOWN]
    print_table(table, asked._replace(left_out=len(left_out), missing=some), as_json)


def denoise_command(
    index: IndexFolder,
    image: Picture,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .png to write; of latents the .npy or .npz.")],
    timestep: Timesteps = None,
    recipe: RecipeText = None,
    without_top: Annotated[
        int, typer.Option(help="Leave out this many of the images with the highest scores. Costs a query first.")
    ] = 0,
    mode: Annotated[
        str, typer.Option(help="ann: average over a shortlist; exact: over every image, in time that grows with them.")
    ] = "ann",
    mirror: Mirror = False,
    where: Where = None,
    value_range: ValueRangeText = None,
    ray: Ray = None,
    as_json: Json = False,
) -> None:
    """Write a picture as the collection explains it: the mean of its images' pixels by their posterior weights.

    Examples:

      nda-index denoise photos.nda picture.png -o explained.png

      nda-index denoise photos.nda picture.png --without-top 5 -o without.png
    """
    from nda_index.answer.denoised import LATENT_FORMS, PICTURE_FORMS
    from nda_index.store.files import check_folder, ending_of

    ending_of(output, PICTURE_FORMS + LATENT_FORMS)
    if without_top < 0:
        raise ConfigError(f"without_top is {without_top}; it must be 0 or more")
    check_folder(output)
    options: dict[str, Any] = {"recipe": recipe, "mode": mode, "mirror": mirror, "where": where}
    with progress_bars(messages) as report:
        opened = _open(index, ray)
        ending_of(output, LATENT_FORMS if opened.latents else PICTURE_FORMS)
        picture = _read_question(opened, image, value_range)
        if without_top:
            answer = opened.attribute(picture, timestep, without_top, **options)
            options |= {"without": answer.image_ids, "candidates": _enough_candidates(answer, without_top)}
        mean = opened.denoise(picture, timestep, progress=report, **options)
    mean.save(output)
    if as_json:
        print_json({"picture": str(output), **mean.to_dict()})
        return
    asked, unit = ("latent", "its numbers") if mean.latents else ("picture", "pixels from -1 to 1")
    console.print(
        f"Wrote {escape(str(output))}: {mean.distance:.3f} away from the {asked} (root mean square of {unit}), from "
        f"{mean.averaged:,} of {mean.collection:,} images."
    )


def _read_question(index: Index, picture: Any, value_range: str | None, shown: Path | None = None) -> Any:
    """Read a picture by the range of its floats, where one is stated; the picture itself otherwise.

    Beside a latent, `shown` is the picture that it was made of.
    """
    from nda_index.images import Latent, read_picture

    latents = index.latents
    if latents and value_range is not None:
        raise ConfigError("--value-range is given, and the index holds latents, which are compared as they are given")
    if shown is not None:
        if not latents:
            raise ConfigError("--picture is given, and the index holds pictures; it is for an index of latents")
        return Latent(picture, shown)
    return picture if value_range is None else read_picture(picture, value_range=value_range)


def _open(index: Path, ray: str | None) -> Index:
    if ray is None:
        from nda_index.index import open_index

        return open_index(index)
    from nda_index.cluster.shards import open_cluster  # Ray is optional

    return open_cluster(index, ray)


def _check_files(save: list[Path], explain: bool, per_image_topk: int | None, table: Path | None) -> dict[Path, str]:
    """Return the forms of the files that are to be written; `ConfigError` for those that cannot be."""
    from nda_index.answer.forms import FORMS
    from nda_index.store.files import check_folder, ending_of

    for path in [*save, *([] if table is None else [table])]:
        check_folder(path)
    files = {path: ending_of(path, FORMS) for path in save}
    if table is not None and (files or explain):
        raise ConfigError("--table is given with --save or --explain, which are for one picture; leave these out")
    if not explain:
        return files
    if "html" not in files.values():
        raise ConfigError("--explain is given, but no --save ends in .html; the report alone shows it")
    if per_image_topk is not None:
        raise ConfigError("--explain is given with --per-image-topk; a mean counts every window, so leave one out")
    return files


def _explain(
    index: Index, image: Any, timestep: list[int] | None, answer: Attribution, options: dict[str, Any]
) -> list[Denoised]:
    """Return the picture as the collection explains it, and without the images of the answer, if any are left."""
    left_out = ((), answer.image_ids) if answer.collection > len(answer) else ((),)
    return [
        index.denoise(image, timestep, without=ids, **{**options, "candidates": _enough_candidates(answer, len(ids))})
        for ids in left_out
    ]


def _enough_candidates(answer: Attribution, left_out: int) -> int:
    """Return how many candidates leave as many as the answer had, once some of its images are taken out."""
    return min(answer.scored + left_out, answer.collection)
