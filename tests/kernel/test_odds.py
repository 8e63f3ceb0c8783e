"""Odd segments to a real Linux socket: what its application received, and whether the connection
lives on, is what aiomos tells. The kernel is asked each time; nothing here says what it does."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, FIN, PSH, RST, SYN, URG, mss, sack_permitted, timestamp

sys.path.append(str(Path(__file__).parent))
from fates import fate, told
from reading import offered, read
from stranger import PORT, SERVER, Street, Visit

Case = Callable[[Visit], None]
CASES: dict[str, Case] = {}


def case(script: Case) -> Case:
    CASES[script.__name__] = script
    return script


def stamp(value: int) -> bytes:
    return b"\x01\x01" + timestamp(value)


# ---- timestamps (PAWS, RFC 7323) ----------------------------------------------------------------


def stamped(v: Visit) -> None:
    v.open(mss() + stamp(1000))
    v.send(data=b"good", options=stamp(1001))


@case
def old_stamp_with_data(v: Visit) -> None:
    stamped(v)
    v.send(data=b"EVIL", at=4, options=stamp(500))
    v.send(data=b"more", at=4, options=stamp(1002))


@case
def old_stamp_with_fin(v: Visit) -> None:
    stamped(v)
    v.send(FIN | ACK, at=4, options=stamp(500))
    v.send(data=b"more", at=4, options=stamp(1002))


@case
def old_stamp_with_reset(v: Visit) -> None:
    stamped(v)
    v.send(RST, at=4, options=stamp(500))


@case
def no_stamp_where_agreed(v: Visit) -> None:
    stamped(v)
    v.send(data=b"none", at=4)


@case
def old_stamp_ahead_of_a_hole(v: Visit) -> None:
    stamped(v)
    v.send(data=b"last", at=8, options=stamp(1003))
    v.send(data=b"hole", at=4, options=stamp(1002))  # stamps of early segments do not count


# ---- resets (RFC 5961) --------------------------------------------------------------------------


def reset_at(at: int, *, options: bytes = b"", hole: bool = False) -> Case:
    def script(v: Visit) -> None:
        v.open(options)
        v.send(data=b"good")
        if hole:
            v.send(data=b"late", at=8)
        v.send(RST, at=at)
        v.street.settle()
        v.send(data=b"more", at=4)

    return script


CASES |= {
    "reset_exact": reset_at(4),
    "reset_in_window": reset_at(10),
    "reset_left_of_window": reset_at(0),
    "reset_right_of_window": reset_at(1_000_000),
    "reset_above_a_hole_with_sack": reset_at(12, options=mss() + sack_permitted(), hole=True),
    "reset_inside_early_bytes": reset_at(10, options=mss() + sack_permitted(), hole=True),
}


@case
def reset_behind_fin(v: Visit) -> None:
    v.open()
    v.send(FIN | ACK, b"abc")
    v.send(RST, at=4)


@case
def reset_at_fin(v: Visit) -> None:
    v.open()
    v.send(FIN | ACK, b"abc")
    v.send(RST, at=3)


# ---- SYN, and flags that nobody sends -----------------------------------------------------------


def odd_flags(flags: int, at: int = 0, data: bytes = b"evil") -> Case:
    def script(v: Visit) -> None:
        v.open()
        v.send(flags, data, at=at)
        v.street.settle()
        v.send(data=b"good")

    return script


CASES |= {
    "syn_in_window": odd_flags(SYN, 10, b""),
    "syn_in_window_with_data": odd_flags(SYN, 0),
    "syn_exactly_next": odd_flags(SYN, 0, b""),
    "synack_in_window": odd_flags(SYN | ACK, 0, b""),
    "no_flags": odd_flags(0),
    "push_alone": odd_flags(PSH),
    "fin_alone": odd_flags(FIN),
    "syn_fin": odd_flags(SYN | FIN),
    "all_flags": odd_flags(0x3F),
    "syn_reset": odd_flags(SYN | RST),
    "fin_reset": odd_flags(FIN | RST),
    "fin_reset_ack": odd_flags(FIN | RST | ACK),
    "fin_reset_elsewhere": odd_flags(FIN | RST, 10),
}


@case
def data_on_syn_not_taken(v: Visit) -> None:
    v.send(SYN, b"early", at=-1)
    v.street.settle()
    v.nxt = v.answers()[-1].seq + 1
    v.send(at=5)
    v.send(data=b"EARLY")
    v.send(data=b"more", at=5)
    v.accept()


@case
def third_segment_lost_data_comes(v: Visit) -> None:
    v.send(SYN, at=-1)
    v.street.settle()
    v.nxt = v.answers()[-1].seq + 1
    v.send(data=b"data", at=0)
    v.send(data=b"more", at=4)
    v.accept()


# ---- acknowledgements ---------------------------------------------------------------------------


def odd_ack(by: int) -> Case:
    def script(v: Visit) -> None:
        v.open()
        v.send(data=b"evil", ack=v.nxt + by & 0xFFFFFFFF)
        v.send(data=b"good")

    return script


CASES |= {
    "ack_of_the_unsent": odd_ack(1),
}


# ---- FIN ----------------------------------------------------------------------------------------


@case
def fin_ahead_then_fin(v: Visit) -> None:
    v.open()
    v.send(FIN | ACK, at=100)
    v.send(FIN | ACK, b"all")
    v.send(data=b"beyond", at=4)


@case
def fin_on_early_byte(v: Visit) -> None:
    v.open()
    v.send(data=b"cdefgh", at=2)
    v.send(FIN | ACK, at=4)
    v.send(data=b"ab")


@case
def early_byte_on_fin(v: Visit) -> None:
    v.open()
    v.send(FIN | ACK, at=4)
    v.send(data=b"cdefgh", at=2)
    v.send(data=b"ab")


@case
def early_bytes_behind_fin(v: Visit) -> None:
    v.open()
    v.send(FIN | ACK, b"cd", at=2)
    v.send(data=b"efgh", at=4)
    v.send(data=b"ab")


@case
def fin_in_order_below_early_bytes(v: Visit) -> None:
    v.open()
    v.send(data=b"cdefgh", at=2)
    v.send(FIN | ACK, b"abc")


@case
def fin_on_early_byte_from_further_back(v: Visit) -> None:
    v.open()
    v.send(data=b"efgh", at=4)
    v.send(FIN | ACK, b"bcd", at=1)  # begins before them: its FIN stands where their first byte was
    v.send(data=b"a")


@case
def early_byte_beside_fin(v: Visit) -> None:
    v.open()
    v.send(FIN | ACK, b"cdef", at=2)
    v.send(data=b"FGHI", at=5)  # begins behind the segment of the FIN: the FIN stays
    v.send(data=b"ab")


@case
def two_early_fins_the_first_in_order_counts(v: Visit) -> None:
    v.open()
    v.send(FIN | ACK, at=9)
    v.send(FIN | ACK, at=5)
    v.send(data=b"ab")
    v.send(data=b"cdefghi", at=2)  # over one of them, up to the other


@case
def early_fin_then_bytes_in_order_over_it(v: Visit) -> None:
    v.open()
    v.send(FIN | ACK, at=2)
    v.send(data=b"abcd")
    v.send(data=b"efgh", at=4)


@case
def early_fin_that_is_refused_for_its_stamp(v: Visit) -> None:
    stamped(v)
    v.send(FIN | ACK, at=8, options=stamp(10))
    v.send(data=b"that goes on", at=4, options=stamp(1002))


@case
def fin_and_reset_at_an_early_fin(v: Visit) -> None:
    v.open(mss() + sack_permitted())
    v.send(FIN | ACK, b"late", at=4)
    v.send(RST, at=9)  # behind the early FIN, which is told by SACK as well


@case
def data_behind_fin(v: Visit) -> None:
    v.open()
    v.send(FIN | ACK, b"abc")
    v.send(data=b"x", at=3)
    v.send(data=b"yz", at=4)


@case
def fin_again_further_out(v: Visit) -> None:
    v.open()
    v.send(FIN | ACK, b"abc")
    v.send(FIN | ACK, b"abcdef")


# ---- the rest -----------------------------------------------------------------------------------


@case
def keepalive_with_garbage(v: Visit) -> None:
    v.open()
    v.send(data=b"abc")
    v.send(data=b"X", at=2)
    v.send(at=2)
    v.send(data=b"def", at=3)


def urgent(pointer: int) -> Case:
    def script(v: Visit) -> None:
        v.open()
        v.send(ACK | URG, b"abc!def", urgent=pointer)
        v.send(data=b"more", at=7)

    return script


CASES |= {f"urgent_pointer_{at}": urgent(at) for at in (0, 1, 4, 7, 9)}
CASES["urgent_pointer_far_out"] = urgent(60_000)


@case
def urgent_twice(v: Visit) -> None:
    v.open()
    v.send(ACK | URG, b"abc!", urgent=4)
    v.send(ACK | URG, b"def!", at=4, urgent=4)
    v.send(data=b"more", at=8)


# ---- signatures that nobody asked for (RFC 2385), and options of no known kind --------------------

MD5 = b"\x13\x12" + bytes(16) + b"\1\1"


def optioned(options: bytes, flags: int = ACK, *, stamps: bool = False) -> Case:
    def script(v: Visit) -> None:
        v.open(mss() + stamp(1000) if stamps else b"")
        own = stamp(1001) if stamps else b""
        v.send(data=b"good", options=own)
        v.send(flags, b"EVIL" if flags == ACK else b"", at=4, options=own + options)
        v.street.settle()
        v.send(data=b"more", at=4, options=own)

    return script


CASES |= {
    "md5_with_data": optioned(MD5),
    "md5_behind_a_stamp": optioned(MD5, stamps=True),
    "md5_with_fin": optioned(MD5, FIN | ACK),
    "md5_with_reset": optioned(MD5, RST | ACK),
    "md5_with_reset_behind_a_stamp": optioned(MD5, RST, stamps=True),
    "md5_of_another_length": optioned(b"\x13\4ab"),
    "option_of_no_known_kind": optioned(b"\xfd\4ab"),
    "option_of_length_0": optioned(b"\xfd\0ab"),
    "option_over_the_end": optioned(b"\xfd\x28ab"),
    "long_option_over_the_end": optioned(b"\xfd\x28" + bytes(18)),
}


# ---- the window's edge, 4096 bytes out ------------------------------------------------------------

EDGE = 4096
CONTENT = Random(7).randbytes(2 * EDGE)


def overrun(*cuts: tuple[int, int]) -> Case:
    def script(v: Visit) -> None:
        v.open()
        for begin, end in cuts:
            v.send(data=CONTENT[begin:end], at=begin)
            v.street.settle()

    return script


@case
def edge_overrun_early_all_read(v: Visit) -> None:
    v.open()
    edge = v.answers()[0].window
    v.send(data=b"Z" * 150, at=edge - 100)
    for at in range(0, edge - 100, 1000):
        v.send(data=b"a" * min(1000, edge - 100 - at), at=at)
        v.street.settle()
        v.read()


@case
def fin_at_the_edge(v: Visit) -> None:
    v.open()
    edge = v.answers()[0].window
    for at in range(0, edge, 1000):
        v.send(data=b"a" * min(1000, edge - at), at=at)
        v.street.settle()
        v.read()
    v.send(FIN | ACK, at=edge)
    v.send(at=edge + 1)


def fin_at_a_closed_window(v: Visit) -> None:
    v.open()
    v.send(data=CONTENT[:2048])
    v.send(data=CONTENT[2048:EDGE], at=2048)
    v.send(FIN | ACK, at=EDGE)


SMALL = {
    "fin_at_a_closed_window": fin_at_a_closed_window,
    "edge_exactly_reached": overrun((0, EDGE)),
    "edge_is_where_it_begins": overrun((0, 10), (EDGE, EDGE + 10), (10, EDGE)),
    "edge_overrun_by_the_first": overrun((0, EDGE + 100)),
    "edge_overrun_above_a_hole": overrun((10, EDGE + 100), (0, 10)),
    "edge_overrun_with_bytes_unread": overrun((0, 2048), (2048, EDGE + 100)),
}
CASES |= SMALL

#: What the engine does otherwise today, and whose part of it that is.
DIFFERS = {
    "urgent_twice": "an urgent byte unread when the next is announced stays in line: who knows when",
    "ack_of_the_unsent": "unsent, or missed by the tap? docs/decisions/0006",
    "edge_overrun_early_all_read": "taken if all was read, which no tap sees: a gap, at least",
}


OPTIONS = [options for options in ({"overlap": "linux"}, {"urgent": "oob"}) if offered(**options)]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.xfail(strict=True, reason=DIFFERS[name])])
        if name in DIFFERS
        else name
        for name in CASES
    ],
)
def test_odd_segment_the_socket_and_aiomos_agree(road: Street, name: str) -> None:
    with road.server.listen(SERVER, PORT) as listener:
        if name in SMALL:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, EDGE)
        visit = Visit(road, listener, 2**32 - 6)
        CASES[name](visit)
        road.settle()
        received = fate(visit)
        frames = list(road.frames)
        visit.close()
    options = {key: value for option in OPTIONS for key, value in option.items()}
    (seen,) = read(frames, **options)[visit.port, PORT]
    assert told(seen) == received
