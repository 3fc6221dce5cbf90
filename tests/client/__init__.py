"""Tests of the client; `test_client` tests `requests` too."""
