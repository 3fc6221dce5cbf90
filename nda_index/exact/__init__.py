"""The exact posterior: how much of a noisy query the optimal denoiser would take from each training image."""

from __future__ import annotations

from nda_index.exact.masses import Masses, merge_log_totals
from nda_index.exact.scores import image_masses, image_scores

__all__ = ["Masses", "image_masses", "image_scores", "merge_log_totals"]
