"""What befalls one worker, or one flow, is nobody else's business."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
import live

RING = 64 << 10  # KiB
TALKS = 12  # connections that are open all the time

#: Tells of each line of a client: the process, the client's port, and the line.
LINES = """
import json, os
import aiomos

app = aiomos.App()

@app.tcp("port 7000", on_gap="skip")
async def lines(flow):
    async for line in flow.client.lines():
        tell(flow, line.decode().strip())
    tell(flow, "end", reason=(await flow.closed()).name, complete=flow.client.complete)

def tell(flow, line, **more):
    print(json.dumps({"pid": os.getpid(), "port": flow.client.port, "line": line,
                      "midstream": flow.midstream, **more}), flush=True)
"""
STORM = (
    LINES
    + """
@app.tcp("port 7000", on_gap="skip")
async def raises(flow):
    async for line in flow.client.lines():
        if line.startswith(b"storm"):
            raise LookupError("by intent")

@app.packet("port 7000")
def always(packet):
    if b"storm" in bytes(packet):
        raise LookupError("by intent, for each packet")
"""
)


class Talks:
    """Connections of lines, which a server takes and says nothing to."""

    def __init__(self, wire, count):
        self.ends, self.said = [], {}
        with wire.server.listen(live.SERVER, 7000) as listener:
            for _ in range(count):
                client = wire.connect(7000)
                server = listener.accept()[0]
                threading.Thread(target=swallow, args=(server,), daemon=True).start()
                self.ends.append(client)
                self.said[client.getsockname()[1]] = []

    def say(self, *words):
        """Each client says a line of each of these words, with its own number."""
        for end in self.ends:
            port = end.getsockname()[1]
            for word in words:
                line = f"{word} {len(self.said[port])}"
                self.said[port].append(line)
                end.sendall(f"{line}\n".encode())

    def close(self):
        for end in self.ends:
            end.close()


def swallow(end):
    with end:
        while end.recv(65536):
            pass


class Told:
    """What the app has told so far."""

    def __init__(self, run):
        self.rows = [json.loads(line) for line in run.lines]

    def lines(self, port):
        return [row["line"] for row in self.rows if row["port"] == port and row["line"] != "end"]

    def pids(self, port):
        return list(dict.fromkeys(row["pid"] for row in self.rows if row["port"] == port))

    def ends(self):
        return [row for row in self.rows if row["line"] == "end"]


def until_told(run, said):
    """All lines of all have been read."""
    count = sum(len(lines) for lines in said.values())
    run.until(lambda: len(run.lines) >= count)
    return Told(run)


def start(wire, tmp_path, text, *args):
    path = tmp_path / "app.py"
    path.write_text(text)
    return live.running(wire.server, tmp_path / "run", path, "-B", RING, *args)


def test_worker_killed_its_successor_goes_on_and_the_other_one_notices_nothing(wire, tmp_path):
    """Row 46, on a tap: a worker is killed with -9 while its flows and those of the other one are
    open and talking."""
    with start(wire, tmp_path, LINES, "--workers", 2) as run:
        talks = Talks(wire, TALKS)
        talks.say("before", "before")
        before = until_told(run, talks.said)
        for port in talks.said:
            assert before.lines(port) == talks.said[port]
        victim, other = sorted({row["pid"] for row in before.rows})
        theirs = {port for port in talks.said if before.pids(port) == [victim]}
        run.until_settled()

        os.kill(victim, signal.SIGKILL)
        talks.say("meanwhile", "meanwhile")
        run.until(lambda: run.report()["restarts"] == 1)
        talks.say("after")
        told = until_told(run, talks.said)

        for port, said in talks.said.items():
            if port in theirs:
                assert told.lines(port) == said
                assert told.pids(port)[0] == victim
                assert len(told.pids(port)) == 2
                assert told.pids(port)[1] not in (victim, other)
            else:
                assert told.lines(port) == said
                assert told.pids(port) == [other]
        resumed = {row["port"] for row in told.rows if row["midstream"]}
        assert resumed == theirs
        talks.close()
        run.until(lambda: len(Told(run).ends()) == TALKS)
        assert {row["reason"] for row in Told(run).ends()} == {"FIN"}
        total = run.until_settled()
        assert [worker.unaccounted for worker in run.workers()] == [0, 0]
        assert run.shown()["restarts"] == 1
        assert total.counters["midstream"] == len(theirs)
        assert total.dropped == 0
        assert run.end() == 0
    assert "was killed by SIGKILL; another one in 0.1 s" in run.err


def test_handlers_raise_in_a_storm_other_flows_are_read(wire, tmp_path):
    """Row 46, on a tap: functions of the app raise again and again, in one flow of many."""
    with start(wire, tmp_path, STORM) as run:
        talks = Talks(wire, TALKS)
        stormy = wire.connect  # another connection, below
        with wire.server.listen(live.SERVER, 7000) as listener:
            end = stormy(7000)
            threading.Thread(target=swallow, args=(listener.accept()[0],), daemon=True).start()
        rounds = 100 if live.FULL else 20
        for number in range(rounds):
            end.sendall(f"storm {number}\n".encode())
            talks.say("calm")
        port = end.getsockname()[1]
        everything = talks.said | {port: [f"storm {number}" for number in range(rounds)]}
        told = until_told(run, everything)
        assert {which: told.lines(which) for which in everything} == everything
        end.close()
        talks.close()
        run.until(lambda: len(Told(run).ends()) == TALKS + 1)
        total = run.until_settled()
        assert total.handler_errors > rounds // 2  # segments may carry several lines
        assert (total.unaccounted, total.dropped) == (0, 0)
        assert run.end() == 0
    assert "handlers failed" in run.err


NEW = LINES.replace('"line": line,', '"line": line, "code": "new",')


@pytest.mark.parametrize("workers", [1, 2])
def test_app_reloaded_under_load_open_flows_stay_with_their_code(wire, tmp_path, workers):
    """Row 46, on a tap: the app is reloaded while flows talk; then what cannot be imported."""
    path = tmp_path / "app.py"
    with start(wire, tmp_path, LINES, "--workers", workers) as run:
        old = Talks(wire, TALKS)
        old.say("before")
        until_told(run, old.said)
        path.write_text(NEW)
        run.send(signal.SIGHUP)
        while run.err.count("reloaded: new flows are on new code") < workers:
            old.say("during")
            run.until(lambda: True)
        new = Talks(wire, TALKS)
        new.say("after")
        old.say("after")
        path.write_text("this is no Python\n")
        run.send(signal.SIGHUP)
        run.until(lambda: run.err.count("not reloaded, the old code goes on") == workers)
        last = Talks(wire, 4)
        for talks in (old, new, last):
            talks.say("last")
        said = old.said | new.said | last.said
        told = until_told(run, said)
        assert {port: told.lines(port) for port in said} == said
        code = {row["port"]: row.get("code", "old") for row in told.rows}
        assert {port for port in said if code[port] == "old"} == set(old.said)
        for talks in (old, new, last):
            talks.close()
        run.until(lambda: len(Told(run).ends()) == 2 * TALKS + 4)
        total = run.until_settled()
        assert (total.unaccounted, total.dropped, total.handler_errors) == (0, 0, 0)
        assert run.end() == 0


# ---- what a dead worker has counted --------------------------------------------------------------

BLOCKS = """
import os, time
import aiomos

app = aiomos.App()

@app.udp("port 7001")
async def datagrams(flow):
    async for datagram in flow:
        if datagram.data.startswith(b"block"):
            print(os.getpid(), flush=True)
            time.sleep(3600)
"""


def udp_socket(space, address):
    with space.entered():
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((address, 7001))
    return made


def test_worker_killed_rows_have_all_that_came_though_it_could_not_tell(wire, tmp_path):
    """It blocks, so that it answers nobody, and the kernel drops what it does not take; more is
    dropped between its death and its successor's first look."""
    path = tmp_path / "app.py"
    path.write_text(BLOCKS)
    words = ("-B", 64, "--workers", 2)
    with (
        udp_socket(wire.server, live.SERVER),  # else there were ICMP errors
        udp_socket(wire.client, live.CLIENT) as client,
        live.running(wire.server, tmp_path / "run", path, *words) as run,
    ):

        def say(word, times=1):
            for _ in range(times):
                client.sendto(word, (live.SERVER, 7001))

        base = run.until_settled().received - live.frames_of(wire.server, live.INTERFACE)
        for _ in range(20):
            say(b"before", 20)
            run.until_settled()
        say(b"block")
        run.until(lambda: run.lines)
        victim = int(run.lines[0])
        say(b"behind" * 150, 3000)
        os.kill(victim, signal.SIGKILL)
        say(b"meanwhile" * 100, 3000)
        run.until(lambda: run.report()["restarts"] == 1)
        say(b"after")
        total = run.until_settled()
        assert total.received == base + live.frames_of(wire.server, live.INTERFACE)
        assert [worker.unaccounted for worker in run.workers()] == [0, 0]
        assert total.dropped_kernel > 0
        assert total.processed > 400
        assert total.lost <= 64, "more than a burst"
        assert run.end() == 0
    assert f"{total.dropped + total.lost} packets dropped" in run.err
