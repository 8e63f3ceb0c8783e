"""UDP flows: datagrams of both ends in order, until no more come."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from kit import both_tasks

import aiomos
from aiomos.testing import START, Datagrams, run

pytestmark = both_tasks


def words(*said):
    """(sender, seconds since the beginning, bytes) as a script; the first sender is the client."""
    script, now = Datagrams(pace=0), 0
    for sender, seconds, data in said:
        script.wait(seconds - now).data(sender, data)
        now = seconds
    return script


def flows_of(script, *, tasks, filter=None, **options):
    app, flows = aiomos.App(), []

    @app.udp(filter)
    async def handler(flow):
        found = [flow.protocol, flow.client.port, flow.server.port]
        flows.append(found)
        async for one in flow:
            found.append((one.sender, one.data, round(one.time - START, 3)))
        found.append(flow.close_reason)

    run(app, script, tasks=tasks, **options)
    return flows


@pytest.mark.parametrize("burst", [1, 64])
def test_datagrams_of_both_ends_come_in_order_of_arrival(tasks, burst):
    script = words(("client", 0, b"who?"), ("server", 0.5, b"me"), ("client", 0.75, b""))
    assert flows_of(script, tasks=tasks, burst=burst) == [
        [
            *("udp", 5000, 53),
            *[("client", b"who?", 0), ("server", b"me", 0.5), ("client", b"", 0.75)],
            "CAPTURE_END",
        ]
    ]


def test_idle_flow_ends_and_the_next_datagram_begins_a_new_one(tasks):
    script = words(("client", 0, b"one"), ("client", 59, b"two"), ("client", 120, b"three"))
    found = flows_of(script, tasks=tasks)
    assert found == [
        ["udp", 5000, 53, ("client", b"one", 0), ("client", b"two", 59), "TIMEOUT"],
        ["udp", 5000, 53, ("client", b"three", 120), "CAPTURE_END"],
    ]


def test_filter_is_judged_once_a_flow_from_client_to_server(tasks):
    script = words(("client", 0, b"who?"), ("server", 0.5, b"me"))
    assert len(flows_of(script, tasks=tasks, filter="dst port 53")) == 1
    assert flows_of(script, tasks=tasks, filter="dst port 5000") == []


def test_large_datagrams_read_late_are_whole(tasks):
    app, sizes = aiomos.App(), []

    @app.udp()
    async def handler(flow):
        await asyncio.sleep(0.65)
        sizes.extend([len(one.data) async for one in flow])

    script = words(*(("client", n / 10, b"x" * 1000 * n) for n in range(10)))
    run(app, script, tasks=tasks)
    assert sizes == [1000 * n for n in range(10)]


def test_tcp_handlers_do_not_get_udp_flows_nor_the_other_way_round(tasks):
    app, seen = aiomos.App(), []

    @app.tcp()
    async def tcp(flow):
        seen.append(flow.protocol)

    run(app, words(("client", 0, b"a")), tasks=tasks)
    assert seen == []


def test_datagram_is_frozen(tasks):
    with pytest.raises(AttributeError):
        aiomos.Datagram(b"", 0.0, "client").data = b"x"
