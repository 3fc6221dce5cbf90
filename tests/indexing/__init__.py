"""Building and changing an index.

Tested elsewhere: `indexing.ingest`, `indexing.journal` and `indexing.request` in
tests/indexing/test_pipeline.py, `indexing.addition`, `indexing.removal` and `indexing.compaction` in
tests/indexing/test_edits.py, `indexing.plan` by its examples and tests/indexing/test_pipeline.py. What all of these do
where pictures are kept at their own size is tested in tests/indexing/test_photographs.py.
"""
