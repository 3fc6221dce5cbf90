#!/usr/bin/env bash
# The fast checks, under a minute once set up: format, lint, types, the architecture, and the tests named in tests/fast.txt.
# Arguments go to pytest: tools/check.sh -x
set -euo pipefail
cd "$(dirname "$0")/.."
tools/setup.sh
.venv/bin/ruff format --check .
.venv/bin/ruff check .
.venv/bin/mypy
# Small tests gain more from two processes than from two threads.
NUMBA_NUM_THREADS=1 OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadfile @tests/fast.txt "$@"
