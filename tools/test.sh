#!/usr/bin/env bash
# Sets up and runs every check: format, lint, types, other versions of Python, and all tests. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/setup.sh
if ! command -v chromium >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  { apt-get -qq update && apt-get -qq install --no-install-recommends chromium; } >/dev/null 2>&1 </dev/null ||
    echo "Chromium could not be installed; the tests of the page will be skipped." >&2
fi
# One core compiles the kernels while the other checks types. The tests then load them: else each of their processes
# would compile them for itself, at the same time.
.venv/bin/python -m tools.smoke &
smoke=$!
trap 'kill "$smoke" 2>/dev/null || true' EXIT
.venv/bin/ruff format --check .
.venv/bin/ruff check .
.venv/bin/mypy
tools/matrix.sh
wait "$smoke"
trap - EXIT
# Two processes of two threads each share the cores: a thread that waits for another must not keep a core busy.
export OMP_WAIT_POLICY=passive
.venv/bin/python -m pytest -n 2 --dist worksteal --durations 20 "$@"
