"""The GPU backend on one card: checked against float64, then timed, without an index.

    python -m benchmarks.gpu              # under two minutes on a fresh card, kernels compiled
    python -m benchmarks.gpu --quick      # the targets alone, in 40 seconds
    python -m benchmarks.gpu --lists      # the lists of the coarse stage alone
    python -m benchmarks.gpu --tiny       # every section at tiny sizes, on the CPU by Triton's interpreter
    python -m benchmarks.gpu --sweep --inside 128.4.1.168,64.4.2.128 --border 64.4.1.128,64.4.2.128
    python -m benchmarks.gpu.question     # from a picture to its answer, about 1,000,000 images
    python -m benchmarks.gpu.host         # what the CPU still does of a question, without a card
    python -m benchmarks.gpu.rounding     # queries of fewer bits, on CIFAR-10, without a card
    python -m benchmarks.gpu.resources    # registers and shared memory of the kernels, without a card

A kernel's tuning is TILE.WARPS.STAGES.REGISTERS. Kernels of a sweep compile side by side in processes of their own,
each with --images 64 --share I/N, into one cache.

Needs torch, Triton, NumPy and Pillow, and this checkout or what `tools/gpu_kit.py` packs; neither LanceDB nor FAISS.
`question` needs Numba, PyArrow and OpenCV too. Prints a table, and writes gpu.json to the folder $OUT, or to --out. A
section that fails prints its error, and the others go on.
"""
