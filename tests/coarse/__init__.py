"""The coarse stage.

Tested elsewhere: `coarse.cells`, `coarse.cell_kernels`, `coarse.scan` and `coarse.windows` in test_probe.py and
test_storage.py, `coarse.ivf` in test_storage.py.
"""
