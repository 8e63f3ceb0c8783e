"""Top-level await in IPython: the cells of docs/notebook.md show what stands below them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("IPython", reason="IPython is not installed")

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "notebook.md"

#: Runs the cells that are its arguments, as a notebook does, and ends each with a line of its own.
SHELL = r"""
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(colors="nocolor", history_length=0)
for cell in sys.argv[1:]:
    shell.run_cell(cell, store_history=False).raise_error()
    print("\0")
"""


def in_ipython(*cells, home):
    """What each cell printed and gave, without "Out[1]: "."""
    done = subprocess.run(
        [sys.executable, "-c", SHELL, *cells],
        cwd=ROOT,
        env={"HOME": str(home), "IPYTHONDIR": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shown = done.stdout.split("\0\n")[:-1]
    return [re.sub(r"^Out\[\d+\]: ?\n?", "", text, flags=re.MULTILINE).strip() for text in shown]


def cells_of(page):
    """(code, what it shows) of each cell."""
    pairs = r"^```python\n(.*?)^```\n+^```text\n(.*?)^```"
    return re.findall(pairs, page.read_text(), re.DOTALL | re.MULTILINE)


def test_cells_of_the_page_show_what_it_says(tmp_path):
    cells = cells_of(PAGE)
    assert len(cells) == PAGE.read_text().count("```python")
    shown = in_ipython(*(code for code, _ in cells), home=tmp_path)
    assert shown == [text.strip() for _, text in cells]


@pytest.mark.parametrize("tasks", ["engine", "asyncio"])
def test_replay_is_awaited_at_top_level(tasks, captures, tmp_path):
    """Handlers read, sleep and time out on capture time, and the cell's loop is another one."""
    cell = f"""
import asyncio, aiomos
told = []
async def handler(flow):
    loop = asyncio.get_running_loop()
    begin = loop.time()
    await asyncio.sleep(0.25)
    told.append((round(loop.time() - begin, 6), loop is cells_loop))
cells_loop = asyncio.get_running_loop()
summary = await aiomos.replay(handler, {str(captures / "ssh.pcap")!r}, tasks={tasks!r})
set(told), summary.handlers_started == len(told) > 0
"""
    assert in_ipython(cell, home=tmp_path) == ["({(0.25, False)}, True)"]


def test_ipython_runs_a_file_of_cells(captures, tmp_path):
    program = shutil.which("ipython", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("ipython is not installed beside this Python")
    script = tmp_path / "cells.ipy"
    script.write_text(
        "import aiomos\n"
        "async def handler(flow):\n"
        "    await flow.closed()\n"
        f"summary = await aiomos.replay(handler, {str(captures / 'ssh.pcap')!r})\n"
        "print('handlers', summary.handlers_started)\n"
    )
    done = subprocess.run(
        [program, "--no-banner", "--colors=nocolor", str(script)],
        env={"HOME": str(tmp_path), "IPYTHONDIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["handlers 3"]), done.stderr
