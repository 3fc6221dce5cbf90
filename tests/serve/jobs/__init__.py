"""Tests of jobs: `test_jobs` tests `routes`, `intake`, `worker` and `events` by requests."""
