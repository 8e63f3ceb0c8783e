#!/usr/bin/env bash
# What aiomos is measured beside, as far as it can be had here; the benchmarks name what is missing.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

log=$(mktemp)
trap 'rm -f "$log"' EXIT

PYTHON=python benchmarks/install_peers.sh >"$log" 2>&1 && exit 0
tail -n 5 "$log"
echo '==> not every peer could be installed; those from PyPI:'
python -m pip install -qq --group bench || echo 'nor all of these'
