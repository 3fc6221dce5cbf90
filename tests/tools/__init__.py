"""The tools that a test can run."""
