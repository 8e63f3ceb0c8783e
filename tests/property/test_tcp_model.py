"""Random conversations against what was sent: every byte the tap saw is delivered, once and in
its place, and a hole stands only where the tap saw nothing. However frames are cut into bursts,
each flow tells the same."""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiomos._engine._testcore import CoreDriver

sys.path.append(str(Path(__file__).parents[1]))
from craft import (
    ACK,
    CLIENT,
    FIN,
    MILLISECOND,
    PSH,
    RST,
    SECOND,
    SERVER,
    START,
    SYN,
    Talk,
    assert_idle,
    merged,
    whole,
)

BURSTS = (1, 7, 64)
seeds = st.integers(0, 1 << 32)


@dataclass
class Tap:
    """What was sent, and what of it somebody captured."""

    rng: Random
    sent: tuple[bytes, bytes]
    frames: list[tuple[int, bytes, int]] = field(default_factory=list)  # number, frame, side
    seen: tuple[set[int], set[int]] = field(default_factory=lambda: (set(), set()))
    number: int = 0
    total: list[int] = field(default_factory=list)  # bytes of each end, when both have sent FIN

    def capture(self, raw: bytes, side: int, *, lost: bool = False, twice: bool = False) -> None:
        self.number += 1
        if not lost:
            self.frames += [(self.number, raw, side)] * (1 + twice)

    def in_order_of_capture(self, late: int) -> list[tuple[bytes, int, int]]:
        """Frames behind the handshake come up to `late` places later than sent; pauses only where nothing
        is on its way, so that what comes late is never later than the grace."""
        order = sorted(
            self.frames, key=lambda entry: entry[0] + (entry[0] > 3) * self.rng.uniform(0, late)
        )
        now, reached, out = START, 0, []
        rest = [entry[0] for entry in order]
        for i, (number, raw, side) in enumerate(order):
            out.append((raw, now, side))
            reached = max(reached, number)
            if self.rng.random() < 0.1 and all(later > reached for later in rest[i + 1 :]):
                now += self.rng.randrange(2000) * MILLISECOND
            now += self.rng.randrange(2 * MILLISECOND)
        return out


def transfer(rng: Random, ending: str) -> Tap:
    """Both ends send; some segments the tap misses, some come twice, some are sent again cut
    otherwise. All reach their receivers."""
    streams = rng.randbytes(36_000), rng.randbytes(36_000)
    tap = Tap(rng, streams)
    isns = rng.choice([(1000, 2000), (2**32 - 20_000, 2**31 - 10_000), (2**32 - 1, 2**32 - 500)])
    talk = Talk(lambda raw, now: None, isn=isns)
    acked = [0, 0]

    def send(side: int, flags: int, begin: int, end: int, lost: bool = False) -> None:
        peer = talk.ends[1 - side]
        acked[side] = rng.randint(acked[side], peer.sent)  # an ACK may be late, never less
        data = streams[side][begin:end]
        raw = talk.segment(side, flags, data, at=begin, ack=acked[side])
        tap.capture(raw, side, lost=lost, twice=not lost and rng.random() < 0.1)
        if not lost:
            tap.seen[side].update(range(begin, end))

    tap.capture(talk.segment(CLIENT, SYN), CLIENT)
    tap.capture(talk.segment(SERVER, SYN | ACK), SERVER)
    tap.capture(talk.segment(CLIENT, ACK), CLIENT)
    for _ in range(rng.randrange(5, 60)):
        side = rng.randrange(2)
        here = talk.ends[side].sent
        kind = rng.random()
        if kind < 0.65:
            send(side, ACK, here, here + rng.randint(1, 600), lost=rng.random() < 0.15)
        elif kind < 0.8:
            begin = rng.randint(max(0, here - 1500), here)
            end = min(begin + rng.randint(1, 1500), here + rng.randint(0, 300))
            if all(i in tap.seen[side] for i in range(begin, here)):
                send(side, PSH | ACK, begin, max(begin, end))
        else:
            send(side, ACK, here, here)
    finish(rng, tap, talk, send, ending)
    return tap


def finish(rng: Random, tap: Tap, talk: Talk, send, ending: str) -> None:
    first = rng.randrange(2)
    for side in (first, 1 - first):
        here = talk.ends[side].sent
        if ending == "fin":
            end = here + rng.choice([0, 1, 100])
            tap.seen[side].update(range(here, end))
            raw = talk.segment(side, FIN | ACK, tap.sent[side][here:end], at=here)
            tap.capture(raw, side, twice=rng.random() < 0.1)
        elif ending == "rst":
            tap.capture(talk.segment(side, ACK), side)
    if ending == "fin":
        tap.total = [end.sent - 1 for end in talk.ends]
        tap.capture(talk.segment(first, ACK), first)
        tap.capture(talk.segment(1 - first, ACK), 1 - first)
    elif ending == "rst":
        tap.number += 10  # behind all that is late: what comes after it is not read
        tap.capture(talk.segment(first, RST | ACK), first)


def replay(frames, burst, rest: int = 5 * SECOND, **options) -> CoreDriver:
    driver = CoreDriver(**options)
    for i in range(0, len(frames), burst):
        driver.burst([(raw, now) for raw, now, _ in frames[i : i + burst]])
    driver.tick(frames[-1][1] + rest)
    driver.close_all()
    return driver


def told(driver: CoreDriver) -> list:
    """What may not depend on how frames were cut into bursts."""
    return [
        ([merged(side) for side in log.items], log.events, log.eof, log.start, known(log))
        for log in driver.flows
    ]


def known(log) -> dict:
    """The entry as its close found it; packets and flags may be of a moment later."""
    found = dict(log.look())
    del found["flags"]
    found["half"] = [
        {name: value for name, value in half.items() if name not in ("flags", "packets")}
        for half in found["half"]
    ]
    return found


def delivered(items) -> tuple[dict[int, int], list[tuple[int, int]]]:
    """Offset to byte, and the gaps."""
    found: dict[int, int] = {}
    gaps = []
    at = 0
    for item in items:
        if isinstance(item, tuple):
            gaps.append(item[:2])
            at += item[1]
        else:
            found.update(enumerate(item, at))
            at += len(item)
    return found, gaps


def check(tap: Tap, driver: CoreDriver, ending: str, visible=(CLIENT, SERVER)) -> None:
    (log,) = driver.flows
    for side in visible:
        assert whole(log.items[side])
        found, gaps = delivered(log.items[side])
        expected = {i: tap.sent[side][i] for i in tap.seen[side]}
        assert found == expected
        missing = set(itertools.chain(*(range(at, at + n) for at, n in gaps)))
        assert not missing & tap.seen[side]
        if ending == "fin":
            assert len(found) + len(missing) == max([*tap.seen[side], *missing, -1]) + 1
    if ending == "fin" and len(visible) == 2:
        assert log.events[-1] == ("close", "FIN")
        assert log.eof == [True, True]
    elif len(visible) == 2:
        assert log.events[-1] == ("close", {"rst": "RESET", "open": "CAPTURE_END"}[ending])


@pytest.mark.parametrize("ending", ["fin", "rst", "open"])
@settings(max_examples=100, deadline=None)
@given(seed=seeds, late=st.sampled_from([0, 1, 3, 6]))
def test_both_sides_visible_every_byte_seen_is_delivered(ending, seed, late):
    rng = Random(seed)
    tap = transfer(rng, ending)
    frames = tap.in_order_of_capture(late)
    drivers = [replay(frames, burst) for burst in BURSTS]
    check(tap, drivers[0], ending)
    assert told(drivers[0]) == told(drivers[1]) == told(drivers[2])
    counters = [driver.counters() for driver in drivers]
    assert counters[0] == counters[1] == counters[2]
    for driver in drivers:
        assert_idle(driver)


@pytest.mark.parametrize("side", [CLIENT, SERVER])
@settings(max_examples=50, deadline=None)
@given(seed=seeds, ending=st.sampled_from(["fin", "open"]))
def test_one_side_visible_every_byte_seen_is_delivered(side, seed, ending):
    rng = Random(seed)
    tap = transfer(rng, ending)
    frames = [entry for entry in tap.in_order_of_capture(0) if entry[2] == side]
    drivers = [replay(frames, burst) for burst in BURSTS]
    if tap.seen[side]:
        check(tap, drivers[0], ending, [side])
    assert told(drivers[0]) == told(drivers[1]) == told(drivers[2])
    for driver in drivers:
        assert_idle(driver)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, late=st.sampled_from([0, 3]), sides=st.sampled_from([0, 1, 2]))
def test_sides_nobody_reads_are_counted_to_the_last_byte(seed, late, sides):
    tap = transfer(Random(seed), "fin")
    driver = replay(tap.in_order_of_capture(late), 64, handlers=sides > 0, sides=sides)
    (log,) = driver.flows
    assert log.events[-1] == ("close", "FIN")
    assert [half["offset"] for half in log.half] == tap.total
    assert_idle(driver)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, memory=st.sampled_from([600, 2048, 3000, 4096, 6000, 16384, 40_000]))
def test_any_budget_what_is_delivered_is_right(seed, memory):
    rng = Random(seed)
    tap = transfer(rng, "fin")
    driver = replay(tap.in_order_of_capture(6), 64, memory=memory)
    (log,) = driver.flows
    for side in (CLIENT, SERVER):
        assert whole(log.items[side])
        found, _ = delivered(log.items[side])
        assert all(tap.sent[side][at] == byte for at, byte in found.items())
    assert log.events[-1] == ("close", "FIN")
    assert_idle(driver)


# ---- segments that no honest host sends ----------------------------------------------------


FLAGS = [ACK] * 12 + [SYN, SYN | ACK, FIN | ACK, RST, RST | ACK, FIN, PSH, 0, SYN | FIN, SYN | RST]


def content(seq: int, length: int) -> bytes:
    """What lies at a sequence number is told by the number."""
    return bytes((seq + i) % 2**32 * 2654435761 >> 13 & 0xFF for i in range(length))


def noise(rng: Random) -> list[tuple[bytes, int, int]]:
    """Two hosts, two pairs of ports, any flags, numbers around a few places near the wrap."""
    frames = []
    now = START
    places = [2**32 - 2000, 2**32 - 1, 0, 1000, 2**31, 70_000]
    for _ in range(rng.randrange(10, 150)):
        port = rng.choice([40000, 40000, 40000, 40001])
        talk = Talk(lambda raw, now: None, client=("10.0.0.1", port), isn=(0, 0))
        side = rng.randrange(2)
        seq = (rng.choice(places) + rng.randrange(-3, 3) * rng.choice([1, 100, 1460])) % 2**32
        ack = (rng.choice(places) + rng.randrange(-3, 3) * rng.choice([1, 100, 1460])) % 2**32
        flags = rng.choice(FLAGS)
        length = rng.choice([0, 0, 1, 5, 100, 1460])
        data = content(seq + bool(flags & SYN), length)
        window = rng.choice([0, 10, 5000, 65535])
        raw = talk.segment(side, flags, data, at=seq - 1, ack=ack - 1, window=window)
        frames.append((raw, now, side))
        now += rng.choice([0, 1, MILLISECOND, 100 * MILLISECOND, 2 * SECOND, 30 * SECOND])
        if rng.random() < 0.01:
            now += 4000 * SECOND
    return frames


@pytest.mark.parametrize("start", ["syn", "established", "data"])
@settings(max_examples=150, deadline=None)
@given(seed=seeds, memory=st.sampled_from([1 << 30, 4096, 1024]))
@example(seed=53011, memory=1 << 30)  # a FIN in front of bytes that were there already
def test_any_segments_hold_together_and_do_not_depend_on_bursts(start, seed, memory):
    rng = Random(seed)
    frames = noise(rng)
    drivers = [replay(frames, burst, start=start, memory=memory) for burst in BURSTS]
    if memory == 1 << 30:  # what is refused depends on when it was read
        assert told(drivers[0]) == told(drivers[1]) == told(drivers[2])
    for driver in drivers:
        for log in driver.flows:
            closes = [event for event in log.events if event[0] == "close"]
            assert log.events[-1:] == closes
            for side in (CLIENT, SERVER):
                right_bytes(log, side, memory)
        assert_idle(driver)


def right_bytes(log, side: int, memory: int) -> None:
    """Whatever was delivered stands where its sequence number says."""
    if log.start is None or log.start[side] is None:
        return
    at = log.start[side]
    first = log.items[side][0] if log.items[side] else b""
    if isinstance(first, tuple) and memory < 1 << 30:
        at = first[0]  # without memory for its mark the gap is one with that before the start
    assert whole(log.items[side], at)
    for item in log.items[side]:
        if isinstance(item, tuple):
            at += item[1]
            continue
        assert item == content(log.half[side]["isn"] + 1 + at, len(item))
        at += len(item)
