"""Attribution by gradients of the model of all images, to compare with.

    python -m benchmarks.lds.gradients FOLDER --setting small

FOLDER is what benchmarks.lds.train left. Writes benchmarks/lds/data/SETTING-gradients.npz, by method the scores of
every training image for every query (first the held-out pictures, then the generated ones, and of the methods in
`rescore.CHOSEN` the further ones of both kinds), float16 [Q, N] with each query's largest set to 1 or -1, and
SETTING-gradients.json: how they were made and how long it took.

    gradient           inner product of loss gradients, TracIn (Pruthi et al., arXiv 2002.08484) at the last checkpoint
    gradient-cosine    its cosine
    trak-LAMBDA        TRAK (Park et al., arXiv 2303.14186) with the denoising loss
    d-trak-LAMBDA      D-TRAK (Zheng et al., arXiv 2311.00500): the same with the squared norm of the predicted noise
    ekfac-LAMBDA       influence functions with EK-FAC (Mlodozeniec et al., arXiv 2410.13850)

EK-FAC needs kronfluence. It is not in the group bench, since it brings torchvision and with it another torch:
`pip install --no-deps kronfluence accelerate einops einconv opt_einsum psutil`.

The papers choose lambda by the score that it gives. Here there are several, in units of the matrix's mean eigenvalue.
The gradients of every image are in memory: 3 GiB in the small setting, too much for any machine in the full one.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import diffusers
import kronfluence
import numpy as np
import torch
from kronfluence.analyzer import Analyzer, prepare_model
from numpy.typing import NDArray
from rich.progress import track
from torch.utils.data import TensorDataset

from benchmarks.lds.influence import Factors, ekfac_scores, ridge_scores, split_by_layer
from benchmarks.lds.model import load_model, to_tensor
from benchmarks.lds.rescore import CHOSEN
from benchmarks.lds.setting import SETTINGS, load_held_out_images, load_training_images
from benchmarks.lds.train import DATA, load_or_generate
from benchmarks.machine import describe_machine
from nda_index.diffusion import TIMESTEPS, noise_level

RATIOS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # lambda over the mean eigenvalue, from hardly any to more than what matters
DRAWS = 10  # timesteps of each training image, each with its noise, for EK-FAC's factors


def main() -> None:
    """Compute the gradients, then every method's scores, and write them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--setting", choices=SETTINGS, default="small")
    arguments = parser.parse_args()
    setting, folder = SETTINGS[arguments.setting], arguments.folder
    model = load_model(setting, folder / "full-0.safetensors")
    images = load_training_images(setting)
    generated, further = load_or_generate(setting, folder)
    queries = np.concatenate(
        [load_held_out_images(setting), generated, load_held_out_images(setting, further=True), further]
    )
    everything = to_tensor(np.concatenate([images, queries]))
    scores: dict[str, torch.Tensor] = {}
    seconds: dict[str, float] = {}
    with note_seconds(seconds, "gradients of loss and norm"):
        timesteps = torch.tensor(setting.timesteps).repeat(setting.noises)
        of_loss, of_norm = compute_gradients(model, everything, timesteps)
    with note_seconds(seconds, "gradient, trak"):
        gram, cross = inner_products(of_loss, len(images))
        scores["gradient"] = cross
        scores["gradient-cosine"] = cross / gram.diagonal().sqrt() / of_loss[len(images) :].norm(dim=1, keepdim=True)
        scores |= {f"trak-{ratio:g}": ridge_scores(gram, cross, ratio) for ratio in RATIOS}
    with note_seconds(seconds, "d-trak"):
        gram, cross = inner_products(of_norm, len(images))
        scores |= {f"d-trak-{ratio:g}": ridge_scores(gram, cross, ratio) for ratio in RATIOS}
    with note_seconds(seconds, "factors of ekfac"):
        factors = fit_factors(load_model(setting, folder / "full-0.safetensors"), to_tensor(images))
    with note_seconds(seconds, "ekfac"):
        train = split_by_layer(model, of_loss[: len(images)])
        by_ratio = ekfac_scores(train, split_by_layer(model, of_loss[len(images) :]), factors, RATIOS)
        scores |= {f"ekfac-{ratio:g}": part for ratio, part in zip(RATIOS, by_ratio, strict=True)}

    DATA.mkdir(exist_ok=True)
    first = 2 * setting.queries
    arrays: dict[str, Any] = {name: to_half(part if name in CHOSEN else part[:first]) for name, part in scores.items()}
    np.savez_compressed(DATA / f"{setting.name}-gradients.npz", **arrays)
    made = {
        "command": f"python -m benchmarks.lds.gradients FOLDER {' '.join(sys.argv[2:])}".rstrip(),
        "machine": describe_machine(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "timesteps": setting.timesteps,
        "noises": setting.noises,
        "ratios": RATIOS,
        "ekfac_draws": DRAWS,
        "kronfluence": version("kronfluence"),
        "seconds": seconds,
    }
    (DATA / f"{setting.name}-gradients.json").write_text(json.dumps(made, indent=1) + "\n")


@contextmanager
def note_seconds(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Note how long the block takes."""
    start = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - start, 1)


def compute_gradients(
    model: torch.nn.Module, images: torch.Tensor, timesteps: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the gradients of each image's loss and of the squared norm of the noise that is predicted for it.

    Both are means over timesteps, noise draws and pixels, as in Zheng et al. (arXiv 2311.00500, section 3). A mean's
    gradient is one backward pass over all the draws of an image, so nothing has to be kept for each draw.

    Args:
        model: with P parameters, called with noisy images and timesteps.
        images: [n, C, H, W] in [-1, 1].
        timesteps: int [T], each with its own noise; every image has other noise.

    Returns:
        Two tensors [n, P], in the order of `model.parameters()`.
    """
    parameters = list(model.parameters())
    of_loss = torch.empty(len(images), sum(parameter.numel() for parameter in parameters))
    of_norm = torch.empty_like(of_loss)
    generator = torch.Generator().manual_seed(0)
    for row, image in enumerate(track(images, "gradients")):
        noisy, noise = add_noise(image.expand(len(timesteps), *image.shape), timesteps, generator)
        predicted = model(noisy, timesteps).sample
        loss, norm = (predicted - noise).square().mean(), predicted.square().mean()
        for value, rows in ((loss, of_loss), (norm, of_norm)):
            gradients = torch.autograd.grad(value, parameters, retain_graph=value is loss)
            rows[row] = torch.cat([part.flatten() for part in gradients])
    return of_loss, of_norm


def inner_products(gradients: torch.Tensor, images: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Multiply gradients [N + Q, P], those of the N training images first, by those of the images: [N, N], [Q, N]."""
    train = gradients[:images]
    return torch.mm(train, train.T), torch.mm(gradients[images:], train.T)


class Denoising(kronfluence.Task):  # type: ignore[misc]  # kronfluence has no types
    """A diffusion model for kronfluence: its loss, and how to draw a target from its prediction."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def compute_train_loss(
        self, batch: list[torch.Tensor], model: torch.nn.Module, sample: bool = False
    ) -> torch.Tensor:
        """Sum over a batch (noisy [B, C, H, W], timesteps [B], noise [B, C, H, W]) of the mean squared error.

        With a target drawn from a normal distribution around the prediction of d pixels, of variance d / 2, the second
        moment of its gradient is the Gauss-Newton matrix 2 / d J^T J of the loss (arXiv 2410.13850, section 3).
        """
        noisy, timesteps, target = batch
        predicted = model(noisy, timesteps).sample
        if sample:
            drawn = torch.randn(predicted.shape, generator=self.generator).to(predicted.device)
            target = predicted.detach() + (predicted[0].numel() / 2) ** 0.5 * drawn
        loss: torch.Tensor = (predicted - target).square().flatten(1).mean(dim=1).sum()
        return loss

    def compute_measurement(self, batch: list[torch.Tensor], model: torch.nn.Module) -> torch.Tensor:
        """Return the loss of a query."""
        return self.compute_train_loss(batch, model)


def fit_factors(model: torch.nn.Module, images: torch.Tensor) -> dict[str, Factors]:
    """Fit the EK-FAC factors of the Gauss-Newton matrix of the loss, by kronfluence.

    Args:
        model: is wrapped by this; do not use it for anything else.
        images: [N, C, H, W] in [-1, 1], each at `DRAWS` random timesteps; the fit runs on their device.

    Returns:
        For each linear and each convolutional layer.
    """
    generator = torch.Generator().manual_seed(0)
    timesteps = torch.randint(TIMESTEPS, (DRAWS * len(images),), generator=generator)
    noisy, noise = add_noise(images.cpu().repeat(DRAWS, 1, 1, 1), timesteps, generator)
    on_cpu = images.device.type == "cpu"
    with TemporaryDirectory() as folder:
        task = Denoising()
        analyzer = Analyzer("", prepare_model(model, task), task, cpu=on_cpu, disable_tqdm=True, output_dir=folder)
        analyzer.fit_all_factors("", TensorDataset(noisy, timesteps, noise), per_device_batch_size=100)
        vectors: dict[str, dict[str, torch.Tensor]] = analyzer.load_eigendecomposition("")
        values: dict[str, dict[str, torch.Tensor]] = analyzer.load_lambda_matrices("")
    return {
        layer: Factors(
            vectors["activation_eigenvectors"][layer].float(),
            vectors["gradient_eigenvectors"][layer].float(),
            total / values["num_lambda_processed"][layer],
        )
        for layer, total in values["lambda_matrix"].items()
    }


def add_noise(
    images: torch.Tensor, timesteps: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [n, C, H, W] with noise at timesteps [n], and that noise."""
    levels = [noise_level(int(timestep)) for timestep in timesteps]
    signal = torch.tensor([level.signal for level in levels])[:, None, None, None]
    sigma = torch.tensor([level.sigma for level in levels])[:, None, None, None]
    noise = torch.randn(images.shape, generator=generator)
    return signal * images + sigma * noise, noise


def to_half(scores: torch.Tensor) -> NDArray[np.float16]:
    """Scores [Q, N] in half precision, each query's scaled to at most 1; only subsets nearly alike can change ranks."""
    scaled = scores / scores.abs().amax(dim=1, keepdim=True)
    return np.asarray(scaled.numpy(), np.float16)


if __name__ == "__main__":
    main()
