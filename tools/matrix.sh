#!/usr/bin/env bash
# Checks the oldest and the newest Python that are supported, as far as this machine has them, and says what it skips.
# Types are checked by .venv's mypy, without the tests: libraries have different types for different versions. Files are
# compiled by the version's own interpreter, if there is one. A small index is queried in .venv-VERSION, a virtual
# environment with all dependencies, if there is one; to make one (several GB where PyPI's torch is a CUDA build):
#     python3.13 -m venv .venv-3.13 && .venv-3.13/bin/pip install --editable ".[cpu]"
set -euo pipefail
cd "$(dirname "$0")/.."

for version in 3.10 3.13; do
  echo "Python $version: types of nda_index and tools"
  .venv/bin/mypy --python-version "$version" nda_index tools

  python=
  candidates=("$(command -v "python$version" || true)")
  if command -v pyenv >/dev/null; then candidates+=("$(pyenv root)/versions/$version".*/bin/python); fi
  for candidate in "${candidates[@]}"; do
    if [ -x "$candidate" ] && "$candidate" --version >/dev/null 2>&1; then python=$candidate; break; fi
  done
  if [ -n "$python" ]; then
    compiled=$(mktemp -d)
    PYTHONPYCACHEPREFIX=$compiled "$python" -W error -m compileall -q nda_index tests benchmarks tools
    rm -r "$compiled"
    echo "Python $version: every file compiles"
  else
    echo "Python $version: SKIPPED compiling: no python$version on this machine"
  fi

  if [ -x ".venv-$version/bin/python" ]; then
    ".venv-$version/bin/python" -m tools.smoke
  else
    echo "Python $version: SKIPPED the smoke test: no .venv-$version with torch and the other dependencies (tools/matrix.sh says how)"
  fi
done
