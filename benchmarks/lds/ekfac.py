"""Influence functions with EK-FAC of the model of all images at 32 x 32, for benchmarks.lds.recipes to compare with.

    python -m benchmarks.lds.ekfac [--folder FOLDER] [--device cuda]

Scores as benchmarks.lds.gradients does at 16 x 16 (Mlodozeniec et al., arXiv 2410.13850), with the model of
../shared/data/cifar2_32/full.pt and the pictures of benchmarks/lds/data/medium.npz. Of the lambdas there the best on
the pictures that choose is kept: `scores/EK-FAC` in that file, float16 [400, 1000], held-out pictures first, and each
query's largest is 1 or -1. Needs diffusers and kronfluence, as benchmarks.lds.gradients says.

A gradient is of 40 draws of noise, as those of TRAK and D-TRAK in that file.

The gradients are too many for memory, so they lie on disk in half precision, 12 GiB, and are read layer by layer.
FOLDER keeps them and the factors of EK-FAC, and a run goes on from there. Takes some hours on one core, minutes on a
GPU, and up to 7 GiB of memory. Set OMP_NUM_THREADS=1 where other programs run: two threads that wait for each other
took five times as long as one.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.lds.gradients import RATIOS, add_noise, fit_factors, inner_products, to_half
from benchmarks.lds.influence import Factors, ekfac_scores, split_by_layer
from benchmarks.lds.model import new_model, to_tensor
from benchmarks.lds.recipes import GROUPS, PACKED, PARTS, console, describe, judge
from benchmarks.lds.setting import MEDIUM, load_held_out_images, load_training_images
from benchmarks.machine import SHARED

MADE = SHARED / "data" / "cifar2_32"
EVERY = 5  # fit the factors to every fifth image: a noisy image costs more here than the gradient of an image
TIMESTEPS = MEDIUM.timesteps * 2  # of a gradient, as many draws as those of gradients.npz
SCALE = 2.0**12  # of gradients on disk: their mean square is near 6e-5 squared, where float16 has few digits


def main() -> None:
    """Compute gradients and factors, score with every lambda, and keep the best."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, help="keeps gradients and factors")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    kept, device = options.folder, torch.device(options.device)
    packed = dict(np.load(PACKED))
    images = to_tensor(load_training_images(MEDIUM))
    queries = to_tensor(np.concatenate([load_held_out_images(MEDIUM), packed["generated"]]))
    with TemporaryDirectory() as temporary:
        folder = kept or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        write_gradients(load_full_model().to(device), torch.cat([images, queries]), folder / "gradients")
        factors = load_or_fit_factors(images.to(device), folder / "factors.pt")
        by_ratio, gram, cross = score_by_layer(folder / "gradients", len(images), factors, device)
    known = np.load(MADE / "gradients.npz")
    apart = ~np.eye(len(images), dtype=bool)
    between = np.corrcoef(gram.numpy()[apart], known["gram_loss"][apart])[0, 1]
    across = np.corrcoef(cross.numpy().ravel(), known["cross_loss"].ravel())[0, 1]
    console.print(f"correlation with inner products of other noise: images {between:.3f}, queries {across:.3f}")
    scores = {ratio: part.numpy() for ratio, part in zip(RATIOS, by_ratio, strict=True)}
    values = {ratio: judge(part, packed) for ratio, part in scores.items()}
    chosen = choose_ratio(values)
    packed["scores/EK-FAC"] = to_half(torch.from_numpy(scores[chosen]))
    np.savez_compressed(PACKED, **packed)
    console.print(f"lambda {chosen:g} of the mean eigenvalue: {describe(values[chosen])}")


def choose_ratio(values: Mapping[float, NDArray[np.float64]]) -> float:
    """Print the scores of each lambda on the pictures that choose, and return the best by the mean of both kinds.

    Args:
        values: by lambda the linear datamodeling scores of the pictures, [2, Q], those of the held-out ones first.
    """
    means = {ratio: found[:, slice(*PARTS["chose"])].mean(axis=1) for ratio, found in values.items()}
    for ratio, of_kinds in means.items():
        shown = ", ".join(f"{group} {mean:.3f}" for group, mean in zip(GROUPS, of_kinds, strict=True))
        console.print(f"lambda {ratio:g}: {shown}")
    return max(means, key=lambda ratio: float(means[ratio].mean()))


def load_full_model() -> torch.nn.Module:
    """Read the model of all images, in single precision."""
    model = new_model(MEDIUM)
    model.load_state_dict(torch.load(MADE / "full.pt", weights_only=True))  # copied from half into single precision
    evaluated: torch.nn.Module = model.eval()
    return evaluated


def write_gradients(model: torch.nn.Module, images: torch.Tensor, path: Path) -> None:
    """Append the gradient of each image's loss to a file, from the first image on whose gradient is not there.

    A gradient is of the mean over `TIMESTEPS`, each with one noise; every image has other noise.

    Args:
        model: called with noisy images and timesteps, on its device.
        images: [n, C, H, W] in [-1, 1].
        path: float16 [n, P], `SCALE` times the gradients of `split_by_layer`, layer after layer.
    """
    parameters, timesteps = list(model.parameters()), torch.tensor(TIMESTEPS)
    device = parameters[0].device
    row_bytes = 2 * sum(rows * columns for rows, columns in layer_shapes(model).values())
    with path.open("ab") as file:
        done = file.tell() // row_bytes
        file.truncate(done * row_bytes)  # a run that ended in the middle of a gradient left its beginning
        for row in track(range(done, len(images)), "gradients"):
            generator = torch.Generator().manual_seed(row)
            noisy, noise = add_noise(images[row].expand(len(timesteps), -1, -1, -1), timesteps, generator)
            with torch.autocast(device.type, torch.bfloat16):  # as the model was trained; twice as fast as float32
                predicted = model(noisy.to(device), timesteps.to(device)).sample
            loss = (predicted.float() - noise.to(device)).square().mean()
            gradient = torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters)])
            layers = split_by_layer(model, SCALE * gradient[None])
            file.write(torch.cat([part.flatten() for part in layers.values()]).half().cpu().numpy().tobytes())


def load_or_fit_factors(images: torch.Tensor, path: Path) -> dict[str, Factors]:
    """Read the factors of EK-FAC from a file, or fit them to some of the images and write it."""
    if not path.exists():
        factors = fit_factors(load_full_model().to(images.device), images[::EVERY])
        torch.save({layer: tuple(factor) for layer, factor in factors.items()}, path)
    return {layer: Factors(*factor) for layer, factor in torch.load(path, weights_only=True).items()}


def layer_shapes(model: torch.nn.Module) -> dict[str, tuple[int, int]]:
    """Return outputs and inputs of the layers of `split_by_layer`, in its order."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    layers = split_by_layer(model, torch.zeros(1, parameters))
    return {layer: (part.shape[1], part.shape[2]) for layer, part in layers.items()}


def score_by_layer(
    path: Path, images: int, factors: Mapping[str, Factors], device: torch.device
) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Sum scores and inner products over layers, with one layer's gradients in memory at a time.

    Args:
        path: what `write_gradients` wrote, gradients of images and then of Q queries.
        images: number N of images.
        factors: of each layer.
        device: computes.

    Returns:
        For each of `RATIOS` scores [Q, N], and the inner products of the images' gradients [N, N] and of the queries'
        with them [Q, N].
    """
    mean = torch.cat([factor.eigenvalues.flatten() for factor in factors.values()]).mean()
    shapes = layer_shapes(load_full_model())
    width = sum(rows * columns for rows, columns in shapes.values())
    scores = [torch.zeros(()) for _ in RATIOS]
    gram = cross = torch.zeros(())
    first = 0
    for layer, (rows, columns) in track(shapes.items(), "layers"):
        mapped = np.memmap(path, np.float16, "r").reshape(-1, width)  # anew each time: what was read before is let go
        part = torch.from_numpy(mapped[:, first : first + rows * columns].astype(np.float32)).to(device) / SCALE
        first += rows * columns
        within, between = inner_products(part, images)
        gram, cross = gram + within.cpu(), cross + between.cpu()
        gradients = part.reshape(-1, rows, columns)
        factor = Factors(*(values.to(device) for values in factors[layer]))
        ratios = [ratio * float(mean / factor.eigenvalues.mean()) for ratio in RATIOS]  # lambda is one for all layers
        found = ekfac_scores({layer: gradients[:images]}, {layer: gradients[images:]}, {layer: factor}, ratios)
        scores = [total + of_layer.cpu() for total, of_layer in zip(scores, found, strict=True)]
    return scores, gram, cross


if __name__ == "__main__":
    main()
