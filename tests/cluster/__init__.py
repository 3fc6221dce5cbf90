"""An index on many machines: `cluster.build`, `cluster.connection` and `cluster.shards` in test_cluster.py."""
