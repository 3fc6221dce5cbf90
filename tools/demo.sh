#!/usr/bin/env bash
# Sets up, indexes photographs, asks where pictures made of them come from, and writes a report.
# Your own: tools/demo.sh --images DIR --query FILE
set -euo pipefail
cd "$(dirname "$0")/.."
tools/setup.sh
exec .venv/bin/python tools/demo.py "$@"
