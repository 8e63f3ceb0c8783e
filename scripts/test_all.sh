#!/usr/bin/env bash
# Runs the tests on each Python of those named that is installed; on the newest of them once more with
# conversations played on other people's loops. All runs are made, then it fails if one did. Called
# through `make test-all`.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

summary=() failed=0

# pyenv's shims stand in PATH for versions that it has, and for others too.
installed() { "$1" -c '' 2>/dev/null || [ -n "$(pyenv whence "$1" 2>/dev/null)" ]; }

run() {
    local python=$1 loop=$2 status=passed
    printf '==> %s, loop: %s\n' "$python" "$loop"
    PYTHON=$python AIOMOS_LOOP=$loop make --no-print-directory test || status=FAILED failed=1
    summary+=("$python, $loop: $status")
}

newest=
for python in "$@"; do
    if installed "$python"; then
        run "$python" replay
        newest=$python
    else
        summary+=("$python: not installed")
    fi
done
[ -n "$newest" ] || { echo "none is installed: $*" >&2; exit 1; }
for loop in asyncio uvloop; do
    run "$newest" "$loop"
done

printf '==> %s\n' "${summary[@]}"
exit $failed
