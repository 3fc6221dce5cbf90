#!/usr/bin/env bash
# Makes .venv with everything that the demo and the tests need. A second run with the same requirements does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
extra=cpu
if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then extra=gpu; fi

wanted=$({ cat pyproject.toml constraints.txt tools/setup.sh; echo "$extra"; "$python" --version; } | sha256sum)
if [ "$(cat .venv/installed 2>/dev/null)" = "$wanted" ]; then exit 0; fi

echo "Setting up .venv (a few minutes the first time) ..." >&2
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --upgrade "pip>=25.1"
.venv/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[$extra,ray,serve,latents]" --group dev
# Numba's caches name the modules they were compiled from, and fail where these have moved.
find nda_index -name '*.nb[ci]' -delete
echo "$wanted" > .venv/installed
