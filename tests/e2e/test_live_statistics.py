"""Statistics of live runs whose processes are killed: every row adds up, nothing counts twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import sys
import threading
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1])]
import live
from craft import UDP, frame, udp
from test_dpdk_workers import BURST, DATAGRAMS, FLOWS, OURS, THEIRS, Tap, app_of, datagram, rows_of
from test_live_trouble import spare

from aiomos.rss import worker_of

#: Two workers behind a distributor; by a packet socket, and by AF_XDP. Or each with a socket.
PACKET, XDP, FANOUT = ("--key", "tunnel"), ("--exclusive",), ()
KILLS = 3
#: What only grows in a row, whoever is killed.
GROWING = ("received", "dropped_nic", "dropped_kernel", "dropped_ring", "filtered")
GROWING += ("processed", "handed_over", "lost")

#: The same, and a worker that is told to be slow has frames waiting.
SLOW = DATAGRAMS.replace(
    "        said =",
    "        if b'slow' in datagram.data:\n            time.sleep(0.3)\n        said =",
).replace("import json, os", "import json, os, time")


@pytest.fixture(scope="module")
def wire():
    with live.wire() as built:
        yield built


@contextlib.contextmanager
def tapped(wire, tmp_path, text, *args, program=live.AIOMOS):
    """Two workers on one end of a cable, and what sends into the other."""
    app = app_of(tmp_path, text)
    with spare(wire.server) as cable:
        words = (app, "-i", cable, "--workers", 2, *args)
        with live.started(wire.server, tmp_path / "run", *words, program=program) as run:
            run.until_ready(cable)
            with contextlib.closing(Tap(wire.server, "k1")) as tap:
                yield run, tap


class Traffic(threading.Thread):
    """Datagrams of all flows, again and again, until somebody says stop."""

    def __init__(self, tap):
        super().__init__(daemon=True)
        self.tap, self.over = tap, threading.Event()

    def run(self):
        while not self.over.wait(0.005):
            self.tap.say("word")

    def __enter__(self):
        self.start()

    def __exit__(self, *exc_info):
        self.over.set()
        self.join(live.PATIENCE)


class Watch:
    """Looks at a run's rows; no counter of theirs goes back, and each row is a sum, every time."""

    def __init__(self, run):
        self.run, self.seen = run, {}

    def look(self):
        rows = rows_of(self.run)
        for row in rows:
            assert row.unaccounted == 0, row
            now = {name: getattr(row, name) for name in GROWING}
            before = self.seen.get(row.number, now)
            assert {k: v for k, v in now.items() if v < before[k]} == {}, (row, before)
            self.seen[row.number] = now
        return rows

    def until(self, what):
        """Looks until the rows are so; them."""

        def found():
            rows = self.look()
            return rows if what(rows) else None

        return self.run.until(found)

    def until_settled(self, interface=""):
        """Nothing comes any more, and nothing waits."""
        if interface:
            seen = live.frames_of(self.run.space, interface) - self.run._before
            self.until(lambda rows: sum(row.received for row in takers(rows)) >= seen)
        before = []

        def settled(rows):
            same, before[:] = before == rows, rows
            return same and not any(row.waiting for row in rows)

        return self.until(settled)

    def kill(self, number):
        """The process of a row; looks until another one stands there and has told of itself."""
        victim = rows_of(self.run)[number].pid
        os.kill(victim, signal.SIGKILL)
        self.until(lambda rows: rows[number].pid not in (0, victim))


def in_tunnel():
    """A VXLAN frame that the kernel's hash gives to worker 0, of a flow that is worker 1's."""

    def port_of(worker, port):
        ports = range(10_000, 10_000 + FLOWS)
        return next(p for p in ports if worker_of((THEIRS, p, OURS, port), 2) == worker)

    inner = datagram(port_of(1, 7001), "x" * 1300)
    vxlan = struct.pack("!II", 0x08000000, 42 << 8) + inner
    segment = udp(port_of(0, 4789), 4789, vxlan, ends=(THEIRS, OURS))
    return frame(segment, (THEIRS, OURS), UDP)


def takers(rows):
    """Those that receive from the device itself."""
    return rows[2:] or rows


def told(run):
    """Every datagram that the app told of."""
    return [tuple(json.loads(line)[1:]) for line in run.lines]


def said(tap):
    return {(port, text) for port, texts in tap.said.items() for text in texts}


@pytest.mark.parametrize("way", [PACKET, XDP], ids=["packet", "xdp"])
def test_distributor_killed_under_load_rows_add_up_and_nothing_counts_twice(wire, tmp_path, way):
    with tapped(wire, tmp_path, DATAGRAMS, *way) as (run, tap):
        watch = Watch(run)
        with Traffic(tap):
            for _ in range(KILLS):
                watch.until(lambda rows: len(run.lines) > 1000)
                watch.kill(2)
            count = len(run.lines)
            watch.until(lambda rows: len(run.lines) > count + 1000)
        *workers, distributor = watch.until_settled("k0" if way == PACKET else "")
        assert sum(row.received for row in workers) == distributor.handed_over
        assert sum(row.lost for row in workers) == 0
        assert distributor.lost <= KILLS * BURST
        found = told(run)
        assert len(found) == sum(row.processed for row in workers)
        assert set(found) <= said(tap)
        assert len(set(found)) == len(found)
        if way == PACKET:
            assert distributor.received == live.frames_of(run.space, "k0") - run._before
            assert distributor.received == tap.count
            assert tap.count - len(found) == distributor.lost + distributor.dropped
        assert run.shown()["restarts"] == KILLS
        assert run.end() == 0
    assert "come to other workers than theirs" not in run.err


@pytest.mark.parametrize("way", [PACKET, XDP, FANOUT], ids=["packet", "xdp", "fanout"])
def test_worker_killed_with_frames_waiting_none_counts_twice(wire, tmp_path, way):
    with tapped(wire, tmp_path, SLOW, *way) as (run, tap):
        watch = Watch(run)
        tap.say("word")
        run.until(lambda: len(run.lines) == tap.count)
        tap.say("slow", "word", "word")
        watch.until(lambda rows: way == FANOUT or rows[0].waiting)
        watch.kill(0)
        rows = watch.until_settled("k0")
        assert sum(row.received for row in takers(rows)) == tap.count
        if way != FANOUT:
            assert sum(row.received for row in rows[:2]) == rows[2].handed_over
        assert run.end() == 0


@pytest.mark.parametrize("way", [PACKET, FANOUT], ids=["packet", "fanout"])
def test_worker_stopped_and_killed_what_its_full_ring_dropped_is_counted(wire, tmp_path, way):
    """Drops that the dead one did not tell of, and those before its successor reads."""
    with tapped(wire, tmp_path, DATAGRAMS, "-B", 256, *way) as (run, tap):
        watch = Watch(run)
        tap.say("word")
        run.until(lambda: len(run.lines) == tap.count)
        victim = run.workers()[0].pid
        os.kill(victim, signal.SIGSTOP)
        for _ in range(300):
            tap.say("word")
        os.kill(victim, signal.SIGKILL)
        for _ in range(20):
            tap.say("word")
        watch.until(lambda rows: rows[0].pid not in (0, victim))
        rows = watch.until_settled("k0")
        assert rows[0].dropped > 0
        assert sum(row.received for row in takers(rows)) == tap.count
        if way != FANOUT:
            assert sum(row.received for row in rows[:2]) == rows[2].handed_over
        assert run.end() == 0
        assert f"{sum(row.dropped + row.lost for row in rows)} packets dropped" in run.err


def test_worker_that_takes_nothing_what_is_handed_over_to_it_is_dropped_once(wire, tmp_path):
    """The ring to it is full: who hands over and who reads both know, and it is one drop."""
    with tapped(wire, tmp_path, DATAGRAMS) as (run, tap):
        watch, count = Watch(run), 4_000
        watch.until_settled()
        stopped = run.workers()[1].pid
        os.kill(stopped, signal.SIGSTOP)
        try:
            for _ in range(count):
                tap.send(in_tunnel())
            watch.until(lambda rows: rows[0].handed_over == count)
        finally:
            os.kill(stopped, signal.SIGCONT)
        giver, taker = watch.until_settled()
        assert giver.received == giver.handed_over == taker.received == count
        assert taker.dropped_ring == giver.counters["wrong_core_lost"] > 0
        assert run.end() == 0
        assert f"{taker.processed} packets processed\n{taker.dropped} packets dropped" in run.err
