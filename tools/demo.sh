#!/usr/bin/env bash
# Sets up, indexes photographs, finds the sources of pictures made of them, and writes a report.
# With your own images: tools/demo.sh --images DIR --query FILE
set -euo pipefail
cd "$(dirname "$0")/.."
tools/setup.sh
exec .venv/bin/python tools/demo.py "$@"
