"""IPv6 fragments as evasions build them: header chains cut, moved, doubled and contradicted.

The families are those of public tests of intrusion detection (suricata-verify's ipv6-evasion
among them); each row says what a host that follows RFC 8200, 5722, 6946 receives.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aiomos._engine._testcore import CoreDriver

sys.path.append(str(Path(__file__).parents[1]))
from craft import IP6, START, TCP, UDP, assert_idle, ethernet, extension, fragment6, ipv6, udp

ENDS = ("fd00::1", "fd00::2")
EVIL = b"GET /etc/passwd".ljust(88, b".")
GOOD = b"GET /index.html".ljust(88, b".")
OPTIONS, HOP, ROUTING, AH = 60, 0, 43, 51
PAD = bytes(6)


def body(payload=EVIL):
    return udp(5000, 53, payload, ends=ENDS)


def packet(payload, *chain, protocol=UDP, hops=64):
    whole = ipv6(payload, *ENDS, protocol, extensions=chain)
    return ethernet(whole[:7] + bytes([hops]) + whole[8:], IP6)


def piece(payload, at, more, *before, ident=7, protocol=UDP, **fields):
    return packet(payload, *before, fragment6(at >> 3, more, ident), protocol=protocol, **fields)


def chained(kinds, last=UDP, payload=EVIL):
    """A body that begins with extension headers; the first one's number, and the bytes."""
    bytes_of = body(payload)
    for kind in reversed(kinds):
        bytes_of = bytes([last]) + extension(kind, PAD)[1] + bytes_of
        last = kind
    return last, bytes_of


def in_pieces(bytes_of, size, protocol=UDP, **fields):
    return [
        piece(bytes_of[at : at + size], at, at + size < len(bytes_of), protocol=protocol, **fields)
        for at in range(0, len(bytes_of), size)
    ]


def options_in_front(kinds, size=48):
    protocol, bytes_of = chained(kinds)
    return in_pieces(bytes_of, size, protocol)


B = body()
CASES = {
    # header chains
    "destination options in the fragmentable part": (options_in_front([OPTIONS]), [EVIL]),
    "many options in the fragmentable part": (options_in_front([OPTIONS] * 9), [EVIL]),
    "upper header only in the last fragment": (options_in_front([OPTIONS] * 3, 24 + 64), [EVIL]),
    "chain of one header a fragment": (options_in_front([OPTIONS] * 6, 8), [EVIL]),
    "options on both sides": (
        [
            piece(part, at, more, extension(HOP, PAD), extension(OPTIONS, PAD), protocol=OPTIONS)
            for b in [chained([OPTIONS])[1]]
            for part, at, more in [(b[:64], 0, True), (b[64:], 64, False)]
        ],
        [EVIL],
    ),
    "hop by hop behind the fragment header": (options_in_front([HOP]), [EVIL]),
    "routing header behind the fragment header": (options_in_front([ROUTING]), [EVIL]),
    "two fragment headers, the outer atomic": (
        [
            packet(B[:48], fragment6(0, False, 1), fragment6(0, True, 2)),
            packet(B[48:], fragment6(0, False, 1), fragment6(6, False, 2)),
        ],
        [EVIL],
    ),
    "fragments of fragments": (
        in_pieces(bytes([UDP]) + fragment6(6, False, 9)[1] + B[48:], 24, 44, ident=1)
        + [piece(B[:48], 0, True, ident=9)],
        [EVIL],
    ),
    # atomic fragments (RFC 6946)
    "atomic between two of its identification": (
        [piece(B[:48], 0, True), piece(body(GOOD), 0, False), piece(B[48:], 48, False)],
        [GOOD, EVIL],
    ),
    "atomic alone": ([piece(B, 0, False)], [EVIL]),
    # order and repeats
    "last first": ([piece(B[48:], 48, False), piece(B[:48], 0, True)], [EVIL]),
    "first twice": ([piece(B[:48], 0, True)] * 2 + [piece(B[48:], 48, False)], [EVIL]),
    "copy with another hop limit": (
        [piece(B[:48], 0, True), piece(B[:48], 0, True, hops=1), piece(B[48:], 48, False)],
        [EVIL],
    ),
    # overlaps (RFC 5722): all of it goes, whatever comes later
    "decoy that dies on the way": (
        [
            piece(body(GOOD)[:48], 0, True, hops=1),
            piece(B[:48], 0, True),
            piece(B[48:], 48, False),
        ],
        [],
    ),
    "overlap in the middle": (
        [piece(B[:48], 0, True), piece(B[40:72], 40, True), piece(B[72:], 72, False)],
        [],
    ),
    "overlap that completes it": (
        [piece(B[:48], 0, True), piece(B[40:], 40, False)],
        [],
    ),
    "upper header written over": (
        [piece(B[:8], 0, True), piece(body(GOOD)[:48], 0, True), piece(B[8:], 8, False)],
        [],
    ),
    "overlap, then all of it once more": (
        [piece(B[:48], 0, True), piece(B[40:], 40, False), *in_pieces(B, 48)],
        [],
    ),
    "overlap, then all of it under another identification": (
        [piece(B[:48], 0, True), piece(B[40:], 40, False), *in_pieces(B, 48, ident=8)],
        [EVIL],
    ),
    # contradictions
    "other next header in a later fragment": (
        [piece(B[:48], 0, True), piece(B[48:], 48, False, protocol=TCP)],
        [EVIL],
    ),
    "other next header in the first fragment": (
        [piece(B[48:], 48, False), piece(B[:48], 0, True, protocol=59)],
        [],
    ),
    "two ends": (
        [piece(B[48:80], 48, False), piece(B[80:], 80, False), piece(B[:48], 0, True)],
        [],
    ),
    "empty last fragment": ([piece(B, 0, True), piece(b"", len(B), False)], []),
    "no whole units before the end": ([piece(B[:50], 0, True), piece(B[48:], 48, False)], []),
    "hole": ([piece(B[:40], 0, True), piece(B[48:], 48, False)], []),
    "only the first": ([piece(B[:48], 0, True)], []),
    # lengths
    "beyond the largest packet": (
        [piece(B[:48], 0, True), piece(bytes(64), 65528, False), piece(B[48:], 48, False)],
        [],
    ),
}


@pytest.mark.parametrize("burst", [1, 7])
@pytest.mark.parametrize("name", CASES)
def test_evasion_gives_what_the_receiver_gets(name, burst):
    frames, expected = CASES[name]
    driver = CoreDriver()
    timed = [(frame, START + i) for i, frame in enumerate(frames)]
    for at in range(0, len(timed), burst):
        driver.burst(timed[at : at + burst])
    assert [data for flow in driver.flows for _, data, _ in flow.datagrams] == expected
    assert_idle(driver)
