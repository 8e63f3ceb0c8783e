"""Inside a handler asyncio works as in any task, on the clock of the capture."""

from __future__ import annotations

import asyncio
import contextvars
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
import uvloop
from kit import Notes, both_tasks, play, tape_of, whole
from readings import noting

import aiomos

pytestmark = [both_tasks, pytest.mark.replay_loop]


def slow(t):
    """A word a second, on both sides."""
    t.handshake()
    for n in range(5):
        t.c(b"c%d\n" % n)
        t.s(b"s%d\n" % n)
        t.rest(1)
    t.close()


def handled(handler, *scripts, tasks, **options):
    notes = Notes()
    notes.summary = play(noting(handler, notes), *(scripts or [slow]), tasks=tasks, **options)
    return notes


# ---- the clock of the capture -----------------------------------------------------------------


def test_sleep_takes_capture_time_and_no_real_time(tasks):
    async def handler(flow, notes):
        loop = asyncio.get_running_loop()
        before = loop.time()
        await asyncio.sleep(3)
        notes.append(round(loop.time() - before, 6))
        notes.append(flow.client.buffered)

    began = time.monotonic()
    # One frame a burst: the handler begins with the handshake, not up to a burst later.
    notes = handled(handler, tasks=tasks, burst=1)
    assert notes[0] == 3.0
    assert notes[1] == 9  # words at 3, 1005 and 2007 ms; it slept from 2 to 3002 ms
    assert time.monotonic() - began < 2


def test_timeout_fires_on_capture_time(tasks):
    async def handler(flow, notes):
        loop = asyncio.get_running_loop()
        begin = loop.time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5):
                await flow.client.readexactly(1000)
        notes.append(round(loop.time() - begin, 6))
        notes.append(await flow.client.readline())

    assert handled(handler, tasks=tasks, burst=1) == [2.5, b"c0\n"]


def test_timeout_that_is_not_reached_changes_nothing(tasks):
    async def handler(flow, notes):
        async with asyncio.timeout(3):
            notes.append(await flow.client.readexactly(6))
        notes.append(await flow.client.readline())
        notes.append(asyncio.current_task().cancelling())

    assert handled(handler, tasks=tasks, burst=1) == [b"c0\nc1\n", b"c2\n", 0]


def test_wait_for_cancels_the_read_and_reading_goes_on(tasks):
    async def handler(flow, notes):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(flow.client.readexactly(1000), 1.5)
        notes.append(await flow.client.read())

    assert handled(handler, tasks=tasks, burst=1) == [b"c0\nc1\nc2\nc3\nc4\n"]


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.7, 1 / 3])
def test_sleeping_up_to_a_deadline_reaches_it(tasks, seconds):
    """What is left to sleep may be less than the nanosecond that the clock counts in."""

    async def handler(flow, notes):
        loop = asyncio.get_running_loop()
        await flow.closed()
        deadline = loop.time() + seconds
        while (left := deadline - loop.time()) > 0:
            await asyncio.sleep(left)
        notes.append(loop.time() - deadline < 1e-6)

    assert handled(handler, tasks=tasks) == [True]


def test_timer_beyond_the_end_of_the_capture_runs_within_the_linger(tasks):
    async def handler(flow, notes):
        await flow.closed()
        await asyncio.sleep(0.5)
        notes.append("slept")

    assert handled(handler, tasks=tasks) == ["slept"]


def test_handler_that_outstays_the_linger_is_cancelled(tasks):
    async def handler(flow, notes):
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            notes.append("cancelled")
            raise

    assert handled(handler, tasks=tasks, linger=0.1) == ["cancelled"]


# ---- tasks -------------------------------------------------------------------------------------


def test_task_group_children_read_both_sides(tasks):
    async def handler(flow, notes):
        async def read(end):
            async for line in end:
                notes.append(line)

        async with asyncio.TaskGroup() as group:
            group.create_task(read(flow.client))
            group.create_task(read(flow.server))
        notes.append("joined")

    notes = handled(handler, tasks=tasks, burst=1)
    assert notes[-1] == "joined"
    assert notes[:-1] == [b"%c%d\n" % (side, n) for n in range(5) for side in b"cs"]


def test_task_group_child_that_fails_cancels_the_read_of_the_other(tasks):
    async def handler(flow, notes):
        async def fail():
            await asyncio.sleep(1.5)
            raise LookupError

        async def read():
            try:
                await flow.client.readexactly(1000)
            except asyncio.CancelledError:
                notes.append("read cancelled")
                raise

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                group.create_task(read())
                await flow.server.readexactly(1000)
        except* LookupError:
            notes.append("failed")
        notes.append(await flow.client.readline())

    assert handled(handler, tasks=tasks, burst=1) == ["read cancelled", "failed", b"c0\n"]


def test_gather_reads_both_sides(tasks):
    async def handler(flow, notes):
        notes.extend(await asyncio.gather(flow.client.read(3), flow.server.read(3)))

    assert handled(handler, tasks=tasks, burst=1) == [b"c0\n", b"s0\n"]


def test_shield_lets_a_read_go_on(tasks):
    async def handler(flow, notes):
        reading = asyncio.ensure_future(flow.client.readexactly(6))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await asyncio.shield(reading)
        notes.append(await reading)

    assert handled(handler, tasks=tasks, burst=1) == [b"c0\nc1\n"]


def test_current_task_is_one_task_throughout(tasks):
    async def handler(flow, notes):
        task = asyncio.current_task()
        await flow.client.read(1)
        notes.append(asyncio.current_task() is task)
        await asyncio.sleep(0.1)
        notes.append(asyncio.current_task() is task)
        notes.append(task in asyncio.all_tasks())
        notes.append(task.get_coro().cr_code.co_name)

    assert handled(handler, tasks=tasks) == [True, True, True, "run"]


def test_context_variables_of_two_handlers_are_their_own(tasks):
    variable = contextvars.ContextVar("variable", default=None)

    async def handler(flow, notes):
        before = variable.get()
        variable.set(flow.client.port)
        await flow.client.read()
        await asyncio.sleep(0)
        notes.append((before, variable.get() == flow.client.port))

    assert handled(handler, slow, slow, tasks=tasks) == [(None, True), (None, True)]


def test_foreign_future_wakes_the_handler(tasks):
    async def handler(flow, notes):
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_later(2.0, future.set_result, "done")
        notes.append(await future)
        notes.append(await flow.client.readexactly(3))

    assert handled(handler, tasks=tasks, burst=1) == ["done", b"c0\n"]


def test_two_handlers_talk_through_a_queue_and_an_event(tasks):
    queue = asyncio.Queue()

    async def handler(flow, notes):
        if flow.client.port == 40000:
            for _ in range(3):
                await queue.put(await flow.client.readline())
            await queue.put(None)
        else:
            while line := await queue.get():
                notes.append(line)

    assert handled(handler, slow, slow, tasks=tasks) == [b"c0\n", b"c1\n", b"c2\n"]


def test_thread_holds_the_capture_until_it_is_done(tasks):
    async def handler(flow, notes):
        loop = asyncio.get_running_loop()
        await flow.client.readline()
        before, seen = loop.time(), flow.client.buffered
        notes.append(await asyncio.to_thread(lambda: time.sleep(0.2) or "done"))
        notes.append((loop.time() - before, flow.client.buffered - seen))

    assert handled(handler, tasks=tasks, burst=1) == ["done", (0.0, 0)]


# ---- clients of real servers -------------------------------------------------------------------


@pytest.fixture
def web_server():
    """An aiohttp server in a thread of its own; its port."""
    web = pytest.importorskip("aiohttp.web", reason="aiohttp is not installed")
    ready = threading.Event()
    found = {}

    async def answer(request):
        await asyncio.sleep(0.1)
        return web.Response(text="hello " + request.query["name"])

    async def serve():
        app = web.Application()
        app.router.add_get("/", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        found["port"] = site._server.sockets[0].getsockname()[1]
        found["loop"], found["stop"] = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await found["stop"].wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(10)
    yield found["port"]
    found["loop"].call_soon_threadsafe(found["stop"].set)
    thread.join(10)


@pytest.fixture(scope="module")
def redis_server():
    """A Redis server on the loopback; its port."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server (Debian package redis-server)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
    server = subprocess.Popen([program, "--port", str(port), *arguments], stdout=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield port
    finally:
        server.terminate()
        server.wait(10)


def wait_for_port(port):
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("redis-server does not answer")


def test_aiohttp_client_holds_the_capture_clock_during_the_call(tasks, web_server):
    aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is not installed")

    async def handler(flow, notes):
        loop = asyncio.get_running_loop()
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for _ in range(2):
                name = (await flow.client.readline()).decode().strip()
                before, seen = loop.time(), flow.client.buffered
                url = f"http://127.0.0.1:{web_server}/?name={name}"
                async with session.get(url) as response:
                    notes.append(await response.text())
                notes.append((round(loop.time() - before, 6), flow.client.buffered - seen))

    found = handled(handler, tasks=tasks, burst=1)
    assert found == ["hello c0", (0.0, 0), "hello c1", (0.0, 0)]
    assert found.summary.io_expired == 0


def test_operation_beyond_the_patience_is_counted_and_the_capture_goes_on(tasks, web_server):
    aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is not installed")

    async def handler(flow, notes):
        url = f"http://127.0.0.1:{web_server}/?name=a"
        timeout = aiohttp.ClientTimeout(total=None)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url) as response,
        ):
            notes.append(await response.text())

    found = handled(handler, tasks=tasks, burst=1, io_patience=0.02, linger=0)
    assert found.summary.io_expired >= 1


def test_redis_client_works_as_in_any_task(tasks, redis_server):
    redis = pytest.importorskip("redis.asyncio", reason="redis-py is not installed")

    async def handler(flow, notes):
        loop = asyncio.get_running_loop()
        async with redis.Redis(port=redis_server) as client:
            async for line in flow.client.lines():
                before = loop.time()
                await client.rpush("lines", line)
                notes.append(round(loop.time() - before, 6))
            notes.append(await client.lrange("lines", 0, -1))
            await client.delete("lines")

    notes = handled(handler, tasks=tasks, burst=1)
    assert notes == [0.0] * 5 + [[b"c0", b"c1", b"c2", b"c3", b"c4"]]


def test_name_look_up_and_stream_connection_hold_the_clock(tasks, web_server):
    async def handler(flow, notes):
        loop = asyncio.get_running_loop()
        before = loop.time()
        reader, writer = await asyncio.open_connection("localhost", web_server)
        writer.write(b"GET /?name=me HTTP/1.0\r\n\r\n")
        notes.append((await reader.read()).rpartition(b"\r\n")[2])
        writer.close()
        notes.append(round(loop.time() - before, 6))

    assert handled(handler, whole(b"abc"), tasks=tasks) == [b"hello me", 0.0]


# ---- attached to a loop that runs already ------------------------------------------------------


LOOPS = (
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(uvloop.new_event_loop, id="uvloop"),
)


@pytest.mark.parametrize("new_loop", LOOPS)
def test_engine_serves_on_a_loop_that_runs_already(tasks, new_loop):
    notes, ticks = [], []

    async def handler(flow):
        notes.append(await asyncio.gather(flow.client.read(), flow.server.read()))
        notes.append(await flow.closed())

    async def tick():
        while True:
            ticks.append(1)
            await asyncio.sleep(0)

    async def main():
        beside = asyncio.create_task(tick())
        async with aiomos.Engine(tape_of(slow).source(), tasks=tasks, burst=1) as engine:
            summary = await engine.serve(handler)
        beside.cancel()
        return summary

    with asyncio.Runner(loop_factory=new_loop) as runner:
        summary = runner.run(main())
    assert notes == [[b"c0\nc1\nc2\nc3\nc4\n", b"s0\ns1\ns2\ns3\ns4\n"], "FIN"]
    assert summary.received == 16
    assert len(ticks) > 5


@pytest.mark.parametrize("new_loop", LOOPS)
def test_engine_on_another_loop_opens_and_closes_a_file(tasks, new_loop, tmp_path):
    path = tape_of(whole(b"abc")).write(tmp_path / "a.pcap")
    notes = []

    async def handler(flow):
        notes.append(await flow.client.read())

    async def main():
        async with aiomos.Engine(path, tasks=tasks) as engine:
            await engine.serve(handler)
            with pytest.raises(aiomos.ConfigError, match="once"):
                await engine.serve(handler)
        assert engine.source.closed

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    assert notes == [b"abc"]


@pytest.mark.parametrize("new_loop", LOOPS)
def test_replay_inside_another_loop_runs_on_capture_time(tasks, new_loop, tmp_path):
    path = tape_of(slow).write(tmp_path / "a.pcap")
    notes = []

    async def handler(flow):
        loop = asyncio.get_running_loop()
        before = loop.time()
        await asyncio.sleep(2)
        notes.append(round(loop.time() - before, 6))
        notes.append(await flow.client.readline())

    async def main():
        ticking = asyncio.create_task(asyncio.sleep(0.01, "ticked"))
        summary = await aiomos.replay(handler, path, tasks=tasks, burst=1)
        return summary, await ticking

    with asyncio.Runner(loop_factory=new_loop) as runner:
        summary, ticked = runner.run(main())
    assert notes == [2.0, b"c0\n"]
    assert (summary.received, ticked) == (16, "ticked")


@pytest.mark.flow_order
def test_handlers_are_stepped_in_the_order_of_their_first_wake_up(tasks):
    if tasks != "engine":
        pytest.skip("the order between flows is promised for the engine's own tasks only")
    order = []

    async def handler(flow, notes):
        port = flow.client.port
        while await flow.client.read(100):
            order.append(port)

    handled(handler, slow, slow, slow, tasks=tasks, burst=64)
    first_round = order[:3]
    assert first_round == [40000, 40001, 40002]
