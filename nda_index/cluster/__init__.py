"""Ray: an index in shards, built and queried on many machines."""

from nda_index.cluster.build import build_shards
from nda_index.cluster.shards import open_cluster

__all__ = ["build_shards", "open_cluster"]
