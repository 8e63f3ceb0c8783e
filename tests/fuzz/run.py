"""make fuzz and make fuzz-selftest: builds the target, fuzzes, says how much code was reached.

    run.py fuzz [SECONDS]       fuzzes, then the share of the engine that seeds and findings reach
    run.py coverage             that share alone, of the seeds
    run.py selftest [SECONDS]   plants the defects of defects.py one at a time; each must be found

Everything lands in build/fuzz*. What fuzzing learned stays in build/fuzz-corpus for the next time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import reached
import seeds
from defects import DEFECTS, Defect

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
#: What a copy of the tree must hold to be built.
TREE = ("aiomos", "dpdk_shim", "tests/fuzz", "meson.build", "meson.options", "pyproject.toml")
LARGEST_SCRIPT = 4096
SANITIZERS = {
    # The pool's accounts tell leaks; what Python leaves at its end is none.
    "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=4:malloc_context_size=8",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "PYTHONMALLOC": "malloc",
}
CLANG = ("-Db_sanitize=address,undefined", "-Db_lundef=false", "-Doptimization=1")


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


def run(command: Sequence[str | Path], **options: object) -> None:
    """A step whose output matters only when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if done.returncode:
        print(done.stdout[-6000:], done.stderr[-6000:], sep="\n", file=sys.stderr)
        raise SystemExit(f"failed: {' '.join(map(str, command))}")


def build(tree: Path, folder: Path, kind: str, *options: str, cc: str) -> Path:
    """Builds the engine's core with the target; the folder that holds its package."""
    package = folder / "root"
    places = [f"-Dpython.{place}={package}" for place in ("platlibdir", "purelibdir")]
    if not (folder / "build.ninja").exists():
        setup = ["meson", "setup", folder, tree, f"-Dfuzz_target={kind}", f"--prefix={package}"]
        run([*setup, *places, *options], env=os.environ | {"CC": cc})
    run(["ninja", "-C", folder])
    run(["meson", "install", "-C", folder, "--no-rebuild", "--only-changed"])
    return package


def build_target(tree: Path, folder: Path) -> Path:
    return build(tree, folder, "target", *CLANG, cc="clang")


def target(folder: Path, package: Path, *arguments: str | Path, log: Path) -> int:
    """Runs the target; its output goes to a file, its last words are returned by `finding`."""
    with log.open("w") as out:
        return subprocess.run(
            [folder / "tests" / "fuzz" / "fuzz", *arguments],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | SANITIZERS | {"AIOMOS_FUZZ_PACKAGE": str(package)},
        ).returncode


def finding(log: Path) -> str:
    """What was found, in one line."""
    for line in log.read_text(errors="replace").splitlines():
        if "FINDING:" in line or "runtime error:" in line or "ERROR: AddressSanitizer" in line:
            return line.strip()
        if "libFuzzer: timeout" in line or "libFuzzer: out-of-memory" in line:
            return line.strip()
    return ""


def fuzz(folder: Path, package: Path, seconds: int, corpus: Path, log: Path) -> bool:
    """Fuzzes for so long, from seeds and corpus; False: something was found."""
    seed_folder = folder / "seeds"
    shutil.rmtree(seed_folder, ignore_errors=True)
    seeds.write_all(seed_folder)
    corpus.mkdir(parents=True, exist_ok=True)
    limits = (f"-max_total_time={seconds}", f"-max_len={LARGEST_SCRIPT}", "-timeout=30")
    found = f"-artifact_prefix={folder}/finding-"
    return target(folder, package, *limits, found, corpus, seed_folder, log=log) == 0


def last_pulse(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if "exec/s" in line]
    return lines[-1].split(" rss:")[0] if lines else "no run"


# ---- the three commands -------------------------------------------------------------------------


def do_fuzz(seconds: int) -> int:
    folder, log = BUILD / "fuzz", BUILD / "fuzz.log"
    say("building the target (clang; minutes the first time)")
    package = build_target(ROOT, folder)
    say(f"fuzzing for {seconds} s")
    well = fuzz(folder, package, seconds, BUILD / "fuzz-corpus", log)
    print(last_pulse(log))
    if not well:
        print(f"FOUND: {finding(log) or 'see the log'}")
        print(f"the script lies in {folder}/finding-*, the log is {log}")
        print("what it does:  .venv/bin/python tests/fuzz/show.py SCRIPT")
        return 1
    print("no finding")
    return do_coverage([BUILD / "fuzz-corpus"])


def do_coverage(more: Sequence[Path] = ()) -> int:
    say("building with counters for every line (gcc)")
    folder = BUILD / "fuzz-coverage"
    package = build(ROOT, folder, "coverage", "-Db_coverage=true", "-Doptimization=0", cc="gcc")
    seed_folder = folder / "seeds"
    shutil.rmtree(seed_folder, ignore_errors=True)
    print(seeds.write_all(seed_folder), "seeds")
    low = reached.report(ROOT, folder, package, "after the seeds", [seed_folder])
    if more:
        reached.report(ROOT, folder, package, "after fuzzing", [seed_folder, *more])
    if low:
        print(f"below {reached.LEAST} % after the seeds: {', '.join(low)}")
    return 1 if low else 0


def do_selftest(seconds: int) -> int:
    tree = BUILD / "fuzz-selftest" / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    for name in TREE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, tree / name)
    shutil.copytree(ROOT / "tests" / "captures", tree / "tests" / "captures")
    results = [try_one(tree, None, seconds)]
    results += [try_one(tree, defect, seconds) for defect in DEFECTS]
    for name, well, text in results:
        print(f"{'ok  ' if well else 'FAIL'} {name}: {text}")
    return 0 if all(well for _, well, _ in results) else 1


def try_one(tree: Path, defect: Defect | None, seconds: int) -> tuple[str, bool, str]:
    """Builds with the defect and fuzzes: (name, as expected, in words)."""
    name = defect.name if defect else "undamaged"
    folder = tree.parent / "build"
    say(f"{name}: building")
    if defect:
        defect.plant(tree)
    try:
        package = build_target(tree, folder)
    finally:
        if defect:
            defect.remove(tree, ROOT)
    say(f"{name}: fuzzing for up to {seconds} s")
    log = tree.parent / f"{name.replace(' ', '_')}.log"
    corpus = tree.parent / "corpus"
    shutil.rmtree(corpus, ignore_errors=True)
    begin = time.monotonic()
    clean = fuzz(folder, package, seconds, corpus, log)
    took = time.monotonic() - begin
    if clean:
        return name, defect is None, f"nothing found in {took:.0f} s"
    return name, defect is not None, f"found in {took:.1f} s: {finding(log)}"


def main(arguments: list[str]) -> int:
    command = arguments[0] if arguments else ""
    if command == "fuzz":
        return do_fuzz(int(arguments[1]) if arguments[1:] else 600)
    if command == "coverage":
        return do_coverage()
    if command == "selftest":
        return do_selftest(int(arguments[1]) if arguments[1:] else 120)
    print(__doc__)
    return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
