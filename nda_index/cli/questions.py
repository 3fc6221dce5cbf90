"""The commands that take a picture: query and denoise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from nda_index.answer.attribution import Attribution
from nda_index.answer.denoised import DENOISED_FORMS, Denoised
from nda_index.answer.forms import FORMS
from nda_index.cli.options import DEFAULTS, TIMESTEP, IndexFolder, Json, Mirror, Mode, Picture, Ray, Timestep, Where
from nda_index.cli.output import console, messages, print_answer, print_json
from nda_index.errors import ConfigError
from nda_index.index import Index, open_index
from nda_index.progress import progress_bars
from nda_index.store.files import ending_of


def query(
    index: IndexFolder,
    image: Picture,
    timestep: Timestep = None,
    top: Annotated[int, typer.Option(help="Images in the answer; each costs its two maps.")] = 10,
    noise: Annotated[
        str, typer.Option(help="none: the steadiest ranking; draw: one draw, as published; average: --draws of them.")
    ] = DEFAULTS.noise,
    seed: Annotated[int, typer.Option(help="Number of the first noise draw.")] = DEFAULTS.seed,
    draws: Annotated[
        int, typer.Option(help="Draws with --noise average: more are steadier, each costs as much.")
    ] = DEFAULTS.draws,
    temper: Annotated[
        float, typer.Option(help="Divides the logits: above 1 more images share a patch, below 1 fewer.")
    ] = DEFAULTS.temper,
    mode: Mode = DEFAULTS.mode,
    candidates: Annotated[
        int | None, typer.Option(help="Length of the shortlist, chosen by default: more miss less, each costs as much.")
    ] = DEFAULTS.candidates,
    per_image_topk: Annotated[
        int | None, typer.Option(help="Only the K largest weights of an image count; several times slower.")
    ] = DEFAULTS.per_image_topk,
    mirror: Mirror = DEFAULTS.mirror,
    where: Where = DEFAULTS.where,
    ray: Ray = None,
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
        opened = open_anywhere(index, ray)
        report("open", 1, 1)
        options: dict[str, Any] = {
            "noise": noise, "seed": seed, "draws": draws, "temper": temper, "mode": mode, "candidates": candidates,
            "mirror": mirror, "where": where, "progress": report,
        }  # fmt: skip
        timesteps = timestep or [TIMESTEP]
        answer = opened.attribute(image, timesteps, top, per_image_topk=per_image_topk, **options)
        explained = _explain(opened, image, timesteps, answer, options) if explain else []
    for path, form in zip(save or [], forms, strict=True):
        answer.save(path, explained=explained if form == "html" else ())
    if as_json:
        print_json(answer.to_dict())
    else:
        print_answer(answer)
        for path in save or []:
            console.print(f"Wrote {escape(str(path))}.")


def _explain(
    index: Index, image: Path, timesteps: list[int], answer: Attribution, options: dict[str, Any]
) -> list[Denoised]:
    """The picture as the collection explains it, and without the images of the answer, if any are left."""
    left_out = ((), answer.image_ids) if answer.collection > len(answer) else ((),)
    return [
        index.denoise(image, timesteps, without=ids, **{**options, "candidates": _count_candidates(answer, len(ids))})
        for ids in left_out
    ]


def _count_candidates(answer: Attribution, left_out: int) -> int:
    """Candidates that leave as many as the answer had, without some of its images."""
    return min(answer.scored + left_out, answer.collection)


def denoise(
    index: IndexFolder,
    image: Picture,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .png to write.")],
    timestep: Timestep = None,
    without_top: Annotated[int, typer.Option(help="Leave out this number of images with the highest scores.")] = 0,
    mode: Mode = DEFAULTS.mode,
    mirror: Mirror = DEFAULTS.mirror,
    where: Where = DEFAULTS.where,
    ray: Ray = None,
    as_json: Json = False,
) -> None:
    """Write a picture as the collection explains it: the mean of its images' pixels by their posterior weights.

    Examples:

      nda-index denoise photos.nda picture.png -o explained.png

      nda-index denoise photos.nda picture.png --without-top 5 -o without.png
    """
    ending_of(output, DENOISED_FORMS)
    options: dict[str, Any] = {"mode": mode, "mirror": mirror, "where": where}
    timesteps = timestep or [TIMESTEP]
    with progress_bars(messages) as report:
        opened = open_anywhere(index, ray)
        if without_top:
            answer = opened.attribute(image, timesteps, without_top, **options)
            options |= {"without": answer.image_ids, "candidates": _count_candidates(answer, without_top)}
        mean = opened.denoise(image, timesteps, progress=report, **options)
    mean.save(output)
    if as_json:
        print_json({"picture": str(output), **mean.to_dict()})
        return
    console.print(
        f"Wrote {escape(str(output))}: {mean.distance:.3f} away from the picture (root mean square of pixels from -1 "
        f"to 1), from {mean.averaged:,} of {mean.collection:,} images."
    )


def open_anywhere(index: Path, ray: str | None) -> Index:
    """Open an index in this process, or on a Ray cluster."""
    if ray is None:
        return open_index(index)
    from nda_index.cluster.shards import open_cluster  # Ray is optional

    return open_cluster(index, ray)
