"""What must not depend on how frames are cut into bursts, nor on where they come from.

semantics.md 1.3: the concatenated bytes, gaps other than slow_reader, flow records with their
fields and order, and calls of plain packet functions are the same for bursts of 1, 7 and 64,
for frames in random segments and from rings, from memory, from a file and through a pipe.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, FIN, RST, START, Talk

import aiomos
from aiomos._engine.source import read_all
from aiomos.flows import make_app

CAPTURES = Path(__file__).parents[1] / "captures"
OWN = sorted(p for p in CAPTURES.iterdir() if ".pcap" in p.name)
BURSTS = (1, 7, 64)


def records(source, **options):
    """Everything that is promised to be independent, of one run."""
    bytes_of, gaps, packets, lines = {}, [], hashlib.sha256(), []
    app = make_app(lines.append, digest="sha256", udp=True)

    @app.tcp(start="syn", sides="client", limit=1 << 24)
    async def client_side(flow):
        await read("client", flow, flow.client)

    @app.tcp(start="syn", sides="server", limit=1 << 24)
    async def server_side(flow):
        await read("server", flow, flow.server)

    async def read(side, flow, end):
        digest = hashlib.sha256()
        try:
            while True:
                try:
                    data = await end.read(1 << 20)
                except aiomos.GapError as gap:
                    gaps.append((flow.id, side, gap.offset, gap.length, gap.cause))
                    continue
                if not data:
                    outcome = "end"
                    break
                digest.update(data)
        except aiomos.FlowError as error:
            outcome = type(error).__name__
        bytes_of[flow.id, side] = digest.hexdigest(), end.offset, end.complete, outcome

    @app.packet()
    def packet(packet):
        packets.update(b"%d %d " % (packet.time_ns, len(packet)) + bytes(packet))

    summary = aiomos.run(app, source, **options)
    assert summary.handler_errors == 0
    return {
        "lines": lines,
        "bytes": bytes_of,
        "gaps": sorted(gaps),
        "packets": packets.hexdigest(),
        "received": summary.received,
        "counters": dict(summary.counters),
    }


def sources(frames, **fixed):
    """The same frames from memory: whole, in random segments, from rings."""
    yield "memory", aiomos.MemorySource(frames, **fixed)
    for seed in (1, 2):
        yield f"segments {seed}", aiomos.MemorySource(frames, segment_seed=seed, **fixed)
    yield "ring", aiomos.MemorySource(frames, ring=True, **fixed)
    yield "ring, segments", aiomos.MemorySource(frames, ring=True, segment_seed=3, **fixed)


def piped(path):
    """A FIFO into which somebody writes the file."""
    folder = Path(tempfile.mkdtemp())
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    content = path.read_bytes()

    def feed():
        with open(fifo, "wb") as out:
            for at in range(0, len(content), 777):
                out.write(content[at : at + 777])

    thread = threading.Thread(target=feed)
    thread.start()
    return fifo, thread, folder


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_own_capture_cut_into_any_bursts_gives_the_same(path):
    whole = records(path)
    assert whole["lines"]
    for burst in BURSTS:
        assert records(path, burst=burst) == whole, burst
    for burst in BURSTS:
        assert records(path, burst=burst, tasks="asyncio") == whole, burst


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_own_capture_from_memory_in_segments_or_rings_gives_the_same(path):
    whole = records(path)
    with aiomos.open_files(path) as source:
        frames = read_all(source)
    for burst in BURSTS:
        for name, source in sources(frames):
            source.finish()
            with source:
                assert records(source, burst=burst) == whole, (name, burst)


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_own_capture_through_a_pipe_or_gzip_gives_the_same(path, tmp_path):
    whole = records(path)
    fifo, thread, folder = piped(path)
    try:
        assert records(fifo) == whole
    finally:
        thread.join(10)
        fifo.unlink()
        folder.rmdir()
    if path.suffix != ".gz":
        packed = tmp_path / f"{path.name}.gz"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        assert records(packed) == whole


@pytest.mark.parametrize("burst", [*BURSTS, 2, 3])
def test_hour_between_two_frames_wherever_a_burst_ends_loses_nothing(burst):
    """Such a stamp is judged with the one after it, which a ring gives only for all frames back."""
    frames = []
    talk = Talk(lambda raw, at: frames.append((raw, at)))
    talk.handshake()
    for _ in range(7):
        talk.c(b"x")
        talk.s(b"y")
        talk.rest(3500)
    talk.rest(4000)
    talk.c(b"x")
    talk.rest(4000)
    talk.close()
    whole = records(finished(aiomos.MemorySource(frames)))
    assert whole["received"] == len(frames)
    for name, source in sources(frames):
        with finished(source):
            assert records(source, burst=burst) == whole, name


def finished(source):
    source.finish()
    return source


# ---- random conversations ----------------------------------------------------------------------


class Frames(list):
    """Frames whose representation is short enough to be shown: the payload only begun."""

    def __repr__(self):
        shown = [f"({raw[:64].hex()}[{len(raw)}], {at - START})" for raw, at in self]
        return f"<{', '.join(shown)}>"


@st.composite
def conversations(draw):
    """Frames of a few connections: lost, repeated, out of order, cut short, reset, reused."""
    frames = []
    for number in range(draw(st.integers(1, 3))):
        isn = draw(st.sampled_from([(1000, 5000), (0xFFFFFF00, 0xFFFFFFF0), (7, 0x7FFFFFFE)]))
        talk = Talk(
            lambda raw, at: frames.append((raw, at)),
            client=("10.0.0.1", 40000 + draw(st.integers(0, 1))),
            isn=isn,
            at=START + number * draw(st.integers(0, 3_000_000)) * 1000,
        )
        if draw(st.booleans()) or number == 0:
            talk.handshake()
        for _ in range(draw(st.integers(0, 12))):
            step(draw, talk)
        ending = draw(st.sampled_from(["none", "fin", "half", "reset"]))
        if ending == "fin":
            talk.close()
        elif ending == "half":
            talk.c(flags=FIN | ACK)
        elif ending == "reset":
            talk.s(flags=RST | ACK)
    return spoil(draw, sorted(frames, key=lambda frame: frame[1]))


def step(draw, talk):
    side = draw(st.integers(0, 1))
    data = draw(st.binary(max_size=1)) * draw(st.sampled_from([0, 1, 2, 100, 1460, 20_000]))
    match draw(st.sampled_from(["say", "say", "say", "ack", "again", "hole", "rest", "old"])):
        case "say":
            talk.say(side, ACK, data)
        case "ack":
            talk.say(side, ACK)
        case "again":
            at = draw(st.integers(0, talk.ends[side].sent))
            talk.say(side, ACK, data, at=at)
        case "hole":
            talk.skip(side, draw(st.integers(1, 3000)))
        case "rest":
            talk.rest(draw(st.sampled_from([0.05, 0.19, 0.3, 1.5, 30, 4000])))
        case "old":
            talk.say(side, ACK, data, at=0, ack=0)


def spoil(draw, frames):
    """Loses, doubles and exchanges frames; times stay in order."""
    times = [at for _, at in frames]
    raws = [raw for raw, _ in frames]
    for _ in range(draw(st.integers(0, 4))):
        if len(raws) < 3:
            break
        at = draw(st.integers(0, len(raws) - 2))
        match draw(st.sampled_from(["lose", "double", "exchange"])):
            case "lose":
                del raws[at], times[at]
            case "double":
                raws.insert(at, raws[at])
                times.insert(at, times[at])
            case "exchange":
                raws[at], raws[at + 1] = raws[at + 1], raws[at]
    return Frames(zip(raws, times, strict=True))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(conversations())
def test_random_conversation_gives_the_same_in_any_bursts_from_any_source(frames):
    whole = None
    for burst in BURSTS:
        for name, source in sources(frames):
            source.finish()
            with source:
                found = records(source, burst=burst)
            whole = whole or found
            assert found == whole, (name, burst)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(conversations())
def test_random_conversation_gives_the_same_from_memory_and_from_a_file(frames):
    source = aiomos.MemorySource(frames)
    source.finish()
    with source, tempfile.TemporaryDirectory() as folder:
        whole = records(source)
        path = Path(folder) / "capture.pcap"
        with aiomos.Writer(path, format="pcap-ns") as writer:
            for frame in frames:
                writer.write(frame)
        assert records(path) == whole
        assert records(path, tasks="asyncio") == whole
