"""Segments that no honest host sends, against a plain model of both receivers.

A script is a list of steps; what each means in numbers is decided when it is played, from where
the model stands: around the next byte, the edges of windows, early bytes and FINs. Acknowledgements
are honest (the tap stands at the receivers: what it has not seen, they have not got); everything
else is not. A script that fails is shrunk and written to tests/property/failures/.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hypothesis import given, note, settings
from hypothesis import strategies as st

import aiomos
from aiomos._engine._testcore import CoreDriver

sys.path.append(str(Path(__file__).parent))
from receiver_model import END, TURN, Connection, Segment

sys.path.append(str(Path(__file__).parents[1]))
from craft import (
    ACK,
    CLIENT,
    FIN,
    RST,
    SERVER,
    SYN,
    Talk,
    assert_idle,
    merged,
    timestamp,
    window_scale,
)

FULL = os.environ.get("AIOMOS_FULL", "") not in ("", "0")
FAILURES = Path(__file__).parent / "failures"
ISNS = [(1000, 2000), (2**32 - 1, 0), (2**32 - 30, 2**31 - 20), (2**32 - 2, 2**32 - 60)]
CLOCKS = [None]  # until the engine has PAWS: [None, None, 1000, TURN - 20]
WIDE = 60  # bytes of the largest window: small, so that segments meet its edges

Frames = list[tuple[bytes, int]]


class Step(NamedTuple):
    """One segment, in words of the model."""

    side: int
    kind: str
    anchor: str = "next"
    delta: int = 0
    data: bytes = b""
    window: int = 0
    age: int = 0  # of its time stamp: such older than the sender's clock


sides = st.integers(0, 1)
anchors = st.sampled_from(["next", "next", "edge", "top", "zero", "half", "fin"])
deltas = st.integers(-6, 6)
texts = st.binary(max_size=12)
kinds = st.sampled_from(
    ["data"] * 10 + ["fin"] * 3 + ["syn", "synack", "bare", "christmas", "keep"]
)
windows = st.integers(0, WIDE)


ages = st.sampled_from([0] * 8 + [1, 10, 500, 1 << 31, -3])


def step(kind, anchor="next", delta=0, data=b"", window=0, age=ages):
    """Steps of either side; arguments are values or strategies."""
    given_or_just = [
        value if isinstance(value, st.SearchStrategy) else st.just(value)
        for value in (kind, anchor, delta, data, window, age)
    ]
    return st.tuples(sides, *given_or_just).map(lambda values: Step(*values))


invented = step(kinds, anchors, deltas, texts)
in_order = step("data", data=texts)
resets = step("rst", anchors, deltas)
moves = step("ack", window=windows)
ends = step("fin", data=texts)
scripts = st.lists(st.one_of(invented, invented, in_order, moves, moves, resets, ends), max_size=40)
FLAGS = {
    "data": ACK,
    "fin": FIN | ACK,
    "syn": SYN,
    "synack": SYN | ACK,
    "bare": 0x08,
    "christmas": 0x3B,  # without RST, which with others beside it is doubtful
    "rst": RST,
    "ack": ACK,
    "keep": ACK,
}


#: What the engine is known to do otherwise (unit/test_core_adversary.py has each by itself).
KNOWN = {"doubtful"}


def stamped(stamp: int | None) -> bytes:
    return b"" if stamp is None else timestamp(stamp)


class Stage:
    """Plays steps: gives each to the model, and as a frame to the tap."""

    def __init__(
        self, isns: tuple[int, int], scale: int, windows: tuple[int, int], clock: int | None
    ) -> None:
        self.frames: Frames = []
        self.scale = scale
        self.ends: tuple[set[int], set[int]] = (set(), set())  # of every segment said
        self.talk = Talk(lambda raw, now: self.frames.append((raw, now)), isn=isns)
        self.clock = clock  # of both ends' time stamps; None: they do not use them
        self.windows = [size >> scale for size in windows]  # in the field's unit
        options = window_scale(scale) if scale else b""
        stamp = stamped(clock)
        synack = min(self.windows[SERVER], WIDE)
        self.talk.c(flags=SYN, options=options + stamp, window=5)
        self.talk.s(flags=SYN | ACK, options=options + stamp, window=synack)
        self.talk.c(window=self.windows[CLIENT], options=stamp)
        self.model = Connection((synack, self.windows[CLIENT] << scale))
        for stream in self.model.sent:
            stream.stamp = clock
        self.windows[SERVER] = synack >> scale  # what it may say again without widening it

    def play(self, step: Step) -> None:
        model, flags = self.model, FLAGS[step.kind]
        peer = model.sent[1 - step.side]
        ack, at, data = peer.acked, self.position(step), step.data
        if step.kind == "ack":
            ack, at = peer.nxt, model.sent[step.side].nxt
            self.windows[step.side] = step.window >> self.scale
        if step.kind == "keep":
            at, data = model.sent[step.side].nxt - 1, step.data[:1]
        if "doubtful" in KNOWN and step.kind == "rst" and self.is_doubtful(step.side, at):
            return
        if "in order" in KNOWN and at <= model.sent[step.side].nxt:
            data = self.agreeing(step.side, at, data)
        self.ends[step.side].add(at + len(data))
        if step.kind in ("syn", "synack") and model.reason:
            return  # might open another connection
        window = self.windows[step.side]
        if self.clock is not None:
            self.clock += 1
        stamp = None if self.clock is None else (self.clock - step.age) % TURN
        self.send(step.side, Segment(flags, at, data, ack, window << self.scale, stamp))

    def send(self, side: int, segment: Segment) -> None:
        self.model.arrives(side, segment)
        raw = self.talk.segment(
            side,
            segment.flags,
            segment.data,
            at=segment.at,
            ack=segment.ack,
            window=segment.window >> self.scale,
            options=stamped(segment.stamp),
        )
        self.talk.give(raw)

    def position(self, step: Step) -> int:
        stream = self.model.sent[step.side]
        fins = [at for at, symbol in stream.ahead.items() if symbol == END]
        return (
            step.delta
            + {
                "next": stream.nxt,
                "edge": stream.edge,
                "top": max([stream.nxt, *stream.ahead]),
                "zero": 0,
                "half": stream.nxt + (1 << 31) + 10,
                "fin": min(fins, default=stream.nxt),
            }[step.anchor]
        )

    def is_doubtful(self, side: int, at: int) -> bool:
        """A reset at one of these numbers is exact for a receiver that has got more or less than
        the tap has seen (unit/test_core_doubtful_resets.py)."""
        stream = self.model.sent[side]
        if at > stream.nxt and at in self.ends[side]:  # of a byte that found a closed window, too
            return True
        if stream.ended and at == stream.nxt - 1:  # the FIN itself: as macOS sends it
            return True
        return at != stream.nxt and at in (stream.acked, max(stream.ahead, default=at) + 1)

    def agreeing(self, side: int, at: int, data: bytes) -> bytes:
        """With the early bytes that lie there."""
        early = self.model.sent[side].ahead
        found = (early.get(position, byte) for position, byte in enumerate(data, at))
        return bytes(byte for byte in found if byte != END)


def bursts(frames: Frames, sizes: list[int]) -> Iterator[Frames]:
    """The frames in bursts of these sizes, again and again."""
    at = turn = 0
    while at < len(frames):
        yield frames[at : at + sizes[turn % len(sizes)]]
        at += sizes[turn % len(sizes)]
        turn += 1


def replay(frames: Frames, sizes: list[int]) -> tuple[list, dict[str, int]]:
    """What the engine tells: of each flow, and in its counters."""
    driver = CoreDriver()
    for burst in bursts(frames, sizes):
        driver.burst(burst)
    states = [log.states for log in driver.flows]
    driver.close_all()
    told = [
        (state, log.events, [merged(items) for items in log.items], log.eof)
        for state, log in zip(states, driver.flows, strict=True)
    ]
    counters = driver.counters()
    assert_idle(driver)
    return told, counters


def expected(model: Connection) -> tuple:
    """The same of the model: states, reason, bytes and holes, ends."""
    names = tuple(state.name for state in model.states)
    streams = [stream.told() for stream in model.sent]
    items, ended = zip(*streams, strict=True)
    return names, model.reason or "CAPTURE_END", list(items), list(ended)


def compare(stage: Stage, sizes: list[int]) -> None:
    told, counters = replay(stage.frames, [1])
    ((states, events, items, eof),) = told
    holes = [[i[:2] if isinstance(i, tuple) else i for i in side] for side in items]
    assert (states, events[-1][1], holes, eof) == expected(stage.model)
    for cut in ([7], [64], sizes):
        assert replay(stage.frames, cut) == (told, counters)


def save(frames: Frames, name: str) -> Path:
    """Keeps the frames of a failure: of the shrunk one in the end, since that is played last."""
    FAILURES.mkdir(exist_ok=True)
    path = FAILURES / f"{name}.pcap"
    with aiomos.Writer(path, format="pcap-ns") as writer:
        for frame in frames:
            writer.write(frame)
    return path


@settings(max_examples=4000 if FULL else 400, deadline=None)
@given(
    steps=scripts,
    isns=st.sampled_from(ISNS),
    scale=st.sampled_from([0, 0, 2]),
    first=st.tuples(windows, windows),
    clock=st.sampled_from(CLOCKS),
    sizes=st.lists(st.integers(1, 64), min_size=1, max_size=5),
)
def test_any_segments_both_receivers_are_as_the_model_says(steps, isns, scale, first, clock, sizes):
    stage = Stage(isns, scale, first, clock)
    for step in steps:
        stage.play(step)
    try:
        compare(stage, sizes)
    except AssertionError:
        path = save(stage.frames, "test_any_segments_both_receivers_are_as_the_model_says")
        note(f"capture: {path}")
        raise
