"""The exact posterior by its definition, in float64 and plain torch: slow, short, and the truth of every test.

For a query x_t (already noisy), a training image y and a window at p and q:

    D(p, q) = sum over channels and blocks of (P(x_t)[p] - signal * P(y)[q]) ** 2
    logit   = -D / (2 sigma ** 2)

What each backend returns is `logsumexp` of the logits over q, per training image and query position. Scores follow from
these alone (`nda_index.exact.posterior`). Source: arXiv 2510.14269, section 3, and its published code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nda_index.scales import Scale


def log_masses(
    noisy: Tensor,
    train: Tensor,
    scale: Scale,
    *,
    sigma: float,
    mask_value: float,
    per_image_topk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the log of each training image's posterior mass before normalisation, at every query position.

    Args:
        noisy: float64 [C, H, W], the noisy query.
        train: float64 [N, C, H, W], the training images times `signal`.
        scale: patch and strides.
        sigma: standard deviation of the noise.
        mask_value: value of the pixels outside the image. `inf`: windows match only those of equal overhang.
        per_image_topk: K of the second result.

    Returns:
        float64 [N, P]: over all windows of an image; and over its K best ones (the same tensor without a K).
    """
    query = _patches(noisy[None], scale, scale.query_stride, mask_value)[0]  # [P, D]
    query_overhang = _overhangs(noisy.shape[1], noisy.shape[2], scale, scale.query_stride)  # [P, 2]
    train_overhang = _overhangs(noisy.shape[1], noisy.shape[2], scale, scale.train_stride)  # [Q, 2]
    mismatch = (query_overhang[:, None] != train_overhang[None]).any(dim=-1)  # [P, Q]
    everything, best = [], []
    for image in train:
        candidates = _patches(image[None], scale, scale.train_stride, mask_value)[0]  # [Q, D]
        distance = torch.cdist(query, candidates, compute_mode="donot_use_mm_for_euclid_dist").square()  # [P, Q]
        logits = -distance / (2 * sigma**2)  # [P, Q]
        if mask_value == float("inf"):
            logits = logits.masked_fill(mismatch, -torch.inf)  # [P, Q]
        everything.append(logits.logsumexp(dim=1))  # [P]
        if per_image_topk is not None:
            k = min(per_image_topk, logits.shape[1])
            best.append(logits.topk(k, dim=1).values.logsumexp(dim=1))  # [P]
    total = torch.stack(everything)  # [N, P]
    return total, torch.stack(best) if best else total


def train_map(
    noisy: Tensor, image: Tensor, scale: Scale, log_normaliser: Tensor, *, sigma: float, mask_value: float
) -> Tensor:
    """Sum the posterior mass of every window of one training image over query positions.

    Args:
        noisy, scale, sigma, mask_value: as in `log_masses`.
        image: float64 [C, H, W], the training image times `signal`.
        log_normaliser: float64 [P], log of the sum over all training images.

    Returns:
        float64 [rows, columns] of the scale's training grid; it sums to the image's score at weight 1.
    """
    height, width = noisy.shape[1], noisy.shape[2]
    query = _patches(noisy[None], scale, scale.query_stride, mask_value)[0]  # [P, D]
    candidates = _patches(image[None], scale, scale.train_stride, mask_value)[0]  # [Q, D]
    distance = torch.cdist(query, candidates, compute_mode="donot_use_mm_for_euclid_dist").square()  # [P, Q]
    weights = (-distance / (2 * sigma**2) - log_normaliser[:, None]).exp()  # [P, Q]
    if mask_value == float("inf"):
        query_overhang = _overhangs(height, width, scale, scale.query_stride)  # [P, 2]
        train_overhang = _overhangs(height, width, scale, scale.train_stride)  # [Q, 2]
        weights = weights * (query_overhang[:, None] == train_overhang[None]).all(dim=-1)  # [P, Q]
    rows = len(range(0, scale.positions(height), scale.train_stride))
    return weights.sum(dim=0).reshape(rows, -1)  # [rows, columns]


def posterior_mean(noisy: Tensor, train: Tensor, scale: Scale, *, sigma: float) -> Tensor:
    """Average the training pixels at the same place in the window as each pixel of the query, by posterior weights.

    A pixel takes the window whose centre is nearest to it, of those that can match any; the mean of several.

    Args:
        noisy, train, scale, sigma: as in `log_masses`; windows match only those that stick out by the same amount.

    Returns:
        float64 [C, H, W], the posterior mean times `signal`.
    """
    channels, height, width = noisy.shape
    query = _patches(noisy[None], scale, scale.query_stride, 0.0)[0]  # [P, D]
    candidates = _patches(train, scale, scale.train_stride, 0.0)  # [N, Q, D]
    distance = torch.cdist(query, candidates, compute_mode="donot_use_mm_for_euclid_dist").square()  # [N, P, Q]
    query_overhang = _overhangs(height, width, scale, scale.query_stride)  # [P, 2]
    train_overhang = _overhangs(height, width, scale, scale.train_stride)  # [Q, 2]
    equal = (query_overhang[:, None] == train_overhang[None]).all(dim=-1)  # [P, Q]
    logits = (-distance / (2 * sigma**2)).masked_fill(~equal, -torch.inf).transpose(0, 1)  # [P, N, Q]
    weights = logits.flatten(1).softmax(dim=1).reshape(logits.shape)  # [P, N, Q]
    here, there = (_places(height, width, scale, stride) for stride in (scale.query_stride, scale.train_stride))
    centres = here + (scale.patch - 1) / 2 - scale.padding  # [P, 2]
    mean = torch.zeros_like(noisy)  # [C, H, W]
    for pixel in torch.cartesian_prod(torch.arange(height), torch.arange(width)):
        away = (pixel - centres).square().sum(dim=1).masked_fill(~equal.any(dim=1), torch.inf)  # [P]
        nearest = torch.nonzero(away == away.min())[:, 0]
        for p in nearest:
            y, x = (there[equal[p]] + pixel - here[p]).unbind(dim=1)  # [Q of the same overhang] each
            mean[:, pixel[0], pixel[1]] += (weights[p][:, equal[p]] * train[:, :, y, x].transpose(0, 1)).sum(
                dim=(1, 2)
            ) / len(nearest)  # [C]
    return mean


def _places(height: int, width: int, scale: Scale, stride: int) -> Tensor:
    rows, columns = (torch.arange(0, scale.positions(size), stride) for size in (height, width))
    return torch.cartesian_prod(rows, columns)  # [P, 2]


def _patches(images: Tensor, scale: Scale, stride: int, mask_value: float) -> Tensor:
    outside = mask_value if mask_value != float("inf") else 0.0
    padded = F.pad(images, [scale.padding] * 4, value=outside)  # [N, C, H + 2 pad, W + 2 pad]
    n, channels, r = images.shape[0], images.shape[1], scale.downscale
    kernel = torch.full((1, 1, r, r), 1.0 / r, dtype=images.dtype)
    blocks = F.conv2d(padded.flatten(0, 1)[:, None], kernel)  # [N C, 1, H', W']
    windows = F.unfold(blocks, scale.taps, dilation=r)  # [N C, taps^2, positions]
    rows = scale.positions(images.shape[2])
    grid = windows.reshape(n, channels, scale.taps**2, rows, -1)[..., ::stride, ::stride]  # [N, C, taps^2, rows, cols]
    return grid.flatten(3).flatten(1, 2).transpose(1, 2).contiguous()  # [N, P, D]


def _overhangs(height: int, width: int, scale: Scale, stride: int) -> Tensor:
    """Return a number for each window's overhang: 0 inside, else one that no window of other overhang has, [P, 2]."""
    rows, columns = (
        torch.tensor([_overhang(p, size, scale) for p in range(0, scale.positions(size), stride)])
        for size in (height, width)
    )
    return torch.cartesian_prod(rows, columns)  # [P, 2]


def _overhang(position: int, size: int, scale: Scale) -> int:
    return 0 if position in scale.interior(size) else position + 1
