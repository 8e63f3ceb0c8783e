#!/usr/bin/env bash
# Runs a command in the project's environment, after making whatever that needs and is missing:
#
#     scripts/env.sh TASK [COMMAND...]        TASK: run test fuzz lint docs bench captures
#
# Debian packages, then a virtual environment, then the tools of the task's dependency groups
# (pyproject.toml), then the engine, built and installed editable; for bench as users install it,
# in an environment apart, since an editable install starts slower. Each step is skipped when there
# is nothing to do, so a second call costs a fraction of a second. What is installed for good:
# packages by apt-get, and nothing else outside this folder.
#
# PYTHON=python3.12 takes that interpreter, in an environment of its own (.venv-3.12, build/py3.12).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '==> %s\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# What each task needs: dependency groups, the engine (editable, installed, none, or, fuzzed, what
# is needed to build it), programs.
describe_task() {
    engine=editable programs=() test_data=no with_dpdk=no
    case $1 in
        run)      groups=(build) ;;
        test)     groups=(build test) programs=(tcpdump ip ethtool nft nginx redis-server openssl) test_data=yes with_dpdk=yes
                  [ ! -d "${AIOMOS_CORPUS:-../shared/corpus}" ] || programs+=(capinfos) ;;
        fuzz)     groups=(build) engine=fuzzed programs=(clang llvm-symbolizer gcov patch) ;;
        docs)     groups=(build docs) ;;
        bench)    groups=(build) engine=installed programs=(dpdk-testpmd) with_dpdk=yes ;;
        lint)     groups=(build lint test) engine=none ;;
        captures) groups=(build) engine=none ;;
        *)        fail "unknown task '$1': run, test, fuzz, lint, docs, bench or captures" ;;
    esac
}

# The Debian package that brings a program, where the two have different names.
package_of() {
    case $1 in
        ip) echo iproute2 ;;
        nft) echo nftables ;;
        nginx) echo nginx-light ;;
        capinfos) echo wireshark-common ;;
        dpdk-testpmd) echo dpdk-dev ;;
        llvm-symbolizer) echo llvm ;;
        gcov) echo gcc ;;
        *) echo "$1" ;;
    esac
}

# --- Debian packages ---------------------------------------------------------------------------

have() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null; }

is_debian() { [ -e /etc/debian_version ] && have apt-get; }

# A compiler, the two C libraries, and the headers of this Python; then what the task asks for.
# libdpdk-dev brings all drivers along.
missing_packages() {
    local program
    if [ $engine != none ]; then
        have gcc || echo gcc libc6-dev
        if have pkg-config; then
            pkg-config --exists zlib || echo zlib1g-dev
            pkg-config --exists libpcap || echo libpcap-dev
        else
            echo pkg-config zlib1g-dev libpcap-dev
        fi
        [ $with_dpdk = no ] || has_dpdk || echo libdpdk-dev
        python_has_headers || echo "${python_package}-dev"
    fi
    python_has_venv || echo "${python_package}-venv"
    for program in "${programs[@]}"; do
        have "$program" || package_of "$program"
    done
    [ $engine != fuzzed ] || has_fuzzer || echo "$(runtime_of_clang)"
    if [ $test_data = yes ]; then
        [ -e /etc/services ] || echo netbase
        python_has_own_tests || [ "$python_package" = python3 ] || echo "lib$python_package-testsuite"
    fi
}

has_dpdk() { have pkg-config && pkg-config --exists 'libdpdk >= 22.11'; }

# libFuzzer and the sanitizers come apart from clang, in a package with its version in the name.
has_fuzzer() { have clang && compgen -G "$(clang -print-runtime-dir)/libclang_rt.fuzzer*.a" >/dev/null; }

runtime_of_clang() {
    local depends
    depends=$(apt-cache depends clang 2>/dev/null | sed -n 's/^ *Depends: clang-\([0-9]*\)$/\1/p')
    echo "libclang-rt-${depends:-14}-dev"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

may_become_root() {
    [ "$(id -u)" = 0 ] || { have sudo && { [ -t 0 ] || sudo -n true 2>/dev/null; }; }
}

# Servers that the tests start for themselves must not also be started by their packages.
policy=/usr/sbin/policy-rc.d
without_starting_services() {
    local status=0
    if [ -e $policy ]; then
        "$@"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
    as_root chmod 755 $policy
    trap 'as_root rm -f $policy' EXIT
    "$@" || status=$?
    as_root rm -f $policy
    trap - EXIT
    return $status
}

install_packages() {
    local log
    say "installing Debian packages: $*"
    log=$(mktemp)
    if as_root apt-get update >"$log" 2>&1 &&
        without_starting_services as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install --yes --no-install-recommends "$@" >>"$log" 2>&1; then
        rm -f "$log"
        return
    fi
    cat "$log" >&2
    rm -f "$log"
    return 1
}

provide_packages() {
    local packages
    # shellcheck disable=SC2207  # names of packages have no spaces in them
    packages=($(missing_packages))
    [ ${#packages[@]} = 0 ] && return
    is_debian || fail "these are missing, by the names of their Debian packages: ${packages[*]}.
       Install what your system calls them, then run this again."
    may_become_root || fail "these Debian packages are missing, and only root can install them:
       apt-get install ${packages[*]}"
    install_packages "${packages[@]}" || fail "apt-get could not install: ${packages[*]}"
    # shellcheck disable=SC2207
    packages=($(missing_packages))
    [ ${#packages[@]} = 0 ] || fail "still missing after their installation: ${packages[*]}"
}

# --- Python ------------------------------------------------------------------------------------

python_at_least_3_11() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

python_has_headers() {
    "$python" -c 'import os, sysconfig
raise SystemExit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'
}

python_has_venv() { "$python" -c 'import ensurepip, venv' 2>/dev/null; }

python_has_own_tests() { "$python" -c 'import test.test_asyncio' 2>/dev/null; }

choose_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        python=$(behind_shim "$PYTHON")
        "$python" -c '' 2>/dev/null || fail "PYTHON=$PYTHON: there is no such Python"
        python_at_least_3_11 "$python" || fail "PYTHON=$PYTHON: aiomos needs Python 3.11 or newer"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11; do
        if python_at_least_3_11 "$candidate"; then
            python=$candidate
            return
        fi
    done
    fail "no Python 3.11 or newer was found (Debian 12: apt-get install python3)"
}

# pyenv puts a shim for every version into PATH, and lets only the chosen ones run.
behind_shim() {
    local version
    if ! "$1" -c '' 2>/dev/null && have pyenv; then
        version=$(pyenv whence "$1" 2>/dev/null | tail -n 1)
        [ -z "$version" ] || { PYENV_VERSION=$version pyenv which "$1" && return; }
    fi
    echo "$1"
}

# The interpreter itself, not a shim in front of it, and where its environment is kept.
place_environment() {
    local version prefix
    { read -r python; read -r version; read -r prefix; } < <("$python" -c 'import sys
print(getattr(sys, "_base_executable", "") or sys.executable)
print("%d.%d" % sys.version_info[:2])
print(sys.base_prefix)')
    venv=.venv${PYTHON:+-$version}
    build=build/py$version
    [ $engine != installed ] || venv+=-bench build+=-bench
    python_package=python3
    [ "$prefix" = /usr ] && python_package=python$version
    done_in=$venv/.aiomos
}

# --- Stamps: a step is repeated when what it was made from has changed ---------------------------

digest() { { printf '%s\n' "$@"; cat pyproject.toml scripts/env.sh; } | sha256sum | cut -d' ' -f1; }

is_done() { [ -e "$done_in/$1" ] && [ "$(cat "$done_in/$1")" = "$2" ]; }

mark_done() { mkdir -p "$done_in" && echo "$2" >"$done_in/$1"; }

provide_venv() {
    local made_from
    made_from=$(digest "$python")
    is_done venv "$made_from" && return
    if [ ! -x "$venv/bin/python" ] || ! python_matches_venv; then
        say "making the virtual environment $venv with $("$python" --version)"
        "$python" -m venv --clear "$venv"
    fi
    # Dependency groups need pip 25.1.
    pip install --upgrade 'pip>=25.1'
    mark_done venv "$made_from"
}

python_matches_venv() {
    local ask='import sys; print(sys.version_info, sys.base_prefix)'
    [ "$("$python" -c "$ask")" = "$("$venv/bin/python" -c "$ask" 2>/dev/null)" ]
}

pip() {
    "$venv/bin/python" -m pip -qq --disable-pip-version-check "$@"
}

provide_groups() {
    local made_from group absent=()
    made_from=$(digest)
    for group in run "${groups[@]}"; do
        is_done "group-$group" "$made_from" || absent+=("$group")
    done
    for group in "${absent[@]}"; do
        say "installing from PyPI what $group needs"
        if [ "$group" = run ]; then
            # shellcheck disable=SC2046  # requirements have no spaces in them
            pip install $(run_time_requirements)
        else
            pip install --group "$group"
        fi
        mark_done "group-$group" "$made_from"
    done
}

run_time_requirements() {
    "$python" -c 'import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")'
}

# --- The engine ----------------------------------------------------------------------------------

provide_engine() {
    case $engine in
        editable) provide_editable ;;
        installed) provide_installed ;;
    esac
}

install_engine() {
    pip install --no-build-isolation --no-deps --force-reinstall "$@" \
        -Csetup-args=-Dwerror=true -Csetup-args=-Dtesting_hooks=true -Cbuild-dir="$build"
}

provide_editable() {
    local made_from
    made_from=$(digest "$(cat meson.build meson.options ./*/meson.build ./*/*/meson.build)")
    if ! is_done engine "$made_from" || [ ! -e "$build/build.ninja" ]; then
        say "building the engine (minutes the first time, compiler warnings are errors)"
        install_engine --editable .
        mark_done engine "$made_from"
    fi
    build_changes
}

# An editable install runs ninja whenever aiomos is imported. With everything built and its log
# compact, that run only reads, so that many processes may import at once.
build_changes() {
    local ninja=(ninja -C "$build")
    "${ninja[@]}" -n | grep -q 'no work to do' && return
    say "building what changed"
    "${ninja[@]}" --quiet
    "${ninja[@]}" -t recompact
}

# The checkout's own aiomos/ has no built modules, so Python must not look there first.
provide_installed() {
    local made_from
    made_from=$(digest "$(find meson.* aiomos dpdk_shim -type f ! -name '*.pyc' -exec sha256sum {} + | sort)")
    if ! is_done engine "$made_from"; then
        say "building and installing the engine as it stands"
        install_engine .
        mark_done engine "$made_from"
    fi
    mkdir -p build/beside
    ln -sfn ../../benchmarks build/beside/benchmarks
    export PYTHONSAFEPATH=1 PYTHONPATH=$PWD/build/beside
}

main() {
    local task=${1:?usage: scripts/env.sh TASK [COMMAND...]}
    shift
    describe_task "$task"
    choose_python
    place_environment
    provide_packages
    provide_venv
    provide_groups
    export VIRTUAL_ENV=$PWD/$venv PATH=$PWD/$venv/bin:$PATH:/usr/sbin:/sbin
    unset PYTHONHOME
    provide_engine
    [ $# = 0 ] || exec "$@"
}

main "$@"
