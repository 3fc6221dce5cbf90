"""Regions of photographs. `scenes.py` makes the pictures; the fixtures of an index of them are in tests/conftest.py."""
