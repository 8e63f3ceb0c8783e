"""Any traffic within any bounds: bounds hold, bytes are right, every flow ends once, nothing is left."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from aiomos._engine._testcore import CoreDriver

sys.path.append(str(Path(__file__).parents[1]))
from craft import (
    ACK,
    CLIENT,
    MILLISECOND,
    RST,
    SECOND,
    SERVER,
    START,
    SYN,
    Talk,
    assert_idle,
    datagram,
    window_scale,
)

STREAM = bytes(i * 131 >> 3 & 0xFF for i in range(1 << 18))
CAUSES = {"memory", "lost", "acked_unseen", "out_of_order_limit"}


def speak(rng: Random, talk: Talk) -> None:
    """One thing that an end may say next."""
    side = rng.choice([CLIENT, CLIENT, SERVER])
    sent = talk.ends[side].sent
    kind = rng.random()
    if kind < 0.5:
        talk.say(side, ACK, STREAM[sent : sent + rng.choice([1, 100, 1400, 1400])])
    elif kind < 0.6:
        talk.skip(side, rng.choice([1, 1000]))
    elif kind < 0.7 and sent > 0:
        at = rng.randrange(sent)
        talk.say(side, ACK, STREAM[at : at + 300], at=at)
    elif kind < 0.9:
        talk.say(1 - side, ACK)
    elif kind < 0.93:
        talk.close(side)
    elif kind < 0.95:
        talk.say(side, RST)
    else:
        talk.rest(rng.choice([0.01, 2, 70]))


def conversation(rng: Random, number: int, frames: list[tuple[bytes, int]]) -> None:
    """Some of a connection: a lone SYN, a handshake, data, loss, an end or none."""
    ends = f"10.0.{number >> 8}.{number & 255}", 40000
    at = START + rng.randrange(3000) * MILLISECOND
    if rng.random() < 0.1:
        frames.append((datagram(STREAM[:100], ends), at))
        return
    talk = Talk(lambda raw, ns: frames.append((raw, ns)), client=ends, at=at)
    if rng.random() < 0.3:
        talk.c(flags=SYN)
        return
    talk.handshake((window_scale(7), window_scale(7)))
    for _ in range(rng.randrange(30)):
        speak(rng, talk)


def right(items: list[bytes | tuple[int, int, str]], at: int) -> None:
    """What a reader got from offset at on is what was said, and gaps are told as such."""
    for item in items:
        if isinstance(item, tuple):
            assert item[0] == at
            assert item[2] in CAUSES
            at += item[1]
        else:
            assert item == STREAM[at : at + len(item)]
            at += len(item)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    memory=st.sampled_from([1 << 16, 1 << 17, 1 << 20]),
    max_flows=st.sampled_from([3, 20, 1000]),
    max_embryonic=st.sampled_from([2, 1000]),
    reading=st.booleans(),
    statistics=st.booleans(),
    refuse=st.booleans(),
)
def test_any_traffic_within_any_bounds(
    seed, memory, max_flows, max_embryonic, reading, statistics, refuse
):
    rng = Random(seed)
    frames: list[tuple[bytes, int]] = []
    for number in range(rng.choice([5, 60])):
        conversation(rng, number, frames)
    frames.sort(key=lambda frame: frame[1])
    policy = "refuse" if refuse else "evict"
    driver = CoreDriver(
        memory=memory,
        max_flows=max_flows,
        max_embryonic=max_embryonic,
        reading=reading,
        statistics=statistics,
        on_flows_full=policy,
        on_embryonic_full=policy,
        start=rng.choice(["syn", "established"]),
    )
    size = rng.choice([1, 7, 64])
    for i in range(0, len(frames), size):
        driver.burst(frames[i : i + size])
        usage = driver.usage()
        assert usage["flows"] <= max_flows
        assert usage["embryonic"] <= max_embryonic
        assert usage["memory_held"] + usage["cached_bytes"] <= memory
    driver.tick(frames[-1][1] + 2 * SECOND)
    driver.close_all()
    for log in driver.flows:
        assert [event[0] for event in log.events].count("close") == 1
        assert log.events[-1][0] == "close"
        for side in (CLIENT, SERVER):
            if log.start and log.start[side] is not None and not log.flags & 0x8:
                right(log.items[side], log.start[side])
    assert_idle(driver)
    assert driver.usage()["stats_bytes"] == driver.usage()["reader_bytes"] == 0
