"""The gradient methods where a closed form or a finished library says what they must give."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.lds.influence import Factors, ekfac_scores, ridge_scores, split_by_layer


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_ridge_scores_tell_what_leaving_an_image_out_does() -> None:
    """Ridge regression: a query's prediction without image n is off by s(q, n) residual(n) / (1 - s(n, n))."""
    inputs, targets, queries, ratio = draw(30, 5), draw(30, seed=1), draw(4, 5, seed=2), 0.1
    gram = inputs @ inputs.T
    ridge = ratio * gram.diagonal().mean() * torch.eye(5, dtype=torch.float64)

    def weights(kept: torch.Tensor) -> torch.Tensor:
        solved: torch.Tensor = torch.linalg.solve(inputs[kept].T @ inputs[kept] + ridge, inputs[kept].T @ targets[kept])
        return solved

    full = weights(torch.ones(30, dtype=torch.bool))
    scores, own = ridge_scores(gram, queries @ inputs.T, ratio), ridge_scores(gram, gram, ratio).diagonal()
    expected = scores * (targets - inputs @ full) / (1 - own)
    without = torch.stack([queries @ (full - weights(torch.arange(30) != left_out)) for left_out in range(30)], dim=1)
    torch.testing.assert_close(without, expected)


def test_ridge_scores_are_those_of_the_trak_library() -> None:
    trak = pytest.importorskip("trak.score_computers", reason="traker is not installed; it comes with the group bench")
    train, queries, ratio = draw(20, 7), draw(3, 7, seed=1), 0.01
    gram = train @ train.T
    library = trak.BasicScoreComputer(
        torch.float64, torch.device("cpu"), lambda_reg=float(ratio * gram.diagonal().mean())
    )
    expected = torch.zeros(20, 3, dtype=torch.float64)
    library.get_scores(library.get_x_xtx_inv(train, library.get_xtx(train)), queries, accumulator=expected)
    scores = ridge_scores(gram, queries @ train.T, ratio).T
    torch.testing.assert_close(scores / scores.norm(), expected / expected.norm(), rtol=1e-4, atol=1e-5)


def test_a_wider_projection_approaches_the_scores_without_one() -> None:
    """What the module says of the random matrix P that is left out."""
    train, queries = draw(20, 300), draw(5, 300, seed=1)
    exact = ridge_scores(train @ train.T, queries @ train.T, 0.1)

    def error(columns: int) -> float:
        projection = draw(300, columns, seed=2) / columns**0.5
        narrow, narrow_queries = train @ projection, queries @ projection
        return float((ridge_scores(narrow @ narrow.T, narrow_queries @ narrow.T, 0.1) - exact).norm() / exact.norm())

    assert error(100_000) < error(1_000) / 5 < error(100) / 10


def test_ekfac_scores_are_those_of_the_whole_matrix() -> None:
    """Two layers: H built as a matrix, inverted as a matrix."""
    shapes = {"first": (2, 3), "second": (4, 2)}
    factors = {
        layer: Factors(torch.linalg.qr(draw(i, i)).Q, torch.linalg.qr(draw(o, o)).Q, draw(o, i, seed=3).square())
        for layer, (o, i) in shapes.items()
    }
    train = {layer: draw(6, *shape, seed=4) for layer, shape in shapes.items()}
    queries = {layer: draw(5, *shape, seed=5) for layer, shape in shapes.items()}
    blocks = []
    for factor in factors.values():
        basis = torch.kron(factor.outputs, factor.inputs)
        blocks.append(basis @ factor.eigenvalues.flatten().diag() @ basis.T)
    hessian = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    mean = hessian.trace() / len(hessian)
    left = torch.cat([part.flatten(1) for part in queries.values()], dim=1)
    right = torch.cat([part.flatten(1) for part in train.values()], dim=1)
    for ratio, scores in zip([0.01, 1.0], ekfac_scores(train, queries, factors, [0.01, 1.0]), strict=True):
        damped = hessian + ratio * mean * torch.eye(len(hessian), dtype=torch.float64)
        torch.testing.assert_close(scores, left @ torch.linalg.solve(damped, right.T))


class Tiny(torch.nn.Module):
    """A denoiser of one convolution and one norm."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(1, 2, 1)
        self.norm = torch.nn.GroupNorm(1, 2)
        self.readout = torch.nn.Conv2d(2, 1, 1, bias=False)

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor) -> Any:
        return SimpleNamespace(sample=self.readout(self.norm(self.convolution(noisy))))


def test_layer_gradients_put_the_bias_after_the_weights() -> None:
    layers = split_by_layer(Tiny(), torch.arange(10.0).repeat(2, 1))  # 2 weights, 2 biases, 4 of the norm, 2 weights
    assert layers["convolution"].tolist() == [[[0, 2], [1, 3]]] * 2
    assert layers["readout"].tolist() == [[[8, 9]]] * 2
    assert list(layers) == ["convolution", "readout"]


def test_mean_gradients_are_finite_differences() -> None:
    pytest.importorskip("diffusers", reason="diffusers is not installed; it comes with the group bench")
    pytest.importorskip("kronfluence", reason="kronfluence is not installed; benchmarks/lds/gradients.py says how")
    from benchmarks.lds.gradients import add_noise, compute_gradients

    torch.manual_seed(0)
    model, image, timesteps = Tiny(), draw(1, 4, 4).float(), torch.tensor([50, 500, 900])
    noisy, noise = add_noise(image.expand(3, 1, 4, 4), timesteps, torch.Generator().manual_seed(0))
    of_loss, of_norm = compute_gradients(model, image[None], timesteps)
    parameter, step = model.readout.weight, 1e-2  # both functions are quadratic in it
    slopes = []
    for sign in (1, -1):
        with torch.no_grad():
            parameter[0, 0] += sign * step
            predicted = model(noisy, timesteps).sample
            parameter[0, 0] -= sign * step
        slopes.append(torch.stack([(predicted - noise).square().mean(), predicted.square().mean()]))
    expected = (slopes[0] - slopes[1]) / (2 * step)
    torch.testing.assert_close(torch.stack([of_loss[0, -2], of_norm[0, -2]]), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*GradScaler:FutureWarning")  # kronfluence
def test_factors_of_a_linear_denoiser_are_its_gauss_newton_matrix() -> None:
    """One weight matrix on one pixel of two channels: H = 2 / d E[x x^T] (x) I, and EK-FAC is exact."""
    pytest.importorskip("diffusers", reason="diffusers is not installed; it comes with the group bench")
    pytest.importorskip("kronfluence", reason="kronfluence is not installed; benchmarks/lds/gradients.py says how")
    from benchmarks.lds.gradients import DRAWS, add_noise, fit_factors
    from nda_index.diffusion import TIMESTEPS

    class Linear(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = torch.nn.Conv2d(2, 2, 1, bias=False)

        def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor) -> Any:
            return SimpleNamespace(sample=self.convolution(noisy))

    images = (draw(2000, 2) @ torch.tensor([[1.0, 2.0], [0.0, 1.0]]).double()).float()[:, :, None, None]
    factor = fit_factors(Linear(), images)["convolution"]
    basis = torch.kron(factor.outputs, factor.inputs)
    generator = torch.Generator().manual_seed(0)
    timesteps = torch.randint(TIMESTEPS, (DRAWS * len(images),), generator=generator)
    noisy = add_noise(images.repeat(DRAWS, 1, 1, 1), timesteps, generator)[0].flatten(1)
    expected = torch.kron(torch.eye(2), noisy.T @ noisy / len(noisy))  # 2 / d = 1
    hessian = basis @ factor.eigenvalues.flatten().diag() @ basis.T
    torch.testing.assert_close(hessian, expected, rtol=0.05, atol=0.1)
