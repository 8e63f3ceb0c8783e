"""Events must not depend on how frames were cut into bursts (semantics.md 1.3).

Random conversations, some at the same time, with loss, repetition, reordering, resets and
silences; bursts of 1, 7 and 64: events, their fields and their order are identical, and every
flow's last event, and no other, is its ConnectionEnd.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, FIN, RST, SECOND, START, SYN, Talk, datagram
from kit import Tape

import aiomos
from aiomos._engine.source import read_all

CAPTURES = Path(__file__).parents[1] / "captures"
OWN = sorted(p for p in CAPTURES.iterdir() if ".pcap" in p.name)
BURSTS = (1, 7, 64)


def told(frames, burst, tasks="engine"):
    """Every event, by plain functions and by coroutine functions, and what orphans there were."""
    app, plain, later = aiomos.App(), [], {}

    @app.on(aiomos.Event)
    def now(flow, event, packet):
        number = flow.id if flow else 0
        plain.append((number, event, packet and (packet.seq, packet.time)))

    @app.on(aiomos.Event)
    async def after(flow, event):
        later.setdefault(flow.id if flow else 0, []).append(event)

    source = aiomos.MemorySource(frames)
    source.finish()
    options = {"idle": 3.0, "established": 40.0, "embryonic": 4.0, "udp_idle": 9.0}
    summary = aiomos.run(app, source, burst=burst, tasks=tasks, linger=1000, **options)
    assert summary.handler_errors == 0
    by_flow = {}
    for number, event, _ in plain:
        by_flow.setdefault(number, []).append(event)
    assert later == by_flow
    return plain, summary.counters["flows"]


step = st.fixed_dictionaries(
    {
        "side": st.integers(0, 1),
        "flags": st.sampled_from([ACK] * 12 + [FIN | ACK] * 2 + [RST | ACK, RST, SYN, SYN | ACK]),
        "data": st.binary(max_size=6),
        "back": st.sampled_from([0, 0, 0, 0, 1, 3, -4]),
        "window": st.sampled_from([65535, 65535, 65535, 0, 3]),
        "rest": st.sampled_from([0, 0, 0, 0, 0.25, 1.5, 5, 50]),
        "lost": st.sampled_from([False] * 5 + [True]),
    }
)
script = st.fixed_dictionaries(
    {"open": st.sampled_from(["all", "all", "syn", "none"]), "steps": st.lists(step, max_size=12)}
)


def converse(talk: Talk, how) -> None:
    if how["open"] == "all":
        talk.handshake()
    elif how["open"] == "syn":
        talk.c(flags=SYN)
    for s in how["steps"]:
        sent = talk.ends[s["side"]].sent
        raw = talk.segment(
            s["side"], s["flags"], s["data"], at=sent - s["back"], window=s["window"]
        )
        if not s["lost"]:
            talk.give(raw)
        talk.rest(s["rest"])


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(script, min_size=1, max_size=4), st.booleans())
def test_events_of_random_conversations_do_not_depend_on_bursts(scripts, with_udp):
    tape = Tape()
    for number, how in enumerate(scripts):
        talk = Talk(tape.add, client=("10.0.0.1", 40000 + number), at=START + number * 333_000)
        converse(talk, how)
    if with_udp:
        tape.add(datagram(b"question"), START + 500_000)
        tape.add(datagram(b"late"), START + 20 * SECOND)
    frames = tape.in_order()
    whole, flows = told(frames, 64)
    for burst in BURSTS:
        assert told(frames, burst) == (whole, flows), burst
    assert told(frames, 7, "asyncio") == (whole, flows)
    ends = [number for number, event, _ in whole if type(event) is aiomos.ConnectionEnd]
    assert sorted(ends) == list(range(1, flows + 1))
    last = {number: event for number, event, _ in whole if number}
    assert {type(event) for event in last.values()} <= {aiomos.ConnectionEnd}


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_events_of_own_captures_do_not_depend_on_bursts(path):
    with aiomos.open_files(path) as source:
        frames = read_all(source)
    whole, flows = told(frames, 64)
    for burst in BURSTS[:-1]:
        assert told(frames, burst) == (whole, flows), burst
    ends = [number for number, event, _ in whole if type(event) is aiomos.ConnectionEnd]
    assert sorted(ends) == list(range(1, flows + 1))
