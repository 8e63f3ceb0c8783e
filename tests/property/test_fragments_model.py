"""Reassembly against a plain model: a dictionary of bytes a datagram.

Fragments of random datagrams come in any order, repeated, mixed, with bytes changed and borders
moved, each kind with every policy; what is delivered must be what the model delivers.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomos._engine._testcore import CoreDriver

sys.path.append(str(Path(__file__).parents[1]))
from craft import IP6, MILLISECOND, START, UDP, assert_idle, ethernet, fragment6, ipv4, ipv6, udp

ENDS = {4: ("10.0.0.1", "10.0.0.2"), 6: ("fd00::1", "fd00::2")}


class Datagram:
    """One identification: byte by byte."""

    def __init__(self) -> None:
        self.bytes: dict[int, int] = {}
        self.pieces: list[tuple[int, bytes]] = []
        self.size: int | None = None
        self.dropped = False

    def add(self, policy: str, offset: int, data: bytes, more: bool) -> bytes | None:
        """The whole body, when this fragment completes it."""
        end = offset + len(data)
        top = max(self.bytes, default=-1) + 1
        if self.dropped:
            return None
        bad = end > self.size if self.size is not None else not more and end < top
        if bad or (not more and self.size not in (None, end)):
            self.dropped = True
            return None
        over = [i for i in range(offset, end) if i in self.bytes]
        if over and policy == "discard":
            tells_size = not more and self.size is None
            self.dropped = (offset, data) not in self.pieces or tells_size
            return None
        self.pieces.append((offset, data))
        for i in range(offset, end):
            if policy == "last" or i not in self.bytes:
                self.bytes[i] = data[i - offset]
        if not more:
            self.size = end
        if self.size is None or len(self.bytes) < self.size:
            return None
        return bytes(self.bytes[i] for i in range(self.size))


def model(policy, fragments):
    """Payloads delivered, in order."""
    kept: dict[int, Datagram] = {}
    out = []
    for ident, offset, data, more in fragments:
        body = kept.setdefault(ident, Datagram()).add(policy, offset, data, more)
        if body is None:
            continue
        del kept[ident]
        length = int.from_bytes(body[4:6], "big")
        if length <= len(body):
            out.append(body[8:length])
    return out


def frame(version, ident, offset, data, more):
    if version == 4:
        field = (0x2000 if more else 0) | offset >> 3
        return ethernet(ipv4(data, *ENDS[4], UDP, ident=ident, fragment=field))
    chain = [fragment6(offset >> 3, more, ident)]
    return ethernet(ipv6(data, *ENDS[6], UDP, extensions=chain), IP6)


@st.composite
def pieces_of(draw, ident, version):
    """A datagram in pieces of random sizes, some of them twice."""
    size = draw(st.integers(1, 400))
    body = udp(
        5000, 53, bytes((ident * 31 + i * 7) & 0xFF for i in range(size)), ends=ENDS[version]
    )
    units = (len(body) + 7) // 8
    cuts = sorted(draw(st.sets(st.integers(1, units), max_size=12)) - {units})
    marks = [8 * c for c in [0, *cuts, units]]
    pieces = [(ident, a, body[a:b], b < len(body)) for a, b in zip(marks, marks[1:], strict=False)]
    if len(pieces) == 1:  # whole: not a fragment
        return []
    return pieces + draw(st.lists(st.sampled_from(pieces), max_size=4))


@st.composite
def honest(draw):
    version = draw(st.sampled_from([4, 6]))
    parts = [piece for ident in range(4) for piece in draw(pieces_of(ident, version))]
    return version, draw(st.permutations(parts))


@st.composite
def hostile(draw):
    """Some of them moved, made longer or changed; the UDP header always stays itself."""
    version, parts = draw(honest())
    spoiled = []
    for ident, offset, data, more in parts:
        act = draw(st.sampled_from(["keep"] * 4 + ["change", "again", "shift", "end", "grow"]))
        if act == "again" or act == "shift":
            spoiled.append((ident, offset, data, more))
        if act in ("change", "again") and (offset or len(data) > 8):
            at = draw(st.integers(0 if offset else 8, len(data) - 1))
            data = data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
        elif act == "shift" and offset > 8:
            offset -= 8
        elif act == "end" and offset:
            more = not more
            data = data if not more else data[: len(data) // 8 * 8]
        elif act == "grow":
            data += b"grown..." if more else b""
        if data:
            spoiled.append((ident, offset, data, more))
    return version, spoiled


def run(policy, version, fragments, bursts):
    driver = CoreDriver(fragments=policy)
    frames = [
        (frame(version, *fragment), START + i * MILLISECOND) for i, fragment in enumerate(fragments)
    ]
    for at in range(0, len(frames), bursts):
        driver.burst(frames[at : at + bursts])
    got = [data for flow in driver.flows for _, data, _ in flow.datagrams]
    assert_idle(driver)
    held = driver.usage()
    assert (held["datagrams"], held["fragment_bytes"]) == (0, 0)
    return got


@given(honest(), st.sampled_from([1, 7, 64]))
@settings(max_examples=150, deadline=None)
@pytest.mark.parametrize("policy", ["discard", "first", "last"])
def test_fragments_in_any_order_with_repeats_give_what_the_model_gives(policy, case, bursts):
    version, fragments = case
    got = run(policy, version, fragments, bursts)
    assert got == model(policy, fragments)


@given(hostile(), st.sampled_from([1, 7, 64]))
@settings(max_examples=200, deadline=None)
@pytest.mark.parametrize("policy", ["discard", "first", "last"])
def test_fragments_that_contradict_each_other_give_what_the_model_gives(policy, case, bursts):
    version, fragments = case
    assert run(policy, version, fragments, bursts) == model(policy, fragments)
