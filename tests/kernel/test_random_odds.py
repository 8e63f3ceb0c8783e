"""Random odd segments to a real Linux socket: what it received and whether it lives on is what
aiomos tells with the policy `linux`. A failure prints the seed and what was sent."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, FIN, PSH, RST, SYN, mss, sack_permitted

sys.path.append(str(Path(__file__).parent))
from fates import fate, told
from reading import FULL, offered, read
from stranger import PORT, SERVER, Street, Visit

sys.path.append(str(Path(__file__).parents[1] / "property"))
from receiver_model import Connection, Segment

SCRIPTS = 2000 if FULL else 200
FLAGS = [ACK] * 14 + [FIN | ACK, SYN, SYN | ACK, PSH, FIN, SYN | FIN, 0]
RESETS = [RST] * 6 + [RST | ACK, RST | FIN, RST | SYN, RST | FIN | ACK | PSH]
WINDOW = 60_000


class Sent(NamedTuple):
    flags: int
    at: int
    data: bytes
    ack_by: int


def script(rng: Random, *, fins: bool, resets: bool) -> list[Sent]:
    """Segments around where the receiver stands by then, as the model has it."""
    model = Connection((WINDOW, WINDOW))
    found = []
    for letter in range(rng.randint(3, 20)):
        stream = model.sent[0]
        top = max([stream.nxt, *stream.ahead])
        at = rng.choice([stream.nxt, stream.nxt, top, 0]) + rng.randint(-4, 6)
        data = bytes([65 + letter]) * rng.choice([0, 1, rng.randint(1, 9)])
        flags = rng.choice(FLAGS)
        if resets and rng.random() < 0.06:
            flags, data = rng.choice(RESETS), b""
            at = rng.choice([stream.nxt, top, top + 1, at, at + 100_000])
        if flags & FIN and not fins:
            flags = ACK
        # Too old an acknowledgement Linux refuses only off its fast path, and too new a one the
        # tap can tell only beyond a window of what it has seen.
        ack_by = rng.choice([0] * 9 + [1_000_000])
        found.append(Sent(flags, at, data, ack_by))
        if not ack_by:
            model.arrives(0, Segment(flags, at, data))
    return found


def play(visit: Visit, sent: list[Sent], sack: bool) -> None:
    visit.open(mss() + sack_permitted() if sack else mss())
    for flags, at, data, ack_by in sent:
        visit.send(flags, data, at=at, ack=visit.nxt + ack_by & 0xFFFFFFFF)
    visit.street.settle()
    visit.send(data=b"?", at=-1)  # old: a socket that lives answers it
    visit.street.settle()


@pytest.mark.parametrize(
    ("fins", "resets"),
    [(False, False), (False, True), (True, False), (True, True)],
    ids=["data", "resets", "fins", "resets-and-fins"],
)
def test_random_odd_segments_the_socket_and_aiomos_agree(sniffed: Street, fins, resets) -> None:
    road, failures, fates = sniffed, [], {}
    road.server.sysctl("net.ipv4.tcp_invalid_ratelimit", "0")
    with road.server.listen(SERVER, PORT) as listener:
        for seed in range(SCRIPTS):
            rng = Random(f"{seed} {fins} {resets}")
            visit = Visit(road, listener, rng.choice([0, 1000, 2**32 - 10]))
            sent = script(rng, fins=fins, resets=resets)
            play(visit, sent, sack=rng.random() < 0.5)
            fates[visit.port] = seed, sent, fate(visit)
            visit.leave()
            road.after_visit()
    options = {"overlap": "linux"} if offered(overlap="linux") else {}
    found = read(road.frames, **options)
    for port, (seed, sent, received) in fates.items():
        seen = told(found[port, PORT][0])  # what comes behind a reset may look like another one
        if seen != received:
            failures.append((seed, received, seen))
            print(seed, "sent", *sent, "received", received, "told", seen, sep="\n  ")
    assert not failures
