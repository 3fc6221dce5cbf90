"""The exact posterior.

Tested elsewhere: `exact.posterior`, `exact.scores`, `exact.cpu`, `exact.cpu_kernels`, `exact.cpu_distances` and
`exact.reference` in test_image_scores.py and tests/fidelity, `exact.borders` in test_image_scores.py and test_gpu.py,
`exact.gpu_kernels`, `exact.gpu_numbers`, `exact.gpu_plain` and `exact.gpu_tiles` in test_gpu.py,
`exact.views` in test_maps.py.
"""
