"""Two workers on one interface: every flow is one worker's, whole, whatever its frames look like."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import sys
import threading
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
import live

HTTP_DEMO = Path(__file__).parents[1] / "captures" / "http_demo.pcap"
RING = 64 << 10  # KiB
CONNECTIONS = 400 if live.FULL else 40
TUNNEL = ("192.0.3.10", "192.0.3.20")

#: Tells of every flow: the process, the client's port, digests of both sides, and how it ended.
WHOLE = """
import asyncio, hashlib, json, os
import aiomos

app = aiomos.App()

async def digest(end):
    made = hashlib.sha256()
    while data := await end.read(65536):
        made.update(data)
    return made.hexdigest()

@app.tcp("port 7000")
async def whole(flow):
    async with flow.scope() as group:
        sides = [group.create_task(digest(end)) for end in (flow.client, flow.server)]
    print(json.dumps({
        "pid": os.getpid(), "port": flow.client.port, "midstream": flow.midstream,
        "sides": [side.result() for side in sides], "end": (await flow.closed()).name,
    }), flush=True)

@app.udp("port 7001")
async def datagrams(flow):
    async for datagram in flow:
        print(json.dumps({
            "pid": os.getpid(), "port": flow.client.port, "sender": datagram.sender,
            "digest": hashlib.sha256(datagram.data).hexdigest(),
        }), flush=True)
"""


@pytest.fixture
def app(tmp_path):
    path = tmp_path / "whole.py"
    path.write_text(WHOLE)
    return path


@pytest.fixture
def two(wire, tmp_path, app):
    with live.running(wire.server, tmp_path / "run", app, "--workers", 2, "-B", RING) as run:
        yield run


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def converse(wire, address, count):
    """So many TCP connections, a few at a time; by port, the digests of what each end received."""
    told, truth = {}, {}
    with wire.server.listen(address, 7000) as listener:
        threads = []

        def answer():
            for number in range(count):
                end, (_, port) = listener.accept()
                thread = threading.Thread(target=serve, args=(end, port, number))
                thread.start()
                threads.append(thread)

        def serve(end, port, number):
            with end:
                heard = receive_all(end)
                said = os.urandom(1 + 977 * number)
                end.sendall(said)
                told[port] = [sha256(heard), sha256(said)]

        accepting = threading.Thread(target=answer)
        accepting.start()
        for number in range(count):
            with wire.client.tcp_socket(4) as end:
                end.settimeout(live.PATIENCE)
                end.connect((address, 7000))
                port, said = end.getsockname()[1], os.urandom(1 + 1301 * number)
                end.sendall(said)
                end.shutdown(socket.SHUT_WR)
                truth[port] = [sha256(said), sha256(receive_all(end))]
        accepting.join(live.PATIENCE)
        for thread in threads:
            thread.join(live.PATIENCE)
    assert told == truth  # of the two kernels
    return truth


def receive_all(end):
    found = bytearray()
    while data := end.recv(65536):
        found += data
    return bytes(found)


def told_flows(run):
    return [json.loads(line) for line in run.lines]


def assert_whole(run, truth):
    """Each flow was told of once, by one process, with the bytes that the kernels saw."""
    flows = told_flows(run)
    assert {flow["port"]: flow["sides"] for flow in flows} == truth
    assert len(flows) == len(truth)
    assert all(flow["end"] == "FIN" and not flow["midstream"] for flow in flows)
    assert len({flow["pid"] for flow in flows}) == 2  # both had work


def assert_adds_up(run):
    """What the statistics say, as a sum of all workers."""
    run.until_settled()
    workers = run.workers()
    assert [worker.unaccounted for worker in workers] == [0, 0]
    assert all(worker.dropped == 0 for worker in workers)
    assert sum(worker.counters["wrong_core_lost"] for worker in workers) == 0
    return workers


def test_two_workers_connections_are_whole_on_one_of_them(wire, two):
    truth = converse(wire, live.SERVER, CONNECTIONS)
    two.until(lambda: len(two.lines) >= len(truth))
    assert_whole(two, truth)
    workers = assert_adds_up(two)
    assert all(worker.processed > 0 and worker.handed_over == 0 for worker in workers)
    assert two.end() == 0


@pytest.fixture
def tunnel(wire):
    """A VXLAN between the hosts: the kernel's hash sees one pair of ports for all that is in it."""
    ends = (live.CLIENT, live.SERVER)
    spaces = (wire.client, wire.server)
    made = []
    for space, own, other, address, cable in zip(
        spaces, ends, reversed(ends), TUNNEL, ("c0", "s0"), strict=True
    ):
        link = ("ip", "link", "add", "x0", "type", "vxlan", "id", "42", "dstport", "4789")
        space.do(*link, "local", own, "remote", other, "dev", cable, "srcport", "50000", "50001")
        space.do("ip", "address", "add", f"{address}/24", "dev", "x0")
        space.do("ip", "link", "set", "x0", "up")
        made.append(space)
    yield TUNNEL[1]
    for space in made:
        space.do("ip", "link", "delete", "x0")


def test_two_workers_flows_in_a_tunnel_are_handed_over_and_whole(wire, tunnel, two):
    """Row 34: the kernel's hash sees the tunnel only, so the frames of most flows come to a worker
    that is not theirs; they are counted (wrong_core), handed over, and nothing is missing."""
    truth = converse(wire, tunnel, CONNECTIONS)
    two.until(lambda: len(two.lines) >= len(truth))
    assert_whole(two, truth)
    workers = assert_adds_up(two)
    assert sum(worker.counters["wrong_core"] for worker in workers) > 0
    assert sum(worker.handed_over for worker in workers) > 0
    two.until(lambda: "come to other workers than theirs" in two.err)
    assert two.end() == 0
    assert "packets handed over between workers" in two.err


def test_two_workers_fragmented_datagrams_meet_the_whole_ones_of_their_flow(wire, two):
    """Row 34: fragments go by addresses alone, since most have no ports; put together, the datagram
    goes to the worker that has the small ones of the same flow."""
    truth = set()
    with wire.server.entered():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with server:
        server.bind((live.SERVER, 7001))
        server.settimeout(live.PATIENCE)
        for number in range(20):
            with wire.client.entered():
                client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with client:
                client.settimeout(live.PATIENCE)
                client.connect((live.SERVER, 7001))
                port = client.getsockname()[1]
                for size in (100, 4_000, 9_000, 20):
                    said = os.urandom(size + number)
                    client.send(said)
                    heard, back = server.recvfrom(65536)
                    answer = heard[::-1]
                    server.sendto(answer, back)
                    assert client.recv(65536) == answer
                    truth |= {(port, "client", sha256(said)), (port, "server", sha256(answer))}
    two.until(lambda: len(two.lines) >= len(truth))
    flows = told_flows(two)
    assert {(flow["port"], flow["sender"], flow["digest"]) for flow in flows} == truth
    assert len(flows) == len(truth)
    ports = {(flow["port"], flow["pid"]) for flow in flows}
    assert len(ports) == 20  # a flow is one process's
    assert len({pid for _, pid in ports}) == 2
    workers = assert_adds_up(two)
    assert sum(worker.counters["rejoined"] for worker in workers) > 0
    assert two.end() == 0


# ---- descriptors -----------------------------------------------------------------------------


def allowed(soft, hard):
    """The program, where so many files may be open."""
    return ("prlimit", f"--nofile={soft}:{hard}", *live.AIOMOS)


def limit_of(pid):
    """Of open files: the soft and the hard one."""
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
        if line.startswith("Max open files"):
            return tuple(map(int, line.split()[3:5]))
    raise AssertionError


needs_prlimit = pytest.mark.skipif(shutil.which("prlimit") is None, reason="needs prlimit")
MANY = 6  # workers, of which the rings alone are 60 files


@needs_prlimit
def test_rings_are_more_files_than_are_allowed_the_limit_is_raised(wire, tmp_path, app):
    words = (app, "-i", live.INTERFACE, "--workers", MANY)
    program = allowed(64, 4096)
    with live.started(wire.server, tmp_path / "run", *words, program=program) as run:
        run.until_ready(live.INTERFACE)
        run.until(lambda: all(worker.pid for worker in run.workers()))
        for pid in (run.process.pid, *(worker.pid for worker in run.workers())):
            soft, hard = limit_of(pid)
            assert 64 + MANY * (MANY - 1) * 2 < soft < hard == 4096
            assert len(list(Path(f"/proc/{pid}/fd").iterdir())) <= soft - 64, "left for handlers"
        assert run.end() == 0


@needs_prlimit
@pytest.mark.parametrize(
    "words", [("-i", live.INTERFACE), ("-r", HTTP_DEMO)], ids=["rings", "none"]
)
def test_more_files_than_can_be_allowed_are_refused_before_a_worker_begins(
    wire, tmp_path, app, words
):
    app.write_text("print('begun', flush=True)\n" + app.read_text())
    run = live.started(
        wire.server, tmp_path / "run", app, *words, "--workers", MANY, program=allowed(48, 60)
    )
    with run as run:
        assert run.process.wait(live.PATIENCE) == 2, run
        (line,) = [line for line in run.err.splitlines() if " cores" not in line]
        assert f"aiomos: --workers {MANY}: needs " in line
        assert "60 are allowed: fewer workers, or, as root, ulimit -n " in line
        assert run.lines == []
