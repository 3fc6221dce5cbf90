"""Answers. test_arrow.py also tests `data.py` and `attribution.py`; tests/query/test_denoise.py tests `denoised.py`."""
