"""Packets with so few hops left that the host they are for may never see them (min_ttl)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aiomos._engine._testcore import CoreDriver

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, CLIENT, Talk, assert_idle

ETHERNET = 14


def with_hops(raw: bytes, hops: int) -> bytes:
    """The frame with another time to live (IPv4) or hop limit (IPv6)."""
    at = ETHERNET + (8 if raw[ETHERNET] >> 4 == 4 else 7)
    return raw[:at] + bytes([hops]) + raw[at + 1 :]


def decoyed(driver: CoreDriver, hops: int, **ends) -> bytes:
    """What a reader is given of EVIL, said with so many hops left, and then of GOOD."""
    talk = Talk(driver.input, **ends)
    talk.handshake()
    evil = talk.segment(CLIENT, ACK, b"EVIL", at=0)
    talk.give(with_hops(evil, hops))
    talk.c(b"GOOD", at=0)
    talk.close()
    assert_idle(driver)
    return driver.flows[0].data(CLIENT)


@pytest.mark.parametrize(
    "ends", [{}, {"client": ("2001:db8::1", 4000), "server": ("2001:db8::2", 80)}]
)
@pytest.mark.parametrize(
    ("hops", "read"), [(0, b"GOOD"), (4, b"GOOD"), (5, b"EVIL"), (64, b"EVIL")]
)
def test_min_ttl_decoy_that_ends_before_the_host_is_not_delivered(ends, hops, read):
    """Row 2: the decoy never reaches the host."""
    driver = CoreDriver(min_ttl=5)
    assert decoyed(driver, hops, **ends) == read
    assert driver.counters().get("low_ttl", 0) == (hops < 5)


def test_no_min_ttl_decoy_comes_first_and_stays():
    """Row 2: without the option nothing is known of the way; the first copy wins."""
    driver = CoreDriver()
    assert decoyed(driver, 1) == b"EVIL"
    assert driver.counters().get("low_ttl", 0) == 0
