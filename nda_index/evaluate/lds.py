"""The linear datamodeling score: do scores predict how well models trained on parts of the images do?

Park et al., *TRAK: Attributing Model Behavior at Scale* (arXiv 2303.14186, section 2); for diffusion models Zheng et
al., *Intriguing Properties of Data Attribution on Diffusion Models* (arXiv 2311.00500, section 4). Needs the extra
`eval`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nda_index.errors import ConfigError, MissingDependencyError

RESAMPLES = 2000  # of the bootstrap
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over queries, with the ends of its 95% bootstrap interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def subset_masks(images: int, subsets: int, seed: int = 0) -> NDArray[np.bool_]:
    """Draw random halves of a collection: which images are in which subset.

    Args:
        images: number of images.
        subsets: number of subsets. More make the score steadier; each costs a model to train.
        seed: of the draw.

    Returns:
        bool [subsets, images], each row with `images // 2` true.

    Example:
        >>> subset_masks(10, 3).sum(axis=1).tolist()
        [5, 5, 5]
    """
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(images) < images // 2 for _ in range(subsets)])


def linear_datamodeling_scores(
    scores: NDArray[np.floating], masks: NDArray[np.bool_], losses: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Measure for each query how well the sum of a subset's scores ranks the models by how well they do on it.

    Args:
        scores: floats [Q, N], of every training image for every query.
        masks: bool [M, N], which images each model was trained on.
        losses: floats [M, Q], loss of each model on each query; low is good.

    Returns:
        float64 [Q], Spearman's rank correlation of subset sums and negative losses, 1 is best; 0 where all sums or all
        losses are equal.

    Raises:
        ConfigError: the shapes do not fit together, or there are fewer than 2 models.
        MissingDependencyError: SciPy is not installed.

    Example:
        >>> scores = np.array([[1.0, 0.0, 2.0]])
        >>> masks = np.array([[True, False, False], [False, True, False], [False, False, True]])
        >>> linear_datamodeling_scores(scores, masks, -(scores @ masks.T).T)
        array([1.])
    """
    if len(masks) < 2 or scores.shape[1:] != masks.shape[1:] or losses.shape != (len(masks), len(scores)):
        raise ConfigError(
            f"scores {list(scores.shape)}, masks {list(masks.shape)} and losses {list(losses.shape)} do not fit "
            "together; they must be [Q, N], [M, N] and [M, Q], with M at least 2"
        )
    try:
        from scipy.stats import rankdata
    except ImportError as error:
        raise MissingDependencyError("scipy is not installed; run: pip install 'nda-index[eval]'") from error
    sums = rankdata(masks.astype(np.float64) @ np.asarray(scores, np.float64).T, axis=0)  # [M, Q]
    quality = rankdata(-np.asarray(losses, np.float64), axis=0)  # [M, Q]
    sums -= sums.mean(axis=0)
    quality -= quality.mean(axis=0)
    norms = np.sqrt((sums**2).sum(axis=0) * (quality**2).sum(axis=0))  # [Q]
    return np.asarray((sums * quality).sum(axis=0) / np.where(norms > 0, norms, 1.0), np.float64)


def mean_with_interval(values: NDArray[np.floating]) -> Estimate:
    """Average one value for each query, with a 95% bootstrap interval over queries.

    Args:
        values: floats [Q], at least 2.

    Raises:
        ConfigError: there are fewer than 2.
        MissingDependencyError: SciPy is not installed.

    Example:
        >>> round(mean_with_interval(np.array([0.1, 0.2, 0.3])).mean, 3)
        0.2
    """
    if len(values) < 2:
        raise ConfigError(f"there are {len(values)} values; an interval needs 2 or more queries")
    try:
        from scipy.stats import bootstrap
    except ImportError as error:
        raise MissingDependencyError("scipy is not installed; run: pip install 'nda-index[eval]'") from error
    mean = float(np.mean(values))
    if np.ptp(values) == 0:
        return Estimate(mean, mean, mean)
    interval = bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile", rng=0
    ).confidence_interval
    return Estimate(mean, float(interval.low), float(interval.high))
