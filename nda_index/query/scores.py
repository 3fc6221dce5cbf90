"""Scores and votes of a whole collection, for researchers: no verdicts, no maps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nda_index.errors import ConfigError
from nda_index.query.conversation import Collection, converse
from nda_index.query.gather import collect_votes, score_images
from nda_index.query.timing import StageTimer
from nda_index.question import Query


def score_collection(collection: Collection, query: Query) -> NDArray[np.float64]:
    """Score all images for a query, whatever its `top`: float64 [N], 0 for those that are not scored."""
    prepared = collection.prepare(query)
    candidates = query.question.candidates or collection.candidates
    scored = converse(
        collection, prepared, lambda conversation: score_images(conversation, candidates, 1, StageTimer())
    )
    scores = np.zeros(collection.offsets[-1])
    scores[scored.image_ids] = scored.scores
    return scores


def vote_collection(collection: Collection, query: Query, probes: int) -> NDArray[np.float64]:
    """Estimate the scores of all images by the coarse stage alone: float64 [N].

    Raises:
        ConfigError: the question's mode is "exact", which has no coarse stage.
    """
    prepared = collection.prepare(query, probes=probes)
    votes = converse(collection, prepared, collect_votes).votes
    if votes is None:
        raise ConfigError("mode is 'exact', which gives no votes; take 'ann'")
    return votes
