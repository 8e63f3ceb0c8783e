"""Interfaces that are not there, not allowed, go down, or vanish: one clear line each."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
import live

KINDS = [(), ("--workers", 2)]
kinds = pytest.mark.parametrize("kind", KINDS, ids=["alone", "two_workers"])
NOBODY = 65534
APP = """
import aiomos

app = aiomos.App()
print("imported", flush=True)

@app.tcp("port 7000")
async def sizes(flow):
    print(len(await flow.client.read()), flush=True)
"""


@pytest.fixture
def app(tmp_path):
    path = tmp_path / "app.py"
    path.write_text(APP)
    tmp_path.chmod(0o755)
    return path


def refused(space, folder, app, *args, front=(), **options):
    """The one line in which a run says why it does not begin; no worker has begun."""
    words = [*front, sys.executable, "-m", "aiomos.cli", "run", app, *args]
    with space.entered():
        done = subprocess.run(
            list(map(str, words)),
            env=os.environ | {"XDG_RUNTIME_DIR": str(folder)},
            capture_output=True,
            text=True,
            timeout=live.PATIENCE,
            cwd="/",
            **options,
        )
    assert done.returncode == 2, done
    assert "imported" not in done.stdout or not args.count("--workers"), done
    first, *more = done.stderr.splitlines()
    assert first.startswith("aiomos: ")
    assert not more or first.endswith("(column 5)"), done.stderr  # a filter, with a pointer to it
    return first


@kinds
def test_unknown_interface_is_refused_with_those_there_are(wire, tmp_path, app, kind):
    line = refused(wire.server, tmp_path, app, "-i", "nosuch0", *kind)
    assert "nosuch0: no such interface" in line
    assert live.INTERFACE in line


def as_nobody():
    """Keywords of a process of nobody's; skips where that cannot read this checkout."""
    options = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    probe = [sys.executable, "-c", "import aiomos._engine.core"]
    try:
        subprocess.run(probe, capture_output=True, cwd="/", check=True, **options)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs an interpreter and a checkout that everybody may read")
    return options


@kinds
def test_nobody_has_no_permission(wire, tmp_path, app, kind):
    line = refused(wire.server, tmp_path, app, "-i", live.INTERFACE, *kind, **as_nobody())
    assert "no permission" in line
    assert "setcap" in line


@kinds
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
def test_root_without_the_capability_has_no_permission(wire, tmp_path, app, kind):
    front = ("setpriv", "--bounding-set", "-net_raw", "--inh-caps", "-net_raw")
    line = refused(wire.server, tmp_path, app, "-i", live.INTERFACE, *kind, front=front)
    assert "no permission" in line


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("-i", "s0", "-r", "some.pcap"), "-r and -i"),
        ((), "-r FILE"),
        (("-i", "s0", "--workers", 2, "-w", "out.pcap"), "-w writes from one process"),
        (("-i", "s0", "--workers", 2, "-c", 5), "-c counts in one process"),
        (("-i", "s0", "--cores", "9999"), "there is no core 9999"),
        (("-i", "s0", "--cores", "0", "--workers", 2), "1 cores for 2 workers"),
        (("-i", "s0", "-B", 8 << 20), "MiB at the most"),
        (("-i", "s0", "--workers", 2, "-f", "port"), "filter does not compile"),
        (("-i", "s0", "-f", "port"), "filter does not compile"),
    ],
)
def test_options_that_do_not_go_together_are_refused(wire, tmp_path, app, args, words):
    assert words in refused(wire.server, tmp_path, app, *args)


@kinds
def test_app_that_cannot_be_loaded_is_refused(wire, tmp_path, kind):
    line = refused(wire.server, tmp_path, tmp_path / "none.py", "-i", live.INTERFACE, *kind)
    assert "none.py" in line


# ---- while it runs ---------------------------------------------------------------------------


@contextlib.contextmanager
def spare(space):
    """A cable inside the server's host that may be cut: its two ends."""
    space.do("ip", "link", "add", "k0", "type", "veth", "peer", "name", "k1")
    try:
        for end in ("k0", "k1"):
            space.do("ip", "link", "set", end, "up")
        yield "k0"
    finally:
        with contextlib.suppress(RuntimeError):
            space.do("ip", "link", "delete", "k0")


@kinds
def test_interface_deleted_while_it_is_watched_ends_the_run_with_one_line(
    wire, tmp_path, app, kind
):
    with (
        spare(wire.server) as cable,
        live.running(wire.server, tmp_path / "run", app, *kind, interface=cable) as run,
    ):
        wire.server.do("ip", "link", "delete", cable)
        assert run.process.wait(live.PATIENCE) == 1, run
    assert run.err.count("is gone: it was deleted, or moved to another namespace") == 1, run
    assert "Traceback" not in run.err


@kinds
def test_link_lost_and_back_is_reported_and_the_run_goes_on(wire, tmp_path, app, kind):
    with live.running(wire.server, tmp_path / "run", app, *kind) as run:
        answer(wire, b"x" * 11)
        run.until(lambda: "11" in run.lines)
        wire.server.do("ip", "link", "set", live.INTERFACE, "down")
        run.until(lambda: "s0 is down" in run.err)
        assert run.process.poll() is None
        wire.server.do("ip", "link", "set", live.INTERFACE, "up")
        run.until(lambda: "s0 is up again" in run.err)
        answer(wire, b"x" * 22)
        run.until(lambda: "22" in run.lines)
        assert run.until_settled().unaccounted == 0
        assert run.end() == 0
    assert run.err.count("s0 is down") == run.err.count("s0 is up again") == 1, run


def answer(wire, data):
    """One connection that says this."""
    with wire.server.listen(live.SERVER, 7000) as listener:
        with wire.connect(7000) as end:
            end.sendall(data)
        listener.accept()[0].close()


def test_interface_that_is_down_at_the_start_is_reported_and_watched(wire, tmp_path, app):
    with spare(wire.server) as cable:
        wire.server.do("ip", "link", "set", cable, "down")
        with live.running(wire.server, tmp_path / "run", app, interface=cable) as run:
            run.until(lambda: f"{cable} is down" in run.err)
            wire.server.do("ip", "link", "set", cable, "up")
            run.until(lambda: f"{cable} is up again" in run.err)
            assert run.end() == 0


def test_interface_that_is_down_is_no_place_for_two_workers_where_the_kernel_says_so(
    wire, tmp_path, app
):
    """Kernels differ: what matters is that it works, or is refused in one line."""
    with spare(wire.server) as cable:
        wire.server.do("ip", "link", "set", cable, "down")
        with live.started(wire.server, tmp_path / "run", app, "-i", cable, "--workers", 2) as run:
            live.until(lambda: "listening on" in run.err or run.process.poll() is not None)
            if run.process.poll() is None:
                assert run.end() == 0
            else:
                assert run.process.returncode == 2
                assert "is down, set it up first" in run.err
                assert len(run.err.splitlines()) == 1
