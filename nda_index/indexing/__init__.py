"""Building an index from a source, and changing it."""
