"""Any bytes as a frame, and real frames with bytes changed: told for something, never more.

Frames lie in blocks of exactly their size: run under valgrind or a sanitizer, this also shows
that nothing is read outside.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomos._engine import names
from aiomos._engine._testcore import CoreDriver
from aiomos._engine._testframes import decode, decode_usual

sys.path.append(str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[1] / "unit"))
from craft import ACK, START, UDP, assert_idle, ethernet, ipv4, mss, tcp, udp
from test_links import CASES as LINKS
from test_tunnels import CASES as TUNNELS

LINK_TYPES = [0, 1, 9, 10, 12, 14, 50, 51, 101, 104, 105, 108, 113, 127, 147, 204, 228, 229, 276]
REAL = [(frame, 1) for frame, _ in TUNNELS.values()] + list(LINKS.values())


@st.composite
def mangled(draw):
    """A frame of one of the encapsulations with some bytes set, cut, or put in twice."""
    frame, link = draw(st.sampled_from(REAL))
    raw = bytearray(frame)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(raw) - 1))
        action = draw(st.sampled_from(["set", "set", "set", "cut", "repeat"]))
        if action == "set":
            raw[at] = draw(st.integers(0, 255))
        elif action == "cut" and len(raw) > 1:
            del raw[at : at + draw(st.integers(1, 8))]
        else:
            raw[at:at] = raw[max(0, at - 24) : at]
        if not raw:
            raw = bytearray(b"\0")
    return bytes(raw), link


def check(found, raw: bytes) -> None:
    assert found["status"] in names.STATUSES
    assert len(found["tunnels"]) <= 4
    if "payload_off" in found and found["payload_cap"]:
        assert found["payload_off"] + found["payload_cap"] <= len(raw)


@given(st.binary(max_size=200), st.sampled_from(LINK_TYPES), st.integers(0, 2000))
def test_any_bytes_are_told_for_something(raw, link, more):
    check(decode(raw, link_type=link, wire_len=len(raw) + more), raw)


@given(mangled(), st.integers(0, 400))
def test_mangled_frame_is_told_for_something(case, more):
    raw, link = case
    found = decode(raw, link_type=link, wire_len=len(raw) + more)
    check(found, raw)


@given(mangled(), st.data())
def test_mangled_frame_in_segments_is_the_same_or_asks_for_the_rest(case, data):
    raw, link = case
    whole = decode(raw, link_type=link)
    head = data.draw(st.integers(1, len(raw)))
    found = decode(raw, link_type=link, head_len=head)
    assert found == whole or found["status"] in ("incomplete", *names.MALFORMED)


@st.composite
def nearly_usual(draw):
    """TCP or UDP over IPv4, padded or not, mostly with a byte or two changed."""
    payload = draw(st.binary(max_size=60))
    ports = draw(st.tuples(st.sampled_from([53, 40_000]), st.sampled_from([80, 4789])))
    if draw(st.booleans()):
        options = draw(st.sampled_from([b"", mss()]))
        packet = ipv4(tcp(*ports, 1, 2, ACK, payload, options=options))
    else:
        packet = ipv4(udp(*ports, payload), protocol=UDP)
    raw = bytearray(ethernet(packet)).ljust(draw(st.sampled_from([0, 60])), b"\0")
    for _ in range(draw(st.integers(0, 2))):
        raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    return bytes(raw[: draw(st.sampled_from([len(raw), len(raw) - 1, 50, 54]))])


@given(nearly_usual(), st.integers(0, 40), st.data())
def test_the_quick_way_says_what_the_long_one_does_or_nothing(raw, more, data):
    head = data.draw(st.one_of(st.none(), st.integers(1, len(raw))))
    tags = data.draw(st.sampled_from([(), (), (5,)]))
    meta = {"wire_len": len(raw) + more, "head_len": head, "vlan": tags}
    assert decode_usual(raw, **meta) in (None, decode(raw, **meta))


@pytest.mark.parametrize(
    "packet",
    [ipv4(tcp(1, 2, 3, 4, ACK, b"x", options=mss())), ipv4(udp(1, 2, b"x"), protocol=UDP)],
    ids=["tcp", "udp"],
)
def test_the_quick_way_takes_what_most_frames_are(packet):
    assert decode_usual(ethernet(packet).ljust(60, b"\0")) is not None


@given(st.lists(mangled(), max_size=20))
def test_mangled_frames_leave_nothing_behind(cases):
    driver = CoreDriver(tunnel_in_key=True, listen=names.EVENTS)
    for i, (raw, link) in enumerate(cases):
        driver.input(raw, START + i, link_type=link)
    assert driver.core.counters()["frames"] == len(cases)
    assert_idle(driver)
