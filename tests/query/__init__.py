"""From a query to its answer.

Tested elsewhere: `query.attribute`, `query.scores`, `query.session` and `query.shard` in tests/test_index.py,
`query.conversation` and `query.protocol` in tests/query/test_gather.py, `query.local` in
tests/query/test_denoise.py and tests/cluster/test_cluster.py, `query.timing` by its example,
`query.prepare` in tests/images and tests/indexing/test_latents.py.
"""
