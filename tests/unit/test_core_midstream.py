"""Connections that a tap sees from their middle on, or from one side only."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aiomos._engine._testcore import CoreDriver

sys.path.append(str(Path(__file__).parents[1]))
from craft import (
    ACK,
    CLIENT,
    FIN,
    RST,
    SERVER,
    START,
    SYN,
    Talk,
    exchange,
)


@pytest.fixture
def talk(driver):
    return Talk(driver.input)


# ---- picked up in the middle --------------------------------------------------------------------


def middle(talk, *sent):
    talk.ends[CLIENT].sent, talk.ends[SERVER].sent = sent


def test_closed_data_first_is_picked_up(driver, talk):
    middle(talk, 5000, 9000)
    talk.c(b"request")
    talk.s(b"response")
    (log,) = driver.flows
    assert log.items == ([b"request"], [b"response"])
    assert log.start == (0, 0)
    assert log.half[CLIENT]["flags"] & 0x2 == 0
    assert log.client[1] == 40000
    assert driver.counters()["midstream"] == 1


def test_closed_ack_first_is_picked_up(driver, talk):
    middle(talk, 5000, 9000)
    talk.c()
    talk.s(b"response")
    talk.c(b"more")
    assert driver.flows[0].items == ([b"more"], [b"response"])


def test_closed_data_of_a_well_known_port_first_has_its_receiver_as_client(driver, talk):
    middle(talk, 5000, 9000)
    talk.s(b"response")
    talk.c(b"request")
    assert driver.flows[0].client[1] == 40000
    assert driver.flows[0].items == ([b"request"], [b"response"])


def test_closed_fin_first_is_picked_up_and_ends_its_side(driver, talk):
    middle(talk, 5000, 9000)
    talk.close()
    assert driver.flows[0].events[-1] == ("close", "FIN")
    assert driver.flows[0].eof == [True, True]


def test_closed_rst_first_opens_nothing(driver, talk):
    talk.c(flags=RST)
    talk.c(flags=RST | ACK)
    assert driver.flows == []
    assert driver.counters()["tcp_no_flow"] == 2


def test_closed_pickup_off_only_syns_open():
    driver = CoreDriver(midstream="ignore")
    talk = Talk(driver.input)
    middle(talk, 5000, 9000)
    talk.c(b"request")
    talk.s(b"response")
    talk.s(flags=FIN | ACK)
    assert driver.flows == []
    assert driver.counters()["tcp_no_flow"] == 3
    talk.count_anew(CLIENT, 4)
    talk.count_anew(SERVER, 5)
    talk.handshake()
    exchange(driver, talk)


def test_midstream_peer_heard_later_has_been_seen(driver, talk):
    """Its holes wait for the acknowledgement, not for the one second of a one-sided flow."""
    middle(talk, 5000, 9000)
    talk.c(b"request")
    talk.s(b"a")
    talk.skip(SERVER, 3)
    talk.s(b"e")
    talk.rest(5)
    talk.c(ack=9001)
    assert driver.flows[0].items[SERVER] == [b"a"]
    talk.s(b"bcd", at=9001)
    assert driver.flows[0].items[SERVER] == [b"abcde"]


def test_midstream_reset_with_the_next_number_resets(driver, talk):
    middle(talk, 5000, 9000)
    talk.c(b"request")
    talk.s(flags=RST)
    assert driver.flows[0].events[-1] == ("close", "RESET")


# ---- one side visible ---------------------------------------------------------------------------


def test_client_only_first_data_establishes_and_is_read(driver, talk):
    talk.c(flags=SYN)
    talk.ends[SERVER].sent = 0
    talk.c()
    assert driver.flows[0].events == []
    talk.c(b"one ")
    talk.ends[SERVER].sent = 5000
    talk.c(b"two")
    assert driver.flows[0].events == [("start", START + 2_000_000)]
    assert driver.flows[0].items == ([b"one two"], [])
    assert driver.flows[0].half[SERVER]["packets"] == 0


def test_server_only_first_data_establishes_and_is_read(driver, talk):
    talk.ends[CLIENT].sent = 0
    talk.s(flags=SYN | ACK)
    talk.s(b"banner")
    assert driver.flows[0].items == ([], [b"banner"])
    assert driver.flows[0].client[1] == 40000


def test_client_only_midstream_is_read(driver, talk):
    middle(talk, 5000, 9000)
    talk.c(b"one ")
    talk.c(b"two")
    assert driver.flows[0].items[CLIENT] == [b"one two"]
