"""Regions of photographs. `scenes.py` makes the pictures; the fixtures of an index of them are in tests/conftest.py.

Tested elsewhere: `pictures.cpu` and `pictures.lists` in tests/pictures/test_gpu.py and test_placements.py.
"""
