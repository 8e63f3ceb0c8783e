"""Real work in flight holds the capture clock of ReplayLoop; all other waiting does not.

The driver is a capture of many frames that plays in a few milliseconds when nothing holds it, and
real work takes longer than that: a clock that is not held is seen at the end of the capture.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiomos._replay_loop import ReplayLoop

FRAMES = 2000  # one a millisecond of capture time
SLOW = 0.05  # seconds of real time that a piece of work takes: longer than the whole capture

Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """A test that hangs fails after a minute of real time."""

    def expire(*_: object) -> None:
        raise AssertionError("the test hangs")

    previous = signal.signal(signal.SIGALRM, expire)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


class Ticks:
    """A capture of `FRAMES` frames that wake nobody, except those in `calls`, by number."""

    def __init__(self) -> None:
        self.loop: ReplayLoop
        self.now = 0
        self.played = 0
        self.waiters = 0
        self.calls: dict[int, Callable[[], object]] = {}

    def now_ns(self) -> int:
        return self.now

    def fire_next(self, limit_ns: int | None) -> bool:
        return False

    def set_now(self, ns: int) -> None:
        self.now = ns

    def foreign_waiters(self) -> int:
        return self.waiters

    def advance(self, limit_ns: int | None) -> bool:
        start = self.played
        while self.played < FRAMES and not (self.played > start and self.loop.has_ready()):
            next_ns = (self.played + 1) * 1_000_000
            due_ns = self.loop.next_due_ns()
            if due_ns is not None and due_ns <= next_ns:
                self.now = due_ns
                return True
            self.now = next_ns
            self.played += 1
            self.calls.pop(self.played, lambda: None)()
        return self.played > start


def run(
    main: Callable[[ReplayLoop, Ticks], Coroutine[Any, Any, Any]], *, patience: float = 30.0
) -> Any:
    driver = Ticks()

    def make() -> ReplayLoop:
        driver.loop = ReplayLoop(driver, io_patience=patience)
        return driver.loop

    with asyncio.Runner(loop_factory=make) as runner:
        return runner.run(main(runner.get_loop(), driver))  # type: ignore[arg-type]


def assert_held(main: Callable[[ReplayLoop], Coroutine[Any, Any, Any]]) -> None:
    """Run `main`: it does real work, during which capture time must stand still."""

    async def outer(loop: ReplayLoop, driver: Ticks) -> None:
        await asyncio.sleep(0.1)
        before = driver.now
        await main(loop)
        assert driver.now == before
        assert driver.played < FRAMES
        assert loop.stats.patience_expired == 0
        await asyncio.sleep(0.1)
        assert driver.now == before + 100_000_000  # nothing holds any more
        assert loop.in_flight.held_for(lambda: True) is None

    run(outer)


def assert_free(
    main: Callable[[ReplayLoop], Coroutine[Any, Any, list[Callable[[], object]]]],
) -> None:
    """Run `main`, then the capture to its end without a wait; then call what `main` returned."""

    async def outer(loop: ReplayLoop, driver: Ticks) -> None:
        cleanup = await main(loop)
        await asyncio.sleep(0.1)
        end = loop.create_future()
        driver.calls[FRAMES] = lambda: end.done() or end.set_result(None)
        blocks = loop.stats.blocks
        await end
        assert loop.stats.blocks == blocks
        assert loop.stats.patience_expired == 0
        for call in cleanup:
            call()
        await asyncio.sleep(0.1)

    run(outer)


@contextlib.contextmanager
def serving(server: Server, **options: Any) -> Iterator[int]:
    """A stream server on an ordinary loop in a thread; gives its port on the loopback."""
    started = threading.Event()
    state: dict[str, Any] = {}
    served: dict[Any, asyncio.StreamWriter] = {}

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served[asyncio.current_task()] = writer
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await server(reader, writer)
        writer.close()

    async def serve() -> None:
        state["loop"], state["stop"] = asyncio.get_running_loop(), asyncio.Event()
        listener = await asyncio.start_server(accepted, "127.0.0.1", 0, **options)
        state["port"] = listener.sockets[0].getsockname()[1]
        started.set()
        await state["stop"].wait()
        for _ in range(10):  # what has connected by now is accepted in one of these iterations
            await asyncio.sleep(0)
        listener.close()
        for writer in served.values():
            with contextlib.suppress(AttributeError):  # TLS before 3.11.4: already gone
                writer.transport.abort()
        await asyncio.gather(*served)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    started.wait()
    try:
        yield state["port"]
    finally:
        state["loop"].call_soon_threadsafe(state["stop"].set)
        thread.join()


async def slow_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each line in three pieces, slowly."""
    while line := await reader.readline():
        for piece in (b"you ", b"said ", line):
            await asyncio.sleep(SLOW)
            writer.write(piece)


async def push(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greets, then answers lines, as a server with subscriptions."""
    writer.write(b"hello\n")
    while line := await reader.readline():
        await asyncio.sleep(SLOW)
        writer.write(line)


# -- calls


@pytest.mark.parametrize(
    "call",
    [
        lambda loop: loop.run_in_executor(None, time.sleep, SLOW),
        lambda loop: asyncio.to_thread(time.sleep, SLOW),
        lambda loop: asyncio.gather(*(asyncio.to_thread(time.sleep, SLOW) for _ in range(3))),
        lambda loop: asyncio.wait_for(asyncio.to_thread(time.sleep, SLOW), timeout=0.5),
    ],
)
def test_job_in_a_thread_holds(call: Callable[[ReplayLoop], Awaitable[object]]) -> None:
    async def main(loop: ReplayLoop) -> None:
        await call(loop)

    assert_held(main)


def test_name_lookup_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = socket.getaddrinfo

    def slow(*args: Any, **kwargs: Any) -> Any:
        time.sleep(SLOW)
        return plain(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slow)

    async def main(loop: ReplayLoop) -> None:
        assert await loop.getaddrinfo("127.0.0.1", 80)

    assert_held(main)


def test_socket_operations_hold() -> None:
    async def main(loop: ReplayLoop) -> None:
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", port))
            await loop.sock_sendall(sock, b"x\n")
            received = b""
            while not received.endswith(b"\n"):
                received += await loop.sock_recv(sock, 100)
            assert received == b"you said x\n"

    with serving(slow_echo) as port:
        assert_held(main)


def test_socket_accept_does_not_hold() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)

    async def main(loop: ReplayLoop) -> list[Callable[[], object]]:
        return [asyncio.create_task(loop.sock_accept(listener)).cancel]

    with listener:
        assert_free(main)


@pytest.mark.parametrize("read", [True, False])
def test_subprocess_waited_for_holds(read: bool) -> None:
    code = f"import time; time.sleep({SLOW}); print('done')"

    async def main(loop: ReplayLoop) -> None:
        pipe = subprocess.PIPE if read else None
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=pipe)
        if read:
            assert await child.communicate() == (b"done\n", None)
        else:
            assert await child.wait() == 0

    assert_held(main)


def test_subprocess_nobody_waits_for_does_not_hold() -> None:
    async def main(loop: ReplayLoop) -> list[Callable[[], object]]:
        child = await asyncio.create_subprocess_exec("sleep", "60")
        return [child.kill, lambda: asyncio.create_task(child.wait())]

    assert_free(main)


def test_block_of_a_library_counted_by_hand_holds() -> None:
    async def main(loop: ReplayLoop) -> None:
        done = loop.create_future()
        timer = threading.Timer(SLOW, loop.call_soon_threadsafe, [done.set_result, None])
        timer.start()
        with loop.in_flight.hold("query"):
            await done

    assert_held(main)


# -- connections


def test_stream_response_in_pieces_holds_to_its_end() -> None:
    async def main(loop: ReplayLoop) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(b"hi\n")
            assert await reader.readline() == b"you said hi\n"
        writer.close()

    with serving(slow_echo) as port:
        assert_held(main)


def test_stream_greeting_of_the_server_holds() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(SLOW)
        writer.write(b"hello\n")

    async def main(loop: ReplayLoop) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.readline() == b"hello\n"
        writer.close()

    with serving(greet) as port:
        assert_held(main)


def test_stream_of_a_unix_socket_holds(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    ready = threading.Event()

    def serve() -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            ready.set()
            peer = listener.accept()[0]
            peer.recv(100)
            time.sleep(SLOW)
            peer.sendall(b"answer\n")
            peer.close()

    async def main(loop: ReplayLoop) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"question\n")
        assert await reader.readline() == b"answer\n"
        writer.close()

    thread = threading.Thread(target=serve)
    thread.start()
    ready.wait()
    assert_held(main)
    thread.join()


class Echo(asyncio.Protocol):
    """A protocol of which nobody can see whether anyone waits; it asks when connected."""

    def __init__(self) -> None:
        self.answer = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hi\n")

    def data_received(self, data: bytes) -> None:
        if not self.answer.done():
            self.answer.set_result(data)


def test_unknown_protocol_holds_until_the_first_data_after_a_write() -> None:
    async def main(loop: ReplayLoop) -> None:
        transport, protocol = await loop.create_connection(Echo, "127.0.0.1", port)
        assert await protocol.answer
        protocol.answer = loop.create_future()
        transport.write(b"again\n")
        assert await protocol.answer
        transport.close()

    with serving(slow_echo) as port:
        assert_held(main)


def test_protocol_that_only_writes_does_not_hold() -> None:
    async def main(loop: ReplayLoop) -> list[Callable[[], object]]:
        transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
        transport.write(b"log line\n")
        return [transport.close]

    with serving(slow_echo) as port:
        assert_free(main)


def test_answered_connection_and_write_only_stream_do_not_hold() -> None:
    async def main(loop: ReplayLoop) -> list[Callable[[], object]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hi\n")
        assert await reader.readline() == b"you said hi\n"
        other = await asyncio.open_connection("127.0.0.1", port)
        other[1].write(b"log line\n")
        await asyncio.sleep(0.1)
        idle = asyncio.create_task(reader.readline())  # for what it did not ask for
        return [idle.cancel, writer.close, other[1].close]

    with serving(slow_echo) as port:
        assert_free(main)


def test_subscription_costs_its_patience_once_but_its_requests_hold() -> None:
    got: list[bytes] = []

    async def listen(reader: asyncio.StreamReader) -> None:
        async for line in reader:
            got.append(line)

    async def main(loop: ReplayLoop, driver: Ticks) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"subscribe\n")
        task = asyncio.create_task(listen(reader))
        await asyncio.sleep(0.5)
        assert got == [b"hello\n", b"subscribe\n"]
        assert loop.stats.patience_expired == 1
        for index in range(3):  # the listener waits all the time: answered by the first data
            await asyncio.sleep(0.1)
            before = driver.now
            writer.write(b"%d\n" % index)
            await asyncio.sleep(0.001)  # a timer cannot fire before the answer came
            assert driver.now == before + 1_000_000
            assert got[-1] == b"%d\n" % index
        assert loop.stats.patience_expired == 1
        task.cancel()
        writer.close()
        await asyncio.sleep(0.1)

    with serving(push) as port:
        run(main, patience=1.0)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is needed to make a certificate")
    pem = tmp_path_factory.mktemp("tls") / "certificate.pem"
    make = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -out {pem}"
    subprocess.run([*shlex.split(make), "-keyout", f"{pem}.key"], check=True, capture_output=True)
    return pem


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, f"{certificate}.key")
    return context


def client_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = False
    return context


def test_tls_handshake_and_response_hold(certificate: Path) -> None:
    async def main(loop: ReplayLoop) -> None:
        context = client_context(certificate)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(b"hi\n")
        assert await reader.readline() == b"you said hi\n"
        writer.close()
        await writer.wait_closed()

    with serving(slow_echo, ssl=server_context(certificate)) as port:
        assert_held(main)


def test_tls_closing_handshake_holds(certificate: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        peer = server_context(certificate).wrap_socket(listener.accept()[0], server_side=True)
        time.sleep(SLOW)
        with contextlib.suppress(OSError):
            peer.unwrap()
        peer.close()

    async def main(loop: ReplayLoop) -> None:
        address = listener.getsockname()
        _, writer = await asyncio.open_connection(*address, ssl=client_context(certificate))
        writer.close()
        await writer.wait_closed()

    thread = threading.Thread(target=serve)
    thread.start()
    assert_held(main)
    thread.join()
    listener.close()


def test_tls_handshake_of_an_accepted_connection_does_not_hold(certificate: Path) -> None:
    async def main(loop: ReplayLoop) -> list[Callable[[], object]]:
        accepted = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.set()
            with contextlib.suppress(ConnectionError):
                await writer.start_tls(server_context(certificate))

        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = socket.create_connection(listener.sockets[0].getsockname())
        await accepted.wait()
        return [client.close, listener.close]

    assert_free(main)


def test_stream_writer_that_waits_for_room_holds() -> None:
    size = 50_000_000  # more than the kernel takes

    async def sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(SLOW)
        await reader.readexactly(size)

    async def main(loop: ReplayLoop) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(bytes(size))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    with serving(sink) as port:
        assert_held(main)


async def resp_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As much of redis as a client needs: GET answers slowly, in pieces; all else says OK."""
    while header := await reader.readline():
        words = []
        for _ in range(int(header[1:])):
            size = int((await reader.readline())[1:])
            words.append((await reader.readexactly(size + 2))[:-2])
        if words[0] != b"GET":
            writer.write(b"+OK\r\n")
            continue
        for piece in (b"$5\r\n", b"va", b"lue\r\n"):
            await asyncio.sleep(SLOW)
            writer.write(piece)


def test_redis_client_request_holds() -> None:
    redis = pytest.importorskip("redis.asyncio")

    async def main(loop: ReplayLoop) -> None:
        async with redis.Redis(host="127.0.0.1", port=port, protocol=2) as client:
            assert await client.get("key") == b"value"
            assert await asyncio.gather(client.get("a"), client.get("b")) == [b"value"] * 2

    with serving(resp_server) as port:
        assert_held(main)


async def http_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers requests with a body that comes slowly, in pieces, then keeps the connection."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"content-length: 9" in head.lower():
            await reader.readexactly(9)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 30000\r\n\r\n")
        for _ in range(3):
            await asyncio.sleep(SLOW)
            writer.write(b"x" * 10_000)


def test_aiohttp_client_requests_hold() -> None:
    aiohttp = pytest.importorskip("aiohttp")

    async def body() -> Any:
        yield b"some"
        await asyncio.sleep(0)
        yield b"thing"

    async def main(loop: ReplayLoop) -> None:
        url = f"http://127.0.0.1:{port}/"
        async with aiohttp.ClientSession() as session:
            async with session.get(url) as response:
                assert await response.text() == "x" * 30_000
            headers = {"Content-Length": "9"}
            async with session.post(url, data=body(), headers=headers) as response:
                assert len(await response.read()) == 30_000

    with serving(http_server) as port:
        assert_held(main)


def test_aiohttp_websocket_holds_until_its_answer() -> None:
    aiohttp = pytest.importorskip("aiohttp")
    key = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

    async def websocket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        offered = head.lower().index(b"sec-websocket-key: ") + 19
        asked = head[offered:].split(b"\r\n")[0]
        accept = base64.b64encode(hashlib.sha1(asked + key).digest())
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n")
        writer.write(b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        for _ in range(2):
            await reader.readexactly(8)  # two bytes of header, four of mask, "hi"
            await asyncio.sleep(SLOW)
            writer.write(b"\x81\x02yo")
        await reader.read()

    async def main(loop: ReplayLoop) -> None:
        async with aiohttp.ClientSession() as session:
            socket = await session.ws_connect(f"http://127.0.0.1:{port}/", compress=0)
            for _ in range(2):
                await socket.send_str("hi")
                assert (await socket.receive()).data == "yo"
            socket._writer.transport.abort()

    with serving(websocket) as port:
        assert_held(main)


def test_anyio_stream_holds() -> None:
    anyio = pytest.importorskip("anyio")

    async def main(loop: ReplayLoop) -> None:
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"hi\n")
            received = b""
            while not received.endswith(b"\n"):
                received += await stream.receive()
            assert received == b"you said hi\n"

    with serving(slow_echo) as port:
        assert_held(main)


# -- what never holds


def test_datagram_endpoint_and_listener_do_not_hold() -> None:
    async def main(loop: ReplayLoop) -> list[Callable[[], object]]:
        endpoint = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        endpoint[0].sendto(b"question", ("127.0.0.1", 9))
        listener = await asyncio.start_server(slow_echo, "127.0.0.1", 0)
        return [endpoint[0].close, listener.close]

    assert_free(main)


def test_accepted_connection_that_waits_for_its_client_does_not_hold() -> None:
    async def main(loop: ReplayLoop) -> list[Callable[[], object]]:
        served = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            served.set()
            writer.write(b"hello\n")
            await reader.readline()
            writer.close()

        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = socket.create_connection(listener.sockets[0].getsockname())
        await served.wait()
        return [client.close, listener.close]

    assert_free(main)


def test_tasks_that_wait_for_each_other_do_not_hold() -> None:
    async def main(loop: ReplayLoop) -> list[Callable[[], object]]:
        event = asyncio.create_task(asyncio.Event().wait())
        queue = asyncio.create_task(asyncio.Queue[int]().get())
        return [event.cancel, queue.cancel]

    assert_free(main)


def unobserved_job(waiters: int) -> tuple[int, int]:
    """Start a job nobody waits for, then only sleep; gives (expired, frames seen meanwhile)."""

    async def main(loop: ReplayLoop, driver: Ticks) -> tuple[int, int]:
        gate = threading.Event()
        job = loop.run_in_executor(None, gate.wait)
        driver.waiters = waiters
        await asyncio.sleep(0.5)
        expired, played = loop.stats.patience_expired, driver.played
        gate.set()
        await job
        return expired, played

    result: tuple[int, int] = run(main, patience=SLOW)
    return result


def test_job_everybody_only_sleeps_does_not_hold() -> None:
    assert unobserved_job(waiters=0) == (0, 499)


def test_job_flow_task_waits_for_a_foreign_future_holds() -> None:
    assert unobserved_job(waiters=1)[0] == 1


def test_job_only_the_runners_own_task_waits_does_not_hold() -> None:
    async def main(loop: ReplayLoop, driver: Ticks) -> None:
        task = asyncio.current_task()
        assert task is not None
        loop.own_tasks.add(task)
        gate = threading.Event()
        end = loop.create_future()
        driver.calls[FRAMES] = lambda: end.set_result(None)
        job = loop.run_in_executor(None, gate.wait)
        await end
        gate.set()
        await job
        assert loop.stats.patience_expired == 0

    run(main, patience=SLOW)


def test_job_begun_during_an_advance_stops_the_capture_there() -> None:
    played: list[int] = []

    async def main(loop: ReplayLoop, driver: Ticks) -> None:
        end = loop.create_future()

        def frame() -> None:  # as a flow task, stepped by the driver, would do
            job = loop.run_in_executor(None, time.sleep, SLOW)
            job.add_done_callback(lambda _: played.append(driver.played))

        driver.calls[100] = frame
        driver.calls[FRAMES] = lambda: end.set_result(None)
        await end

    run(main)
    assert played == [100]


# -- patience


def test_patience_runs_out_is_counted_reported_once_and_never_holds_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = threading.Event()

    async def main(loop: ReplayLoop, driver: Ticks) -> None:
        job = loop.run_in_executor(None, gate.wait)
        event = asyncio.Event()
        for at in range(100, FRAMES, 100):
            driver.calls[at] = event.set
        for _ in range(5):
            await event.wait()
            event.clear()
        assert loop.stats.patience_expired == 1
        assert not job.done()
        before = driver.now
        await asyncio.to_thread(time.sleep, SLOW / 5)  # another operation has its own patience
        assert driver.now == before
        driver.calls[FRAMES] = gate.set
        await job
        assert loop.stats.patience_expired == 1

    with caplog.at_level(logging.WARNING):
        run(main, patience=20 * SLOW)
    reports = [record for record in caplog.records if record.name == "aiomos.replay"]
    assert len(reports) == 1
    assert "executor job" in reports[0].getMessage()


def test_connection_attempt_that_hangs_is_one_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    def stuck(*args: Any, **kwargs: Any) -> Any:
        gate.wait()
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", stuck)

    async def main(loop: ReplayLoop, driver: Ticks) -> None:
        driver.calls[FRAMES] = gate.set
        with pytest.raises(socket.gaierror):
            await asyncio.open_connection("name.invalid", 80)
        assert driver.played == FRAMES
        assert loop.stats.patience_expired == 1  # neither the look-up nor its job besides

    run(main, patience=SLOW)


def test_cancelled_wait_for_a_job_frees_the_clock() -> None:
    gate = threading.Event()

    async def main(loop: ReplayLoop, driver: Ticks) -> None:
        task = asyncio.create_task(asyncio.to_thread(gate.wait))
        await asyncio.sleep(0)
        task.cancel()
        end = loop.create_future()
        driver.calls[FRAMES] = lambda: end.set_result(None)
        await end
        gate.set()
        assert loop.stats.patience_expired == 0

    run(main)


def test_held_loop_sleeps_and_does_not_spin() -> None:
    async def main(loop: ReplayLoop, driver: Ticks) -> None:
        before = loop.stats
        await asyncio.to_thread(time.sleep, 4 * SLOW)
        after = loop.stats
        assert after.blocks - before.blocks <= 3
        assert after.polls - before.polls <= 10
        assert after.advances == before.advances

    run(main)


def test_task_that_never_waits_for_a_held_job_does_not_move_the_clock() -> None:
    async def main(loop: ReplayLoop, driver: Ticks) -> None:
        job = loop.run_in_executor(None, time.sleep, SLOW)
        other = asyncio.create_task(asyncio.wait([job]))
        while not job.done():
            await asyncio.sleep(0)
        await other
        assert driver.played == 0
        assert loop.stats.turn_limit == 0

    run(main)


def test_executor_shutdown_waits_for_its_threads() -> None:
    finished: list[bool] = []

    def job() -> None:
        time.sleep(2 * SLOW)
        finished.append(True)

    async def main(loop: ReplayLoop, driver: Ticks) -> ReplayLoop:
        loop.run_in_executor(None, job)
        return loop

    loop = run(main, patience=SLOW)
    assert finished == [True]
    assert loop.stats.patience_expired <= 1  # the job's; the shutdown has asyncio's own limit
