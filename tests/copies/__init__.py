"""Copies of an index: pushed, pulled, and killed meanwhile.

`lineage` and `summary` are tested in test_push.py and test_pull.py; test_kills.py ends pushes and pulls at every step,
and test_s3.py has them talk to a server of S3, where moto is installed.
"""
