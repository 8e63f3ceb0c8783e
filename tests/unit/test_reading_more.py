"""What readers do beyond asyncio.StreamReader: chunks, skip, low water, several separators."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import START
from kit import Notes, both_tasks, play
from readings import holed, noted, slow

import aiomos

pytestmark = both_tasks


# ---- chunks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("burst", [1, 7, 64])
def test_chunks_have_offset_and_time_whatever_the_burst(tasks, burst):
    async def handler(flow, notes):
        async for chunk in flow.client.chunks():
            notes.append((chunk.offset, bytes(chunk), round(chunk.time - START / 1e9, 3)))

    script = slow(b"ab", b"cde", pause=1)
    notes = noted(handler, script, tasks=tasks, burst=burst)
    assert notes == [(0, b"ab", 1.003), (2, b"cde", 2.005)]


def test_chunk_behind_a_filled_hole_has_the_time_of_what_filled_it(tasks):
    async def handler(flow, notes):
        async for chunk in flow.client.chunks():
            notes.append((chunk.offset, len(chunk), round(chunk.time - START / 1e9, 3)))

    def script(t):
        t.handshake()
        t.c(b"late", at=4)
        t.rest(1)
        t.c(b"hole", at=0)
        t.s()
        t.close()

    assert noted(handler, script, tasks=tasks) == [(0, 8, 1.004)]


# ---- skip ---------------------------------------------------------------------------------------


def test_skip_passes_bytes_over_packets_and_says_how_many(tasks):
    async def handler(flow, notes):
        notes.append(await flow.client.skip(5))
        notes.append((flow.client.offset, await flow.client.read(2)))
        notes.append(await flow.client.skip(0))
        notes.append(await flow.client.skip(100))
        notes.append(await flow.client.skip(100))

    script = slow(b"abc", b"defg", b"hi")
    assert noted(handler, script, tasks=tasks, burst=1) == [5, (5, b"fg"), 0, 2, 0]


def test_skip_of_more_than_the_limit_loses_nothing(tasks):
    async def handler(flow, notes):
        notes.append(await flow.client.skip(2000))
        notes.append(await flow.client.read())

    script = slow(*[bytes([65 + i]) * 100 for i in range(21)], pause=0)
    assert noted(handler, script, tasks=tasks, limit=150) == [2000, b"U" * 100]


def test_skip_of_a_negative_number_is_a_value_error(tasks):
    async def handler(flow, notes):
        with pytest.raises(ValueError, match="less than zero"):
            await flow.client.skip(-1)

    assert noted(handler, slow(b"x"), tasks=tasks) == []


def test_skip_counts_missing_bytes_and_raises_nothing(tasks):
    async def handler(flow, notes):
        notes.append(await flow.client.skip(15))
        notes.append((flow.client.offset, await flow.client.read()))

    assert noted(handler, holed, tasks=tasks) == [15, (15, b"xyz")]


def test_skip_into_a_gap_leaves_the_rest_of_it_to_be_met(tasks):
    async def handler(flow, notes):
        notes.append(await flow.client.skip(7))
        with pytest.raises(aiomos.GapError) as gap:
            await flow.client.read(1)
        notes.append((gap.value.offset, gap.value.length, gap.value.cause))
        notes.append((flow.client.offset, await flow.client.read()))

    expected = [7, (7, 7, "acked_unseen"), (14, b"wxyz")]
    assert noted(handler, holed, tasks=tasks) == expected


# ---- low water ----------------------------------------------------------------------------------


def test_low_water_read_waits_for_so_many_bytes(tasks):
    async def handler(flow, notes):
        flow.client.set_low_water(4)
        while data := await flow.client.read(100):
            notes.append(data)

    script = slow(b"ab", b"c", b"de", b"f")
    assert noted(handler, script, tasks=tasks) == [b"abcde", b"f"]


def test_low_water_read_waits_for_no_more_than_it_asked_for(tasks):
    async def handler(flow, notes):
        flow.client.set_low_water(50)
        notes.append(await flow.client.read(2))
        notes.append(await flow.client.read(2))

    assert noted(handler, slow(b"a", b"bc"), tasks=tasks, burst=1) == [b"ab", b"c"]


def test_low_water_does_not_hold_back_what_stands_before_a_gap(tasks):
    async def handler(flow, notes):
        flow.client.set_low_water(100)
        notes.append(await flow.client.read(1000))
        with pytest.raises(aiomos.GapError):
            await flow.client.read(1000)
        notes.append(await flow.client.read(1000))

    assert noted(handler, holed, tasks=tasks) == [b"abcd", b"wxyz"]


@pytest.mark.parametrize("bytes_", [0, 201])
def test_low_water_out_of_range_is_a_value_error(tasks, bytes_):
    async def handler(flow, notes):
        with pytest.raises(ValueError, match="from 1 to the limit, 200"):
            flow.client.set_low_water(bytes_)

    assert noted(handler, slow(b"x"), tasks=tasks, limit=200) == []


# ---- readuntil with several separators ----------------------------------------------------------


def test_readuntil_takes_the_separator_that_ends_first(tasks):
    async def handler(flow, notes):
        for _ in range(3):
            notes.append(await flow.client.readuntil((b"\r\n", b"\n", b"--end--")))

    script = slow(b"one\r", b"\ntwo\nthree--e", b"nd--x")
    assert noted(handler, script, tasks=tasks) == [b"one\r\n", b"two\n", b"three--end--"]


@pytest.mark.parametrize("none", [(), (b"",), (b"x", b""), b""])
def test_readuntil_without_a_separator_is_a_value_error(tasks, none):
    async def handler(flow, notes):
        with pytest.raises(ValueError, match="Separator should"):
            await flow.client.readuntil(none)

    assert noted(handler, slow(b"x"), tasks=tasks) == []


class OwnBytes(bytes):
    pass


@pytest.mark.parametrize("kind", [bytearray, memoryview, OwnBytes])
def test_readuntil_takes_any_bytes_as_a_separator(tasks, kind):
    async def handler(flow, notes):
        notes.append(await flow.client.readuntil(kind(b"\r\n")))
        notes.append(await flow.client.readuntil((kind(b"--"), kind(b"\n"))))

    script = slow(b"one\r", b"\ntwo-", b"-")
    assert noted(handler, script, tasks=tasks) == [b"one\r\n", b"two--"]


@pytest.mark.parametrize("other", ["\n", 1, (b"x", 1), None])
def test_readuntil_of_what_is_no_bytes_is_a_type_error(tasks, other):
    async def handler(flow, notes):
        with pytest.raises(TypeError, match="bytes-like object"):
            await flow.client.readuntil(other)

    assert noted(handler, slow(b"x"), tasks=tasks) == []


# ---- several handlers ---------------------------------------------------------------------------


def test_two_handlers_each_have_their_own_cursor_over_the_same_bytes(tasks):
    notes = Notes()
    app = aiomos.App()

    @app.tcp()
    async def lines(flow):
        async for line in flow.client.lines():
            notes.append(("line", line))

    @app.tcp(limit=4)
    async def all_of_it(flow):
        await flow.sleep(0.5)
        notes.append(("all", await flow.client.read()))

    play(app, slow(b"a\nb\n", pause=1), tasks=tasks, burst=1)
    assert sorted(notes) == [("all", b"a\nb\n"), ("line", b"a"), ("line", b"b")]
