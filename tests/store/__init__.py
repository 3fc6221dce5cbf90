"""An index on disk.

Tested elsewhere: `store.arrow` in tests/coarse/test_storage.py, `store.tombstones` in tests/indexing/test_edits.py,
`store.config` by its example and tests/store/test_manifest.py, `store.hashes` in tests/store/test_manifest.py,
`store.state` in tests/cli/test_indexes.py, `store.pulled` in tests/copies. `predicates.py` is tested by
test_conditions.py, whose conditions are made of it.
"""
