"""Whatever its packets do, a flow ends once, and its end is the last that is told of it."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, FIN, PSH, RST, SYN
from kit import play

import aiomos

STEPS = st.one_of(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from([SYN, SYN | ACK, ACK, ACK | PSH, FIN | ACK, RST, RST | ACK, FIN | SYN]),
        st.binary(max_size=6),
        st.integers(-4, 12) | st.none(),
    ),
    st.sampled_from([0.3, 30.0, 4000.0]),
)


def said(steps):
    def script(t):
        t.handshake()
        for step in steps:
            if isinstance(step, float):
                t.rest(step)
            else:
                side, flags, data, at = step
                t.say(side, flags, data, at=at)

    return script


@pytest.mark.parametrize("tasks", ["engine", "asyncio"])
@settings(max_examples=60)
@given(st.lists(STEPS, max_size=25), st.sampled_from([1, 7, 64]))
def test_any_packets_each_flow_ends_exactly_once(tasks, steps, burst):
    app = aiomos.App()
    begun, ended, told = set(), Counter(), {}

    @app.on(aiomos.Event)
    def every(flow, event, packet):
        if flow is None:
            return
        begun.add(flow.id)
        assert not ended[flow.id], f"{event} was told after the end"
        if isinstance(event, aiomos.ConnectionEnd):
            ended[flow.id] += 1
            told[flow.id] = event.reason

    @app.tcp(start="syn", on_gap="skip")
    async def handler(flow):
        reason = await flow.closed()
        assert reason == told[flow.id]

    summary = play(app, said(steps), tasks=tasks, burst=burst)
    assert set(ended) == begun
    assert summary.handler_errors == 0
