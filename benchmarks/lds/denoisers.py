"""Are the trained models patch posteriors at all? Their losses against those of the posterior of the same halves.

    python -m benchmarks.lds.denoisers

If a model of a half is the patch posterior of that half, scores sum to what it knows of a picture. Here the posterior
mean of each half denoises the same noisy pictures as the trained models, and its loss is compared with theirs. No
scores are summed. Reads ../shared/data and benchmarks/lds/data; takes five minutes on two cores. Writes
benchmarks/results/denoisers.md and .json.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from scipy.stats import spearmanr

from benchmarks.lds.model import query_noises, to_tensor
from benchmarks.lds.rescore import DATA, GROUPS, load_study
from benchmarks.lds.setting import SMALL
from benchmarks.machine import RESULTS, describe_machine
from nda_index.diffusion import noise_level
from nda_index.evaluate.lds import mean_with_interval

PATCHES = (3, 5, 7)
TIMESTEPS = (75, 175, 325)
PICTURES = 10  # of each group
OUTSIDE = 3.0  # by how much a pixel outside differs from one inside

console = Console(width=200)


def main() -> None:
    """Compare, then write."""
    study = load_study()
    train = to_tensor(study.train)
    masks = torch.from_numpy(study.masks.T.astype(np.float64))  # [N, M]
    chosen = np.concatenate([np.arange(PICTURES), SMALL.queries + np.arange(PICTURES)])
    clean = to_tensor(np.concatenate([study.queries[group] for group in GROUPS]))
    noises = dict(query_noises(SMALL, clean.shape))
    kept = np.load(DATA / "small.npz")["losses"].mean(axis=0)[:, chosen]  # [M, 2 Q, timesteps]
    rows = []
    for patch in PATCHES:
        windows = cut_windows(train, patch)
        for timestep in TIMESTEPS:
            column = SMALL.timesteps.index(timestep)
            level = noise_level(timestep)
            losses = np.zeros((masks.shape[1], len(chosen)))
            for place, q in enumerate(track(chosen, f"patch {patch}, t = {timestep}")):
                for noise in noises[timestep]:
                    noisy = clean[q] + level.sigma / level.signal * noise[q]
                    of_halves = measure_halves(clean[q], noisy, train, windows, masks, timestep)
                    losses[:, place] += of_halves / SMALL.noises
            for number, group in enumerate(GROUPS):
                part = slice(number * PICTURES, (number + 1) * PICTURES)
                real = kept[:, part, column]
                row = {"patch": patch, "timestep": timestep, "group": group}
                row |= {"posterior": float(losses[:, part].mean()), "real": float(real.mean())}
                row |= {"at": correlate(losses[:, part], real)}
                row |= {"mean": correlate(losses[:, part], kept[:, part].mean(axis=2))}
                rows.append(row)
    results = {"machine": describe_machine(), "pictures": PICTURES, "rows": rows}
    (RESULTS / "denoisers.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "denoisers.md").write_text(as_markdown(results))
    console.print(as_markdown(results))


def cut_windows(images: torch.Tensor, patch: int) -> torch.Tensor:
    """Cut the window about each pixel, with a channel for what is outside: [n, C, H, W] to [n H W, (C + 1) k^2]."""
    inside = torch.zeros_like(images[:, :1])
    outside = torch.nn.functional.pad(inside, (patch // 2,) * 4, value=OUTSIDE)
    padded = torch.cat([torch.nn.functional.pad(images, (patch // 2,) * 4), outside], dim=1)
    windows = torch.nn.functional.unfold(padded, patch).transpose(1, 2)  # [n, H W, (C + 1) k^2]
    return windows.reshape(-1, windows.shape[2])


def measure_halves(
    clean: torch.Tensor,
    noisy: torch.Tensor,
    train: torch.Tensor,
    windows: torch.Tensor,
    masks: torch.Tensor,
    timestep: int,
) -> NDArray[np.float64]:
    """Measure the loss of each half's posterior mean as that of a model, in squared noise: float64 [M].

    Args:
        clean, noisy: the picture [C, H, W]; the noisy one divided by the signal.
        train: images [N, C, H, W].
        windows: of them, [N P, D], P of each.
        masks: float64 [N, M], which images are in which half.
        timestep: of the noise.
    """
    level, count = noise_level(timestep), len(train)
    patch = math.isqrt(windows.shape[1] // (clean.shape[0] + 1))
    of_query = cut_windows(noisy[None], patch)  # [P, D]
    distances = torch.addmm(
        windows.square().sum(dim=1)[None], of_query, windows.T, alpha=-2
    )  # [P, N P], up to a constant
    logits = distances.mul_(-(level.signal**2) / (2 * level.sigma**2)).reshape(len(of_query), count, -1)  # [P, N, P]
    best = logits.amax(dim=2, keepdim=True)  # [P, N, 1]
    weights = logits.sub_(best).exp_()  # [P, N, P]
    parts = (best - best.amax(dim=1, keepdim=True))[..., 0].double().exp()  # [P, N]
    colours = train.flatten(2).transpose(1, 2)  # [N, P, C]
    sums = torch.einsum("pnq,nqc->cpn", weights, colours).double().mul_(parts) @ masks  # [C, P, M]
    mass = weights.sum(dim=2).double().mul_(parts) @ masks  # [P, M]
    wrong = sums / mass.clamp_min(1e-300) - clean.flatten(1)[..., None]  # [C, P, M]
    return np.asarray(wrong.square().mean(dim=(0, 1)).numpy() * (level.signal / level.sigma) ** 2)


def correlate(ours: NDArray[np.floating], theirs: NDArray[np.floating]) -> str:
    """Correlate the ranks of losses [M, Q] over halves: the mean over pictures with its interval."""
    by_picture = [spearmanr(a, b).statistic for a, b in zip(ours.T, theirs.T, strict=True)]
    return str(mean_with_interval(np.array(by_picture)))


def as_markdown(results: dict[str, Any]) -> str:
    """Write the results page."""
    lines = ["# Trained models and patch posteriors", ""]
    lines += [f"`python -m benchmarks.lds.denoisers` on {results['machine']}."]
    lines += [
        f"The small setting of the [LDS](lds.md), {results['pictures']} pictures of each group. Loss: mean squared"
    ]
    lines += [
        "error of the noise, of the posterior mean of each half and of the model trained on it, on the same noisy"
    ]
    lines += [
        "picture. Agreement: Spearman's correlation over the 64 halves, mean over pictures with its interval: with the"
    ]
    lines += ["models' losses at that timestep, and with their mean over all, which the LDS uses.", ""]
    lines += ["| patch | t | pictures | posterior's loss | models' loss | agreement at t | with the mean loss |"]
    lines += ["|---" * 7 + "|"]
    for row in results["rows"]:
        lines.append(
            f"| {row['patch']} | {row['timestep']} | {row['group']} | {row['posterior']:.3f} | {row['real']:.3f} | "
            f"{row['at']} | {row['mean']} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
