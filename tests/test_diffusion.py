from __future__ import annotations

import numpy as np
import pytest

from nda_index import ConfigError
from nda_index.diffusion import draw_noise, noise_level, noisy_images

IMAGE = np.linspace(-1, 1, 3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)


def test_signal_and_sigma_share_the_variance() -> None:
    for timestep in (0, 1, 500, 999):
        level = noise_level(timestep)
        assert level.signal**2 + level.sigma**2 == pytest.approx(1.0)
    assert noise_level(0).sigma == pytest.approx(0.01, rel=1e-3)
    assert noise_level(999).signal == pytest.approx(0.00635, rel=1e-2)


@pytest.mark.parametrize("timestep", [-1, 1000, 1.5, "100", True, None])
def test_what_is_not_a_timestep_is_refused(timestep: object) -> None:
    with pytest.raises(ConfigError, match="integer from 0 to 999"):
        noise_level(timestep)  # type: ignore[arg-type]


def test_noise_depends_on_timestep_and_seed_alone() -> None:
    first = draw_noise((3, 4, 5), 100, seed=1)
    draw_noise((3, 4, 5), 7)
    np.testing.assert_array_equal(draw_noise((3, 4, 5), 100, seed=1), first)
    assert not np.array_equal(draw_noise((3, 4, 5), 100, seed=2), first)
    assert not np.array_equal(draw_noise((3, 4, 5), 101, seed=1), first)


def test_average_takes_the_draws_of_following_seeds() -> None:
    average = noisy_images(IMAGE, 100, "average", seed=3, draws=2)
    singles = [noisy_images(IMAGE, 100, "draw", seed=seed)[0] for seed in (3, 4)]
    for one, other in zip(average, singles, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)


def test_no_noise_scales_the_image_and_temper_widens() -> None:
    (noisy,) = noisy_images(IMAGE, 200, "none", temper=4.0)
    level = noise_level(200)
    np.testing.assert_allclose(noisy.pixels, level.signal * IMAGE, rtol=1e-6)
    assert noisy.sigma == pytest.approx(2 * level.sigma)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": "some"}, "noise is 'some'"),
        ({"noise": "average", "draws": 0}, "draws is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"temper": 0.0}, "temper is 0.0"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        noisy_images(IMAGE, 100, **options)  # type: ignore[arg-type]
