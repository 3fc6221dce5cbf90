"""A diffusion model of the evaluation: how it is made and trained, its losses, and its pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DModel
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from benchmarks.lds.setting import Setting
from nda_index.diffusion import TIMESTEPS, noise_level


def new_model(setting: Setting) -> UNet2DModel:
    """Make a U-Net with attention at the lowest resolution."""
    deeper = len(setting.widths) - 1
    return UNet2DModel(
        sample_size=setting.size,
        layers_per_block=setting.layers,
        block_out_channels=setting.widths,
        down_block_types=("DownBlock2D",) * deeper + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * deeper,
        norm_num_groups=8,
        attention_head_dim=16,
    )


def train_model(setting: Setting, images: NDArray[np.uint8], seed: int) -> UNet2DModel:
    """Train on images [n, H, W, C] to predict the noise (Ho et al. 2020, equation 14)."""
    torch.manual_seed(seed)
    model = new_model(setting)
    train = to_tensor(images)
    signal, sigma = _levels()
    steps = setting.epochs * len(train) // setting.batch
    optimiser = torch.optim.AdamW(model.parameters(), lr=setting.rate)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, setting.rate, steps, pct_start=0.05)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < setting.batch:
            order = torch.cat([order, torch.randperm(len(train))])
        batch, order = train[order[: setting.batch]], order[setting.batch :]  # [B, C, H, W]
        timestep = torch.randint(TIMESTEPS, (len(batch),))
        noise = torch.randn_like(batch)
        noisy = signal[timestep] * batch + sigma[timestep] * noise
        loss = torch.nn.functional.mse_loss(model(noisy, timestep).sample, noise)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad()
        rates.step()
    return model.eval()


@torch.inference_mode()
def denoising_losses(model: UNet2DModel, setting: Setting, queries: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Measure the squared error of the predicted noise, float32 [Q, timesteps]; all models get the same noise."""
    clean = to_tensor(queries)
    signal, sigma = _levels()
    losses = torch.zeros(len(clean), len(setting.timesteps))
    for column, (timestep, noises) in enumerate(query_noises(setting, clean.shape)):
        for noise in noises:
            noisy = signal[timestep] * clean + sigma[timestep] * noise
            predicted = torch.cat([model(part, timestep).sample for part in torch.split(noisy, 100)])
            losses[:, column] += (predicted - noise).square().mean(dim=(1, 2, 3)) / setting.noises
    return losses.numpy()


def query_noises(setting: Setting, shape: Sequence[int]) -> Iterator[tuple[int, list[torch.Tensor]]]:
    """Draw the noise of all queries, tensors of their shape, for each timestep at which losses are measured."""
    generator = torch.Generator().manual_seed(0)
    for timestep in setting.timesteps:
        yield timestep, [torch.randn(shape, generator=generator) for _ in range(setting.noises)]


@torch.inference_mode()
def generate(model: UNet2DModel, setting: Setting, seeds: range) -> NDArray[np.uint8]:
    """Generate a picture from the noise of each seed, by DDIM (Song et al. 2021): uint8 [n, H, W, C]."""
    shape = (3, setting.size, setting.size)
    noisy = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    scheduler = DDIMScheduler(num_train_timesteps=TIMESTEPS)
    scheduler.set_timesteps(setting.steps)
    for timestep in scheduler.timesteps:
        noisy = scheduler.step(model(noisy, timestep).sample, int(timestep), noisy).prev_sample
    pixels = ((noisy.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return np.asarray(pixels.permute(0, 2, 3, 1).numpy())


def save_model(model: UNet2DModel, path: Path) -> None:
    """Write its weights; a file of this name is always whole."""
    part = path.with_suffix(".part")
    save_file(model.state_dict(), part)
    part.replace(path)


def load_model(setting: Setting, path: Path) -> UNet2DModel:
    """Read a model from its weights."""
    model = new_model(setting)
    model.load_state_dict(load_file(path))
    return model.eval()


def to_tensor(images: NDArray[np.uint8]) -> torch.Tensor:
    """Convert bytes [n, H, W, C] to float32 [n, C, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() / 127.5 - 1


def _levels() -> tuple[torch.Tensor, torch.Tensor]:
    levels = [noise_level(timestep) for timestep in range(TIMESTEPS)]
    signal = torch.tensor([level.signal for level in levels])
    sigma = torch.tensor([level.sigma for level in levels])
    return signal[:, None, None, None], sigma[:, None, None, None]
