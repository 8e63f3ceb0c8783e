"""How live runs end, what they write, and which clock they keep."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1]))
import live
from kit import LOOPS

import aiomos
from aiomos._engine.interface import open_interface

HTTP_LOG = Path(__file__).parents[2] / "examples" / "http_log.py"
KINDS = [(), ("--workers", 2)]
kinds = pytest.mark.parametrize("kind", KINDS, ids=["alone", "two_workers"])

REASONS = """
import aiomos

app = aiomos.App()

@app.tcp("port 7000")
async def reason(flow):
    print("begun", flush=True)
    found = await flow.client.read()
    print(len(found), (await flow.closed()).name, flow.client.complete, flush=True)

@app.lifespan
async def life(app):
    yield
    print("lifespan over", flush=True)
"""
STUBBORN = """
import asyncio
import aiomos

app = aiomos.App()

@app.tcp("port 7000")
async def stays(flow):
    print("begun", flush=True)
    await flow.closed()
    print("closed", flush=True)
    await asyncio.sleep(3600)
"""
CLOCKS = """
import asyncio, time
import aiomos

app = aiomos.App()
began = time.monotonic()

def told(what, since, seconds):
    # Engine time is that of the packet which woke the handler: on a busy machine it was a while ago.
    passed = time.monotonic() - since
    print(what, "early" if passed < seconds / 2 else "late" if passed > 30 else "fine",
          flush=True)

@app.every(0.1)
async def often():
    print("every", flush=True)

@app.tcp("port 7000")
async def waits(flow):
    await flow.client.readexactly(5)
    since = time.monotonic()
    await flow.sleep(0.2)
    told("flow.sleep", since, 0.2)
    since = time.monotonic()
    await asyncio.sleep(0.2)
    told("asyncio.sleep", since, 0.2)
    for name, coroutine in [
        ("read", lambda: flow.client.read(1, timeout=0.2)),
        ("closed", lambda: flow.closed(timeout=0.2)),
        ("asyncio.timeout", lambda: limited(flow)),
    ]:
        since = time.monotonic()
        try:
            await coroutine()
        except TimeoutError:
            told(name, since, 0.2)
    print("done", flush=True)

async def limited(flow):
    async with asyncio.timeout(0.2):
        await flow.server.readexactly(1)
"""


@pytest.fixture
def listener(wire):
    with wire.server.listen(live.SERVER, 7000) as made:
        yield made


@pytest.fixture
def run_of(wire, tmp_path):
    """Starts a run of an app's text that is ready, with options."""
    runs = []

    def start(text, *args):
        path = tmp_path / "app.py"
        path.write_text(text)
        entered = live.running(wire.server, tmp_path / "run", path, *args)
        runs.append(entered)
        return entered.__enter__()

    yield start
    for entered in runs:
        entered.__exit__(None, None, None)


def summary(run):
    """What was received, processed, dropped; and the number of flows."""
    found = re.search(
        r"(\d+) packets received by filter\n(\d+) packets processed\n(\d+) packets dropped\n"
        r"(\d+) flows, ",
        run.err,
    )
    assert found, run
    return tuple(map(int, found.groups()))


# ---- signals ---------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_open_flows_end_with_shutdown_and_the_run_with_0(
    wire, listener, run_of, kind, number
):
    run = run_of(REASONS, *kind)
    with wire.connect(7000) as end:
        end.sendall(b"hello")
        run.until(lambda: "begun" in run.lines)
        run.until(lambda: run.total().flows == 1)
        run.until_settled()
        assert run.end(number) == 0
    assert "5 SHUTDOWN False" in run.lines
    assert run.lines.count("lifespan over") == (2 if kind else 1)
    received, processed, dropped, flows = summary(run)
    assert received == processed > 3
    assert (dropped, flows) == (0, 1)


@kinds
def test_second_sigint_ends_the_run_at_once(wire, listener, run_of, kind):
    run = run_of(STUBBORN, *kind, "--linger", 3000)
    with wire.connect(7000):
        run.until(lambda: "begun" in run.lines)
        run.send(signal.SIGINT)
        run.until(lambda: "closed" in run.lines)
        assert run.process.poll() is None
        assert run.end(signal.SIGINT) != 0
    assert "Traceback" not in run.err
    if kind:  # who was killed said nothing, but what it had counted outlives it
        received, processed, dropped, _ = summary(run)
        assert received == processed > 2
        assert dropped == 0


# ---- options that end or choose --------------------------------------------------------------


def test_count_of_packets_ends_a_live_run(wire, listener, run_of):
    run = run_of(REASONS, "-f", "tcp port 7000", "-c", 3)
    with wire.connect(7000) as end:
        end.sendall(b"hello")
        assert run.process.wait(live.PATIENCE) == 0
    assert summary(run) == (3, 3, 0, 1)


def test_filter_of_a_live_run_leaves_the_rest_out(wire, listener, run_of):
    run = run_of(REASONS, "-f", "tcp port 7000")
    with wire.server.listen(live.SERVER, 7001):
        for port in (7001, 7000):
            with wire.connect(port) as end:
                end.sendall(b"hello")
    run.until(lambda: run.total().processed >= 5)
    total = run.until_settled()
    assert total.filtered >= 4
    assert total.unaccounted == 0
    assert run.end() == 0
    received, processed, dropped, flows = summary(run)
    assert (received, dropped, flows) == (processed, 0, 1)


@pytest.mark.parametrize("offloads", [True, False], ids=["offloads", "no_offloads"])
@pytest.mark.parametrize("suffix", ["pcap", "pcapng"])
def test_capture_written_live_reads_as_the_run_did(wire, tmp_path, offloads, suffix):
    wire.offloads(on=offloads)
    path = tmp_path / f"written.{suffix}"
    arguments = ("-B", 64 << 10, "-w", path)
    with (
        live.nginx(wire.server, tmp_path),
        live.running(wire.server, tmp_path / "run", HTTP_LOG, *arguments) as run,
    ):
        live.load(wire, 200, connections=4)
        run.until_settled()
        assert run.end() == 0
    received, _, dropped, flows = summary(run)
    assert dropped == 0
    assert sum(" ms  " in line for line in run.lines) == 200, run
    replayed = subprocess.run(
        [sys.executable, "-m", "aiomos.cli", "run", HTTP_LOG, "-r", path, "--checksums", "off"],
        capture_output=True,
        text=True,
        timeout=live.PATIENCE,
    )
    assert replayed.returncode == 0
    assert sorted(untimed(replayed.stdout)) == sorted(untimed(run.out))
    assert f"{received} packets processed" in replayed.stderr
    assert f"{flows} flows, " in replayed.stderr
    assert packets_by_tcpdump(path) == received


def untimed(text):
    """Lines of the log without the time that the request took, which is stamped in ns or us."""
    return [re.sub(r"[\d.]+ ms", "ms", line) for line in text.splitlines()]


def packets_by_tcpdump(path):
    shown = subprocess.run(
        ["tcpdump", "-nr", path, "--count"], capture_output=True, text=True, timeout=live.PATIENCE
    )
    found = re.search(r"(\d+) packets?", shown.stdout + shown.stderr)
    assert found, shown
    return int(found[1])


# ---- the clock -------------------------------------------------------------------------------


@pytest.mark.parametrize("tasks", ["engine", "asyncio"])
@pytest.mark.parametrize("kind", [*KINDS, ("--receive-pump",)], ids=["alone", "workers", "pump"])
def test_no_packet_comes_time_goes_by_all_the_same(wire, listener, run_of, kind, tasks):
    run = run_of(CLOCKS, "--tasks", tasks, *kind)
    with wire.connect(7000) as end:
        end.sendall(b"hello")
        run.until(lambda: "done" in run.lines)
        ticks = run.lines.count("every")
        run.until(lambda: run.lines.count("every") > ticks + 2)
        assert run.end() == 0
    told = dict(line.split() for line in run.lines if " " in line)
    names = ("flow.sleep", "asyncio.sleep", "read", "closed", "asyncio.timeout")
    assert told == dict.fromkeys(names, "fine")


# ---- from programs ---------------------------------------------------------------------------


def speak(wire, listener, count=20):
    """So many short connections, from another thread."""

    def connections():
        for number in range(count):
            with wire.connect(7000) as end:
                end.sendall(b"x" * number)
            listener.accept()[0].close()

    thread = threading.Thread(target=connections)
    thread.start()
    return thread


def test_program_runs_an_app_on_an_interface_until_a_signal(wire, listener):
    found = []

    async def sizes(flow):
        found.append(len(await flow.client.read()))
        if len(found) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with wire.server.entered(), open_interface(live.INTERFACE) as source:
        thread = speak(wire, listener)
        summary = aiomos.run(sizes, source, filter="tcp port 7000")
        thread.join(live.PATIENCE)
    assert 0 in found
    assert summary.received >= summary.processed > 0
    assert (summary.dropped, summary.failed) == (0, False)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("tasks", ["engine", "asyncio"])
def test_engine_serves_an_interface_on_a_loop_that_does_other_things_too(
    wire, listener, loop, tasks
):
    found, beside = [], []

    async def other():
        while True:
            beside.append(1)
            await asyncio.sleep(0.01)

    async def main():
        thread = speak(wire, listener)
        work = asyncio.create_task(other())
        async with aiomos.Engine(source, filter="tcp port 7000", tasks=tasks) as engine:

            async def sizes(flow):
                found.append(len(await flow.client.read()))
                if len(found) == 20:
                    engine.stop()

            summary = await engine.serve(sizes)
        work.cancel()
        await asyncio.to_thread(thread.join, live.PATIENCE)
        return summary

    with (
        wire.server.entered(),
        open_interface(live.INTERFACE) as source,
        asyncio.Runner(loop_factory=LOOPS[loop]) as runner,
    ):
        summary = runner.run(main())
    assert sorted(found) == list(range(20))
    assert beside
    assert summary.counters["flows"] == 20
    assert summary.dropped == 0
