"""Old time stamps on segments that were overtaken behind the tap.

A segment that comes to the tap behind a retransmission with a newer stamp is old by RFC 7323 for a
receiver that got them in this order, and not for one that got them in the other: both stood in
recordings of two Linux kernels. It is old for certain when its receiver has acknowledged the newer
one, and so echoed its stamp, before the segment passes the tap.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import SERVER, Talk, timestamp


@pytest.fixture(params=[1000, 2**32 - 8])
def talk(driver, request):
    talk = Talk(driver.input, isn=(request.param, 2**32 - 5))
    talk.handshake((timestamp(1), timestamp(1000)))
    talk.s(b"good", options=timestamp(1500))
    talk.c(ack=4, options=timestamp(2, 1500))
    talk.s(b" and ", at=4, options=timestamp(2000))
    talk.c(ack=9, options=timestamp(3, 2000))
    talk.s(b"well", at=9, options=timestamp(2600))
    return talk


def test_established_stamp_older_than_one_not_yet_acknowledged_is_delivered(driver, talk):
    talk.s(b" then", at=13, options=timestamp(2500))
    talk.c(ack=18, options=timestamp(4, 2600))
    (log,) = driver.flows
    assert log.data(SERVER) == b"good and well then"
    driver.close_all()
    assert not log.gap_list(SERVER)


def test_established_stamp_older_than_one_acknowledged_is_refused(driver, talk):
    talk.c(ack=13, options=timestamp(4, 2600))
    talk.s(b" EVIL", at=13, options=timestamp(2500))
    talk.s(b" then", at=13, options=timestamp(2700))
    talk.c(ack=18, options=timestamp(5, 2700))
    (log,) = driver.flows
    assert log.data(SERVER) == b"good and well then"
    driver.close_all()
    assert not log.gap_list(SERVER)
