"""Packet handlers: plain functions that borrow a frame, coroutines that get a copy."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import ARP, ethernet
from kit import MILLISECOND, START, Tape, both_tasks, play, tape_of, whole

import aiomos

pytestmark = both_tasks
SCRIPT = whole(b"hello", b"there")


def test_plain_handler_sees_every_frame_in_order(tasks):
    app, seen = aiomos.App(), []

    @app.packet()
    def handler(packet):
        seen.append((bytes(packet), packet.time_ns))

    play(app, SCRIPT, tasks=tasks)
    assert seen == tape_of(SCRIPT).in_order()


def test_borrowed_packet_used_later_is_a_runtime_error(tasks):
    app, kept, looked = aiomos.App(), [], []

    @app.packet()
    def handler(packet):
        kept.append(packet)
        if len(kept) == 1:
            looked.append(bytes(packet))

    play(app, SCRIPT, tasks=tasks)
    assert bytes(kept[0]) == looked[0]  # looked at in time: its bytes are kept
    for use in (bytes, lambda p: p.payload, lambda p: p.source):
        with pytest.raises(RuntimeError, match="borrowed"):
            use(kept[1])
    assert len(kept[1]) == len(tape_of(SCRIPT).frames[1][0])


def test_coroutine_gets_a_copy_that_stays(tasks):
    app, kept = aiomos.App(), []

    @app.packet()
    async def handler(packet):
        kept.append(packet)

    play(app, SCRIPT, tasks=tasks)
    assert sorted(map(bytes, kept)) == sorted(raw for raw, _ in tape_of(SCRIPT).frames)


def test_packet_tells_its_fields(tasks):
    app, found = aiomos.App(), []

    @app.packet("tcp[13] & 8 = 0 and len > 58")
    def handler(packet):
        fields = (packet.kind, packet.source, packet.sport, packet.destination, packet.dport)
        found.append((*fields, packet.payload, packet.time, repr(packet)))

    play(app, SCRIPT, tasks=tasks)
    first = found[0]
    assert first[:6] == ("tcp", "10.0.0.1", 40000, "10.0.0.2", 80, b"hello")
    assert first[6] == pytest.approx((START + 3 * MILLISECOND) / 1e9)
    assert first[7] == "<Packet tcp 10.0.0.1:40000 > 10.0.0.2:80 59 bytes>"


def test_frame_that_is_not_ip_has_no_addresses(tasks):
    app, found = aiomos.App(), []

    @app.packet()
    def handler(packet):
        found.append((packet.kind, packet.source, packet.payload, repr(packet)))

    tape = Tape()
    tape.add(ethernet(b"\0" * 28, ARP), START)
    aiomos.run(app, tape.source(), tasks=tasks)
    assert found == [("not_ip", "", b"", "<Packet not_ip 42 bytes>")]


def test_filter_of_a_packet_handler_is_judged_on_each_frame(tasks):
    app, counts = aiomos.App(), {"server": 0, "all": 0, "syn": 0}

    @app.packet("src port 80")
    def server(packet):
        counts["server"] += 1

    @app.packet("tcp[tcpflags] & tcp-syn != 0")
    async def syn(packet):
        counts["syn"] += 1

    @app.packet()
    def every(packet):
        counts["all"] += 1

    play(app, SCRIPT, tasks=tasks)
    assert counts == {"server": 3, "all": 8, "syn": 2}


@pytest.mark.parametrize("is_async", [False, True])
def test_packet_handler_that_raises_is_counted_and_the_run_goes_on(tasks, caplog, is_async):
    app, seen = aiomos.App(), []

    def fail(packet):
        seen.append(packet)
        raise LookupError("by intent")

    async def fail_later(packet):
        fail(packet)

    app.packet()(fail_later if is_async else fail)

    @app.tcp()
    async def handler(flow):
        seen.append(await flow.client.read())

    with caplog.at_level(logging.ERROR, "aiomos"):
        summary = play(app, SCRIPT, tasks=tasks)
    assert summary.handler_errors == 8
    assert b"hello" in seen
    assert len(caplog.records) == 8


def test_scapy_packet_is_made_of_the_frame(tasks):
    pytest.importorskip("scapy", reason="scapy is not installed")
    app, found = aiomos.App(), []

    @app.packet("len > 58")
    async def handler(packet):
        found.append(bytes(packet.scapy()["TCP"].payload))

    play(app, SCRIPT, tasks=tasks)
    assert sorted(found) == [b"hello", b"there"]
