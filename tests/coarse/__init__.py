"""The coarse stage.

Tested elsewhere: `coarse.cells`, `coarse.cell_kernels`, `coarse.cpu_lists`, `coarse.scan` and `coarse.windows` in
test_probe.py and test_storage.py, `coarse.ivf` in test_storage.py, `coarse.gpu_kernels` and `coarse.limits` in
test_gpu_scan.py, `coarse.lists` in test_gpu.py, `coarse.visits` in test_gpu_work.py.
"""
