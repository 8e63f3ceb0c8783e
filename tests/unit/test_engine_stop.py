"""How a run ends before its capture does: stop(), signals, cancellation; and runs of nothing."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from kit import both_tasks, play, tape_of, whole

import aiomos
from aiomos._replay_loop import ReplayLoop

#: Seconds for what takes a fraction of one, on a machine that does other things too.
PATIENCE = 30

both_loops = pytest.mark.parametrize("loop", [ReplayLoop, None], ids=["replay", "attached"])


def endless(t):
    """A connection that says "stop" early on, and goes on for long."""
    t.handshake()
    t.c(b"x" * 10)
    t.c(b"stop")
    for _ in range(2000):
        t.c(b"y" * 10)


def serve_until_stopped(handler, *scripts, loop, **options):
    """Runs `handler(flow, stop)` with an engine that it can stop; the summary."""

    async def main():
        engine = aiomos.Engine(tape_of(*scripts).source(), burst=1, **options)

        async def run(flow):
            await handler(flow, engine.stop)

        return await engine.serve(run)

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main())


# ---- stop() --------------------------------------------


@both_tasks
@both_loops
def test_handler_reads_stop_called_it_sees_shutdown_and_its_finally_runs(tasks, loop):
    notes = []

    async def handler(flow, stop):
        try:
            while data := await flow.client.read(100):
                if b"stop" in data:
                    stop()
            notes.append(flow.close_reason)
        finally:
            notes.append("finally")

    summary = serve_until_stopped(handler, endless, loop=loop, tasks=tasks)
    assert notes == ["SHUTDOWN", "finally"]
    assert summary.received < 1000


@both_tasks
@both_loops
def test_other_handlers_wait_stop_called_each_sees_shutdown(tasks, loop):
    notes = []

    async def handler(flow, stop):
        if flow.id == 1:
            await flow.client.readexactly(14)
            stop()
        notes.append(await flow.closed())

    serve_until_stopped(handler, endless, endless, endless, loop=loop, tasks=tasks)
    assert notes == ["SHUTDOWN"] * 3


@both_tasks
@both_loops
@pytest.mark.parametrize("linger", [0.05, 0.0625])  # no whole number of ns is left of 0.05
def test_handler_stays_after_stop_linger_over_is_cancelled(tasks, loop, linger):
    notes = []

    async def handler(flow, stop):
        stop()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            notes.append("cancelled")
            raise

    serve_until_stopped(handler, whole(b"abc"), loop=loop, tasks=tasks, linger=linger)
    assert notes == ["cancelled"]


# ---- signals --------------------------------------------


@pytest.mark.replay_loop
@both_tasks
def test_replay_sigint_handlers_see_shutdown_and_their_finally_runs(tasks):
    notes = []

    async def handler(flow):
        try:
            await flow.client.readexactly(14)
            signal.raise_signal(signal.SIGINT)
            await flow.client.read()
            notes.append(flow.close_reason)
        finally:
            notes.append("finally")

    summary = play(handler, endless, tasks=tasks, burst=1)
    assert notes == ["SHUTDOWN", "finally"]
    assert summary.received < 1000


@both_tasks
def test_handler_raises_keyboard_interrupt_the_finally_of_all_runs(tasks):
    notes = []

    async def handler(flow):
        try:
            await flow.client.read(1)
            if flow.id == 2:
                raise KeyboardInterrupt
            await flow.client.read()
        finally:
            notes.append(flow.id)

    def script(t):
        t.handshake()
        t.c(b"hello")
        t.rest(5)
        t.close()

    with pytest.raises(KeyboardInterrupt):
        play(handler, *[script] * 4, tasks=tasks, burst=1)
    assert sorted(notes) == [1, 2, 3, 4]


APP = """
import aiomos

app = aiomos.App()


@app.tcp()
async def run(flow):
    try:
        print(await flow.client.read(3), flush=True)
        await flow.closed()
    finally:
        print(flow.close_reason, flush=True)
"""


@both_tasks
def test_command_waits_for_its_pipe_sigint_ends_it_in_order(tasks, tmp_path):
    app = tmp_path / "app.py"
    app.write_text(APP)

    def script(t):
        t.handshake()
        t.c(b"abc")

    capture = tape_of(script).write(tmp_path / "some.pcap").read_bytes()
    command = [sys.executable, "-m", "aiomos.cli", "run", app, "-r", "-", "--tasks", tasks]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        killer = threading.Timer(PATIENCE, process.kill)
        killer.start()
        try:
            process.stdin.write(capture)
            process.stdin.flush()
            assert process.stdout.readline() == b"b'abc'\n"
            time.sleep(0.2)  # by now it waits
            process.send_signal(signal.SIGINT)
            assert process.stdout.read() == b"SHUTDOWN\n"
            assert process.wait() >= 0
        finally:
            killer.cancel()
            process.kill()


# ---- cancellation --------------------------------------------

WAITS = {"read": lambda flow: flow.client.read(), "sleep": lambda flow: asyncio.sleep(3600)}


@both_tasks
@pytest.mark.parametrize("wait", WAITS)
def test_handler_waits_serve_cancelled_its_finally_runs(tasks, wait):
    notes = []

    async def main():
        source = aiomos.MemorySource()
        for frame in tape_of(endless).in_order()[:5]:
            source.push(*frame)
        engine = aiomos.Engine(source, tasks=tasks, linger=3600)
        started = asyncio.Event()

        async def handler(flow):
            started.set()
            try:
                await WAITS[wait](flow)
                notes.append("went on")
            finally:
                notes.append("finally")

        serving = asyncio.create_task(engine.serve(handler))
        await started.wait()
        await asyncio.sleep(0)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert notes == ["finally"]


@both_tasks
def test_replay_in_a_thread_cancelled_ends_the_thread_soon(tasks):
    app = aiomos.App()
    seen = []
    begun = threading.Event()

    @app.packet()
    def slow(packet):
        seen.append(1)
        begun.set()
        time.sleep(0.005)

    @app.tcp()
    async def run(flow):
        await flow.client.read()

    source = tape_of(endless).source()

    async def main():
        replaying = asyncio.create_task(aiomos.replay(app, source, tasks=tasks))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        replaying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await replaying

    asyncio.run(main())  # joins the thread
    assert len(seen) < 1000


# ---- the end itself --------------------------------------------


@both_tasks
def test_budget_of_one_capture_ends_all_handlers_finish(tasks):
    found = []

    async def handler(flow):
        found.append(await flow.client.read())

    summary = play(handler, *[whole(b"hello")] * 20, tasks=tasks, budget=1)
    assert found == [b"hello"] * 20
    assert summary.handler_errors == 0


@both_tasks
def test_source_of_no_frames_run_ends(tasks):
    async def handler(flow):
        pass

    assert aiomos.run(handler, aiomos.MemorySource([]), tasks=tasks).received == 0
