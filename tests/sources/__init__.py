"""Tests of `nda_index.sources`. `base` has no behaviour of its own; every other file here tests what it defines."""
