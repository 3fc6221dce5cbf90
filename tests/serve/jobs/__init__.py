"""Tests of jobs: `test_jobs` tests `routes`, `queue`, `intake`, `worker` and `events` by requests."""
