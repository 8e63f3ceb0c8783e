#!/usr/bin/env bash
# Style, types and formatting of everything, without changing anything. All checks run, then it
# fails if one did. Needs the tools of the lint group: call it through `make lint`.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

failed=()

check() {
    local name=$1
    shift
    printf '==> %s\n' "$name"
    "$@" || failed+=("$name")
}

check 'ruff check' ruff check --quiet .
check 'ruff format' ruff format --quiet --diff .
check 'mypy' mypy
check 'cython-lint' cython-lint aiomos
check 'clang-format' clang-format --dry-run --Werror dpdk_shim/*.[ch]

[ ${#failed[@]} = 0 ] || {
    printf 'lint failed: %s\n' "$(IFS=,; echo "${failed[*]}")"
    exit 1
}
