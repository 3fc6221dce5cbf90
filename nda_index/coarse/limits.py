"""Numbers of the coarse stage that hold on every device. Logarithms are to base 2."""

from __future__ import annotations

NOTHING = -1e30  # the logarithm of no mass
NEGLIGIBLE = -40.0  # flat cells whose share of a window is below 2^NEGLIGIBLE are left out
FAINT = -32.0  # members whose share of a window is below 2^FAINT are left out
CEILING = 16.0  # no member counts more than 2^CEILING: a share is at most its window's weight, more is a damaged file
REST_ALIKE = 0.6  # cosine of what two patches have outside their coordinates: docs/studies/shortlist.md
