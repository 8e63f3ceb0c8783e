"""Checksums, copies and fragments through run() and the command line."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from pathlib import Path

import pytest

import aiomos

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, CLIENT, START, UDP, ethernet, ipv4, udp
from kit import Tape, aiomos_command, tape_of, whole

ENDS = ("10.0.0.1", "10.0.0.2")


def spoiled(frame):
    """The same with a wrong TCP checksum."""
    return frame[:50] + bytes([frame[50] ^ 0xFF]) + frame[51:]


@pytest.fixture
def decoy(tmp_path):
    """A capture in which a segment with a wrong checksum comes first."""

    def script(t):
        t.handshake()
        t.give(spoiled(t.segment(CLIENT, ACK, b"decoy", at=0)))
        t.c(b"right", at=0)
        t.close()

    return tape_of(script).write(tmp_path / "decoy.pcap")


def client_bytes(source, **options):
    found = []

    async def handler(flow):
        found.append(await flow.client.read())

    summary = aiomos.run(handler, source, **options)
    return found, summary


@pytest.mark.parametrize(
    ("choice", "bytes_of"), [("auto", b"decoy"), ("off", b"decoy"), ("on", b"right")]
)
def test_checksums_of_a_file_are_judged_only_when_asked(decoy, choice, bytes_of):
    found, summary = client_bytes(decoy, checksums=choice)
    assert found == [bytes_of]
    assert summary.counters["bad_checksum"] == (choice == "on")
    assert ("1 packets with a wrong checksum" in str(summary)) is (choice == "on")


def test_checksums_with_a_wrong_word_are_refused(decoy):
    with pytest.raises(aiomos.ConfigError, match="checksums='maybe'"):
        aiomos.run(aiomos.App(), decoy, checksums="maybe")


@pytest.mark.parametrize(("choice", "size"), [("off", 5), ("on", 5)])
def test_flows_takes_checksums(decoy, choice, size):
    done = aiomos_command(
        "flows", "--checksums", choice, "--format", "jsonl", "--digest", "sha256", "-q", decoy
    )
    (row,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert row["client_bytes"] == size
    said = b"decoy" if choice == "off" else b"right"
    assert row["client_sha256"] == hashlib.sha256(said).hexdigest()


def test_address_that_is_let_go_is_said_once(tmp_path, caplog):
    tape = Tape()
    for i in range(70):
        body = bytearray(udp(5000, 53, b"x", ends=ENDS))
        body[6] ^= 1
        tape.add(ethernet(ipv4(bytes(body), *ENDS, UDP)), START + i)
    with caplog.at_level(logging.WARNING, logger="aiomos"):
        summary = aiomos.run(aiomos.App(), tape.write(tmp_path / "own.pcap"), checksums="on")
    assert summary.counters["bad_checksum"] == 64
    assert [r.getMessage() for r in caplog.records if "checksums of 10.0.0.1" in r.getMessage()]
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("flags", "packets"), [((), 2), (("--dedup",), 1)])
def test_flows_counts_packets_of_a_mirror_once_with_dedup(tmp_path, flags, packets):
    tape = tape_of(whole(b"question", b"answer"))
    tape.frames = [(raw, at + later) for raw, at in tape.frames for later in (0, 1000)]
    done = aiomos_command(
        "flows", "--format", "jsonl", "-q", *flags, tape.write(tmp_path / "mirror.pcap")
    )
    (row,) = [json.loads(line) for line in done.stdout.splitlines()]
    # of the last one the copy comes when the flow is over
    assert row["packets"] == packets * len(tape.frames) // 2 - (packets - 1)
    assert bool(row["retransmissions"]) is (packets == 2)


@pytest.mark.parametrize("tasks", ["engine", "asyncio"])
@pytest.mark.parametrize("segments", [0, 3])
def test_packet_handlers_see_fragments_and_flow_handlers_the_datagram(tasks, segments):
    app = aiomos.App()
    kinds, datagrams = [], []

    @app.packet()
    def frame(packet):
        kinds.append(packet.kind)

    @app.udp()
    async def flow(flow):
        async for datagram in flow:
            datagrams.append((datagram.data, datagram.time))

    body = udp(5000, 53, bytes(range(200)), ends=ENDS)
    frames = [
        (ethernet(ipv4(body[at : at + 80], *ENDS, UDP, fragment=field)), START + at * 1_000_000)
        for at, field in [(160, 20), (0, 0x2000), (80, 0x2000 + 10)]
    ]
    source = aiomos.MemorySource(frames, segment_seed=segments)
    source.finish()
    aiomos.run(app, source, tasks=tasks)
    assert kinds == ["fragments"] * 3
    assert datagrams == [(bytes(range(200)), pytest.approx(START / 1e9 + 0.08))]
