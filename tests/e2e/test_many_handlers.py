"""Very many handlers at once, each in `asyncio.timeout` on a read: on capture time, always alike."""

from __future__ import annotations

import asyncio
import random
import struct
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import MILLISECOND, START
from kit import both_tasks

import aiomos
from aiomos import testing

#: Of the frames of a conversation (Ethernet, IPv4, TCP): where the client's address stands.
CLIENT_AS_SOURCE, CLIENT_AS_DESTINATION = 26, 30
MOST_SECONDS = 20.0


def frames_of_one():
    """SYN, SYN-ACK and ACK; a request; each with the place of the client's address."""
    talk = testing.Conversation(timestamps=False).handshake().data("client", b"request\n")
    places = (CLIENT_AS_SOURCE, CLIENT_AS_DESTINATION, CLIENT_AS_SOURCE, CLIENT_AS_SOURCE)
    return [(bytearray(f.data), place) for f, place in zip(talk.frames(), places, strict=True)]


def write_capture(path, count):
    """`count` connections that are all open at the end; two of three clients say something.

    Half of those say it in time, as the handlers below see it. Checksums are those of another
    client, which nobody looks at in a replay.
    """
    *handshake, request = frames_of_one()
    rng = random.Random(count)
    frames = []
    for number in range(count):
        begin_ns = START + number * 1000
        address = struct.pack(">I", 0x0A000000 + number + 1)
        for step, one in enumerate(handshake):
            frames.append((begin_ns + step * 100, number, address, one))
        if number % 3:
            frames.append(
                (begin_ns + rng.randrange(1, 20_000) * MILLISECOND, number, address, request)
            )
    frames.sort(key=lambda frame: frame[:2])
    with aiomos.Writer(path, format="pcap-ns") as writer:
        for time_ns, _, address, (data, place) in frames:
            data[place : place + 4] = address
            writer.write((bytes(data), time_ns))


def outcomes(path, tasks):
    """What every handler came to, in the order in which they did; the most there were at once."""
    told, most = [], 0

    async def impatient(flow):
        nonlocal most
        loop = asyncio.get_running_loop()
        patience = flow.id * 7919 % 20_000 / 1000
        most = max(most, len(aiomos.flow_tasks())) if flow.id % 1000 == 0 else most
        try:
            async with asyncio.timeout(patience):
                said = await flow.client.readline()
        except TimeoutError:
            said = b"too late"
        told.append((flow.id, loop.time(), said))

    summary = aiomos.run(impatient, path, tasks=tasks, linger=MOST_SECONDS)
    assert summary.handler_errors == 0
    return told, most


@both_tasks
@pytest.mark.parametrize(
    ("count", "runs"), [(10_000, 3), pytest.param(100_000, 20, marks=pytest.mark.full)]
)
def test_handlers_in_timeouts_on_capture_time_end_alike_in_every_run(count, runs, tasks, tmp_path):
    path = tmp_path / "open.pcap"
    write_capture(path, count)
    first, most = outcomes(path, tasks)
    assert len(first) == len({flow_id for flow_id, _, _ in first}) == count
    assert [time for _, time, _ in first] == sorted(time for _, time, _ in first)
    late = sum(said == b"too late" for _, _, said in first)
    assert count // 2 < late < count * 4 // 5  # a third says nothing, half of the others too late
    assert most > count * 9 // 10
    for _ in range(runs - 1):
        again, _ = outcomes(path, tasks)
        assert again == first
