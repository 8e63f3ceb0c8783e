"""Crafted cases in which the public mOS release loses bytes (tests/cases.py: MOS_ROWS)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aiomos._engine._testcore import CoreDriver

sys.path.append(str(Path(__file__).parents[1]))
from craft import CLIENT, Talk, assert_idle
from kit import play

import aiomos


def test_established_first_four_segments_late_all_bytes_are_delivered():
    """mOS row 1: 50 kB in order come before the four segments in front of them."""
    driver = CoreDriver()
    talk = Talk(driver.input)
    talk.handshake()
    data = bytes(n % 251 for n in range(56_000))
    segments = range(0, len(data), 1000)
    for at in [*segments[4:], *segments[:4]]:
        talk.c(data[at : at + 1000], at=at)
    talk.s()
    talk.close()
    assert driver.flows[0].data(CLIENT) == data
    assert not driver.flows[0].gap_list(CLIENT)
    assert_idle(driver)


@pytest.mark.parametrize("burst", [1, 8, 64])
def test_flows_that_open_and_close_within_one_burst_lose_nothing(burst):
    """mOS row 2: small flows, whole within one burst."""
    read = []
    app = aiomos.App()

    @app.tcp(start="syn")
    async def count(flow: aiomos.Flow) -> None:
        read.append(len(await flow.client.read()) + len(await flow.server.read()))

    def script(talk: Talk) -> None:
        talk.handshake()
        talk.c(bytes(64))
        talk.s(bytes(100))
        talk.close()

    flows = 200
    scripts = [script] * flows
    play(app, *scripts, burst=burst)
    assert (len(read), sum(read)) == (flows, flows * 164)
