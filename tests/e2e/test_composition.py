"""Handlers beside what else runs on a loop: an HTTP client, Redis, a writer task, a control plane.

The examples of `examples/services` and `json_log.py`, against real servers on the loopback, in both
task modes: on capture time, and attached to loops of others.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import uvloop

sys.path.append(str(Path(__file__).parents[1]))
from kit import both_tasks

import aiomos
from aiomos import testing

aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is not installed")
from aiohttp import web  # noqa: E402 - behind the skip above

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE = 60  # real seconds within which a server of the loopback answers

pytestmark = both_tasks
every_loop = pytest.mark.parametrize("loop", ["capture time", "asyncio", "uvloop"])
LOOPS = {
    "capture time": testing.new_event_loop,
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def module(name):
    """An example, imported afresh."""
    spec = importlib.util.spec_from_file_location("example", EXAMPLES / name)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def example(name):
    """The app of an example."""
    return module(name).app


def serve(app, source, *, loop, tasks):
    """Runs an app on a loop of that kind; what it came to."""
    options = {"tasks": tasks, "linger": PATIENCE if loop != "capture time" else 1.0}

    async def main():
        async with aiomos.Engine(source, **options) as engine:
            return await engine.serve(app)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(main())


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# ---- an HTTP client ----------------------------------------------------------------------------


@pytest.fixture
def reputation(monkeypatch):
    """A service in a thread of its own that knows names; those that it was asked for."""
    asked, stop, ready = [], threading.Event(), threading.Event()
    port = free_port()

    async def answer(request):
        asked.append(request.match_info["name"])
        return web.Response(text="known to be " + request.match_info["name"].upper())

    async def main():
        site = web.Application()
        site.add_routes([web.get("/{name}", answer)])
        runner = web.AppRunner(site)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        ready.set()
        await asyncio.to_thread(stop.wait)
        await runner.cleanup()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert ready.wait(PATIENCE)
    monkeypatch.setenv("REPUTATION", f"http://127.0.0.1:{port}")
    yield asked
    stop.set()
    thread.join(PATIENCE)


@every_loop
def test_handlers_ask_an_http_service(loop, tasks, reputation, captures, capsys):
    app = example("services/reputation.py")
    summary = serve(app, captures / "http_demo.pcap", loop=loop, tasks=tasks)
    assert summary.handler_errors == 0
    assert sorted(reputation) == ["www.example.test", "www.example.test"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        "www.example.test known to be WWW.EXAMPLE.TEST"
    ] * 2


# ---- Redis -------------------------------------------------------------------------------------


@pytest.fixture
def store(monkeypatch):
    """A Redis server on the loopback, with nothing in it."""
    pytest.importorskip("redis", reason="redis-py is not installed")
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server (Debian package redis-server)")
    port = free_port()
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for(port)
        monkeypatch.setenv("REDIS", f"redis://127.0.0.1:{port}")
        yield
    finally:
        server.terminate()
        server.wait(PATIENCE)


def wait_for(port):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise RuntimeError("redis-server does not answer")


@every_loop
def test_handlers_remember_in_redis(loop, tasks, store, captures, capsys):
    capture, first_time = captures / "http_demo.pcap", []
    for _ in range(2):
        summary = serve(example("services/first_seen.py"), capture, loop=loop, tasks=tasks)
        assert summary.handler_errors == 0
        first_time.append(sorted(capsys.readouterr().out.splitlines()))
    before, after = first_time
    assert after == []
    assert before
    assert all("www.example.test for the first time" in line for line in before)


# ---- a queue to a writer task ------------------------------------------------------------------


@every_loop
def test_handlers_feed_a_writer_task(loop, tasks, captures, capsys):
    serve(example("json_log.py"), captures / "http_demo.pcap", loop=loop, tasks=tasks)
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    truth = json.loads((captures / "http_demo.truth.json").read_text())["connections"]
    assert sorted(record["client"] for record in records) == sorted(
        f"{c['src']}:{c['sport']}" for c in truth
    )
    assert {record["reason"] for record in records} == {"FIN"}


def test_writer_that_fails_ends_the_run_with_its_error(tasks, captures, monkeypatch):
    def full(line):
        raise OSError(errno.ENOSPC, "no space left")

    log = module("json_log.py")
    monkeypatch.setattr(log, "print", full, raising=False)
    with pytest.raises(ExceptionGroup) as failed:
        serve(log.app, captures / "http_demo.pcap", loop="capture time", tasks=tasks)
    assert failed.group_contains(OSError, match="no space")


# ---- an HTTP control plane ---------------------------------------------------------------------


def visits(port, *hosts):
    """A connection on which a client asks for pages of those hosts."""
    talk = testing.Conversation(client=("10.0.0.1", port)).handshake()
    for host in hosts:
        talk.data("client", b"GET /page HTTP/1.1\r\nHost: %s\r\n\r\n" % host)
    return talk.close()


class Feed:
    """A source of frames that stays open, on somebody else's loop."""

    def __init__(self, app, tasks):
        self.source = aiomos.MemorySource()
        self.engine = aiomos.Engine(self.source, tasks=tasks, linger=PATIENCE)
        self.app = app

    async def __aenter__(self):
        self.serving = asyncio.create_task(self.engine.serve(self.app))
        return self

    async def play(self, talk):
        for frame in talk.frames():
            self.source.push(frame.data, frame.time_ns)

    async def __aexit__(self, *error):
        self.source.finish()
        await self.serving


def fed(app, loop, tasks):
    return testing.engine(app, tasks=tasks) if loop == "capture time" else Feed(app, tasks)


async def comes_to(session, wanted):
    """The control plane says so, sooner or later."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):  # not there yet
                async with session.get("/hosts") as answer:
                    if await answer.json() == wanted:
                        return
            await asyncio.sleep(0.001)


@every_loop
def test_control_plane_is_asked_and_obeyed_while_traffic_flows(loop, tasks, monkeypatch, capsys):
    port = free_port()
    monkeypatch.setenv("CONTROL_PORT", str(port))
    app = example("services/control_plane.py")

    url = f"http://127.0.0.1:{port}"

    async def main():
        async with fed(app, loop, tasks) as feed, aiohttp.ClientSession(url) as session:
            await feed.play(visits(40000, b"a.example", b"b.example"))
            await comes_to(session, {"a.example": 1, "b.example": 1})
            async with session.put("/watched/b.example") as answer:
                assert answer.status == 204
            await feed.play(visits(40001, b"a.example", b"b.example"))
            await comes_to(session, {"a.example": 2, "b.example": 2})

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main())
    assert capsys.readouterr().out == "10.0.0.1 GET b.example /page\n"
