"""Rings, joins and pumps as C, under the sanitizers: tests/ring_stress.c."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent.parent
SHIM = HERE.parent / "dpdk_shim"
PARTS = (
    *("ring", "ring_writer", "source_ring", "source_join", "source_pump"),
    *("source_mem", "base", "pool", "frame", "error"),
)
FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-pedantic", "-Werror")


def build(program: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    sources = [HERE / "ring_stress.c", *(SHIM / f"{part}.c" for part in PARTS)]
    command = ["gcc", *FLAGS, *flags, "-pthread", f"-I{SHIM}", *sources, "-o", program]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def sanitizer_works(sanitizer: str, tmp_path: Path) -> bool:
    """Its library may be missing, or its shadow have no place in this kernel's memory."""
    source = tmp_path / "nothing.c"
    source.write_text("int main(void) { return 0; }\n")
    program = tmp_path / "nothing"
    command = ["gcc", sanitizer, source, "-o", program]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return False
    return subprocess.run([program], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_rings_under_load_are_clean(sanitizer: str, tmp_path: Path) -> None:
    flag = f"-fsanitize={sanitizer}"
    if not sanitizer_works(flag, tmp_path):
        pytest.skip(f"gcc's {flag} does not work here")
    program = tmp_path / "ring_stress"
    built = build(program, flag, "-fno-sanitize-recover=all")
    assert built.returncode == 0, built.stderr
    done = subprocess.run([program], capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stdout) == (0, "as it should be\n"), done.stderr
