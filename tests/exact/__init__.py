"""The exact posterior.

Tested elsewhere: `exact.scores` in test_image_scores.py and test_masses.py, `exact.cpu`, `exact.cpu_kernels`,
`exact.cpu_distances`, `exact.posterior` and `exact.reference` (each against the other) in test_image_scores.py and
tests/fidelity, `exact.gpu_kernels` in test_gpu.py, `exact.views` in test_means.py and test_maps.py,
and `exact.pairs` in test_image_scores.py (masks and strides) and test_gpu.py (all planned pairs).
"""
