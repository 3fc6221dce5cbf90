"""Tests of `nda_index.sources`. `base` has no behaviour of its own; `latent_files` and `latent_columns`
are tested in test_latents.py; every other file here tests what it defines."""
