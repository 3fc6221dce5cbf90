"""Scores from gradients: TRAK's ridge form and influence functions with EK-FAC, as algebra on gradients of any model.

Gradients are used whole. Park et al. (arXiv 2303.14186, section 3) and Zheng et al. (arXiv 2311.00500, section 3)
first multiply each by a random matrix P of 2,048 to 32,768 columns, because N gradients of a large model do not fit in
memory, and invert Phi^T Phi + lambda I, where a row of Phi is g^T P. By the identity

    (Phi^T Phi + lambda I)^-1 Phi^T = Phi^T (Phi Phi^T + lambda I)^-1

the scores need nothing but inner products of gradients. P only approximates these, and with fewer images than columns
it costs more than they do; so the scores here are those that the papers' tend to as P gets wider. That makes each
method a line of linear algebra, shorter than the description of a diffusion model that traker or dattri needs. Also,
dattri's EK-FAC has no convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch


class Factors(NamedTuple):
    """One layer's block of the Gauss-Newton matrix, (outputs x inputs) diag(eigenvalues) (outputs x inputs)^T.

    Attributes:
        inputs: [i, i], each column an eigenvector of the inputs' second moments.
        outputs: [o, o], each column an eigenvector of the second moments of the gradients at the outputs.
        eigenvalues: [o, i], mean squares of single gradients in that basis (George et al., arXiv 1806.03884).
    """

    inputs: torch.Tensor
    outputs: torch.Tensor
    eigenvalues: torch.Tensor


def ridge_scores(gram: torch.Tensor, cross: torch.Tensor, ratio: float) -> torch.Tensor:
    """Compute TRAK's scores q^T (Phi^T Phi + lambda I)^-1 g, with lambda relative to the gradients' size.

    Park et al. (arXiv 2303.14186, section 3) without the weights of a classifier's loss, which are constant for a
    squared error; D-TRAK (Zheng et al., arXiv 2311.00500, section 3) is the same with gradients of another function.

    Args:
        gram: [N, N], inner products of the training images' gradients.
        cross: [Q, N], inner products of the queries' gradients with them.
        ratio: lambda, in units of the mean of the N eigenvalues of `gram`.

    Returns:
        float64 [Q, N], high where an image helps a query.
    """
    gram, cross = gram.double(), cross.double()
    ridge = ratio * gram.diagonal().mean()
    solved: torch.Tensor = torch.linalg.solve(gram + ridge * torch.eye(len(gram), dtype=torch.float64), cross.T)
    return solved.T


def split_by_layer(model: torch.nn.Module, gradients: torch.Tensor) -> dict[str, torch.Tensor]:
    """Split gradients by linear and convolutional layer, for EK-FAC; other parameters are left out.

    Args:
        model: with P parameters.
        gradients: [n, P], in the order of `model.parameters()`.

    Returns:
        By the layer's name [n, o, i], where i is the number of weights of an output, and one more for its bias.
    """
    named = dict(model.named_parameters())
    parts = torch.split(gradients, [value.numel() for value in named.values()], dim=1)
    flat = dict(zip(named, parts, strict=True))
    layers = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            outputs = len(module.weight)
            of_layer = [flat[f"{name}.{key}"] for key, _ in module.named_parameters()]  # weight, then bias
            layers[name] = torch.cat([part.reshape(len(part), outputs, -1) for part in of_layer], dim=2)
    return layers


def ekfac_scores(
    train: Mapping[str, torch.Tensor],
    queries: Mapping[str, torch.Tensor],
    factors: Mapping[str, Factors],
    ratios: Sequence[float],
) -> list[torch.Tensor]:
    """Compute influences q^T (H + lambda I)^-1 g, where H is the EK-FAC approximation of the Gauss-Newton matrix.

    Mlodozeniec et al., *Influence Functions for Scalable Data Attribution in Diffusion Models* (arXiv 2410.13850,
    section 3).

    Args:
        train: by layer [N, o, i], gradients of the training images.
        queries: by layer [Q, o, i], gradients of the queries.
        factors: of each layer.
        ratios: each a lambda, in units of the mean eigenvalue of H.

    Returns:
        For each ratio [Q, N], high where an image helps a query.
    """
    mean = torch.cat([factor.eigenvalues.flatten() for factor in factors.values()]).mean()
    scores = [torch.zeros(()) for _ in ratios]
    for layer, factor in factors.items():
        rotated = factor.outputs.T @ train[layer] @ factor.inputs
        of_queries = factor.outputs.T @ queries[layer] @ factor.inputs
        for place, ratio in enumerate(ratios):
            damped = of_queries / (factor.eigenvalues + ratio * mean)
            scores[place] = scores[place] + damped.flatten(1) @ rotated.flatten(1).T
    return scores
