"""Tests mirror modules: the module ROOM/NAME.py is tested in tests/ROOM/test_NAME.py, or a room says where.

Tested elsewhere: `progress` in tests/cli, `version` in test_package.py.
"""
