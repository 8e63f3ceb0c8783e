"""Reading an end of a flow: what asyncio.StreamReader does, to the letter."""

from __future__ import annotations

import asyncio
import functools
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, CLIENT, FIN, PSH, RST, SERVER, START
from kit import both_tasks, whole
from readings import in_pieces, noted

import aiomos

pytestmark = both_tasks


read_with = functools.partial(noted, burst=64)


async def all_reads(end, n):
    found = []
    while data := await end.read(n):
        found.append(data)
    return found


# ---- read ------------------------------------------------------------------------------------


def test_open_stream_read_n_gives_at_most_n_and_at_least_one_byte(tasks):
    async def handler(flow, notes):
        notes.extend(await all_reads(flow.client, 4))

    notes = read_with(handler, in_pieces(b"abcdef", b"gh"), tasks=tasks, burst=1)
    assert notes == [b"abcd", b"ef", b"gh"]


def test_open_stream_read_without_n_gives_everything_up_to_the_end(tasks):
    async def handler(flow, notes):
        notes.append(await flow.client.read())
        notes.append(await flow.client.read())
        notes.append(await flow.client.read(5))

    assert read_with(handler, in_pieces(b"abc", b"def"), tasks=tasks) == [b"abcdef", b"", b""]


def test_open_stream_read_zero_gives_nothing_at_once(tasks):
    async def handler(flow, notes):
        notes.append(await flow.client.read(0))
        notes.append(await flow.client.readexactly(0))
        notes.append(await flow.client.read(1))

    assert read_with(handler, in_pieces(b"abc"), tasks=tasks) == [b"", b"", b"a"]


def test_sides_read_by_turns_give_each_what_its_end_sent(tasks):
    async def handler(flow, notes):
        for _ in range(2):
            notes.append(await flow.client.readexactly(3))
            notes.append(await flow.server.readexactly(3))

    def script(t):
        t.handshake()
        for n in range(2):
            t.c(b"C%d." % n)
            t.s(b"S%d." % n)
        t.close()

    assert read_with(handler, script, tasks=tasks) == [b"C0.", b"S0.", b"C1.", b"S1."]


def test_stream_that_wraps_its_sequence_numbers_is_read_through(tasks):
    data = bytes(range(256)) * 40

    async def handler(flow, notes):
        notes.append(await flow.client.read())
        notes.append(flow.client.offset)

    def script(t):
        t.ends[CLIENT].isn = 0xFFFFF000
        whole(data)(t)

    assert read_with(handler, script, tasks=tasks) == [data, len(data)]


# ---- readexactly -------------------------------------------------------------------------------


def test_stream_of_pieces_readexactly_gives_exactly_n(tasks):
    async def handler(flow, notes):
        notes.append(await flow.client.readexactly(5))
        notes.append(await flow.client.readexactly(1))

    assert read_with(handler, in_pieces(b"ab", b"cd", b"ef"), tasks=tasks) == [b"abcde", b"f"]


def test_ended_stream_readexactly_raises_with_what_there_was(tasks):
    async def handler(flow, notes):
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await flow.client.readexactly(10)
        notes.extend([caught.value.partial, caught.value.expected])
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await flow.client.readexactly(1)
        notes.append(caught.value.partial)

    assert read_with(handler, in_pieces(b"abc"), tasks=tasks) == [b"abc", 10, b""]


def test_readexactly_negative_is_a_value_error(tasks):
    async def handler(flow, notes):
        with pytest.raises(ValueError, match="less than zero"):
            await flow.client.readexactly(-1)
        notes.append("raised")

    assert read_with(handler, in_pieces(b"abc"), tasks=tasks) == ["raised"]


@pytest.mark.parametrize("burst", [1, 7, 64])
def test_readexactly_above_the_limit_gives_it_all(tasks, burst):
    data = bytes(i % 251 for i in range(50_000))

    async def handler(flow, notes):
        notes.append(await flow.client.readexactly(40_000) == data[:40_000])
        notes.append(await flow.client.read() == data[40_000:])

    notes = read_with(handler, whole(data), tasks=tasks, limit=1000, burst=burst)
    assert notes == [True, True]


# ---- readuntil and readline --------------------------------------------------------------------


def test_separator_cut_by_segments_readuntil_finds_it(tasks):
    async def handler(flow, notes):
        notes.append(await flow.client.readuntil(b"\r\n\r\n"))
        notes.append(await flow.client.readuntil(b"\r\n\r\n"))

    pieces = [b"a: 1\r", b"\n\r", b"\nb: 2\r\n", b"\r", b"\n"]
    notes = read_with(handler, in_pieces(*pieces), tasks=tasks, burst=1)
    assert notes == [b"a: 1\r\n\r\n", b"b: 2\r\n\r\n"]


def test_ended_stream_readuntil_raises_incomplete_with_the_rest(tasks):
    async def handler(flow, notes):
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await flow.client.readuntil(b";")
        notes.extend([caught.value.partial, caught.value.expected])

    assert read_with(handler, in_pieces(b"abc"), tasks=tasks) == [b"abc", None]


def test_readuntil_without_a_separator_is_a_value_error(tasks):
    async def handler(flow, notes):
        with pytest.raises(ValueError, match="at least one-byte"):
            await flow.client.readuntil(b"")
        notes.append("raised")

    assert read_with(handler, in_pieces(b"abc"), tasks=tasks) == ["raised"]


class StandIn:
    """The same calls on asyncio.StreamReader, as the model."""

    def __init__(self, data, limit):
        self.data = data
        self.limit = limit

    def outcome(self, calls):
        async def run():
            reader = asyncio.StreamReader(limit=self.limit)
            reader.feed_data(self.data)
            reader.feed_eof()
            return await outcomes(reader, calls)

        return asyncio.run(run())


async def outcomes(reader, calls):
    found = []
    for name, *args in calls:
        try:
            found.append(await getattr(reader, name)(*args))
        except asyncio.IncompleteReadError as error:
            found.append(("incomplete", error.partial, error.expected))
        except asyncio.LimitOverrunError as error:
            found.append(("overrun", error.consumed, str(error)))
        except ValueError as error:
            found.append(("value", str(error)))
    return found


OVERRUNS = {
    "separator_found_beyond_the_limit": (
        b"x" * 60 + b"\nnext\n",
        [("readuntil",), ("readexactly", 61), ("readline",)],
    ),
    "separator_not_there": (b"x" * 60, [("readuntil",), ("read", 100)]),
    "separator_right_at_the_limit": (b"x" * 32 + b"\nnext\n", [("readuntil",), ("readuntil",)]),
    "separator_one_behind_the_limit": (b"x" * 33 + b"\nnext\n", [("readuntil",), ("readline",)]),
    "long_separator": (b"x" * 40 + b"--endnext", [("readuntil", b"--end"), ("read", 3)]),
    "overlong_line_found": (b"x" * 60 + b"\nnext\n", [("readline",), ("readline",)]),
    "overlong_line_not_found": (b"x" * 60, [("readline",), ("readline",)]),
    "overlong_line_then_the_end": (b"a\n" + b"x" * 60 + b"\n", [("readline",)] * 3),
}


@pytest.mark.parametrize("case", OVERRUNS)
def test_unit_longer_than_the_limit_comes_out_as_in_asyncio(tasks, case):
    data, calls = OVERRUNS[case]

    async def handler(flow, notes):
        await flow.closed()  # all of it is here, as in the model
        notes.extend(await outcomes(flow.client, calls))

    notes = read_with(handler, in_pieces(data), tasks=tasks, limit=32, burst=64)
    assert notes == StandIn(data, 32).outcome(calls)


def test_lines_readline_gives_them_with_their_ends_and_the_last_without(tasks):
    async def handler(flow, notes):
        for _ in range(5):
            notes.append(await flow.client.readline())

    notes = read_with(handler, in_pieces(b"one\ntw", b"o\r\n", b"\nlast"), tasks=tasks, burst=1)
    assert notes == [b"one\n", b"two\r\n", b"\n", b"last", b""]


# ---- iterating ---------------------------------------------------------------------------------


def test_async_for_gives_lines_as_readline_does(tasks):
    async def handler(flow, notes):
        async for line in flow.client:
            notes.append(line)

    notes = read_with(handler, in_pieces(b"one\r\ntw", b"o\n", b"last"), tasks=tasks)
    assert notes == [b"one\r\n", b"two\n", b"last"]


def test_lines_gives_them_without_their_ends(tasks):
    async def handler(flow, notes):
        async for line in flow.client.lines():
            notes.append(line)

    notes = read_with(handler, in_pieces(b"one\r\ntw", b"o\n\n", b"last"), tasks=tasks)
    assert notes == [b"one", b"two", b"", b"last"]


def test_lines_with_a_limit_raises_value_error_on_a_longer_one(tasks):
    async def handler(flow, notes):
        try:
            async for line in flow.client.lines(limit=4):
                notes.append(line)
        except ValueError as error:
            notes.append(str(error))

    notes = read_with(handler, in_pieces(b"four\nfives\n"), tasks=tasks)
    assert notes == [b"four", "line of 5 bytes is over the limit of 4"]


def test_chunks_gives_all_bytes_in_order(tasks):
    async def handler(flow, notes):
        async for chunk in flow.client.chunks():
            notes.append(chunk if isinstance(chunk, aiomos.Gap) else chunk.data)

    notes = read_with(handler, in_pieces(b"ab", b"cd", b"ef"), tasks=tasks, burst=1)
    assert notes == [b"ab", b"cd", b"ef"]


# ---- peek, stop, at_eof, offset, time ----------------------------------------------------------


def test_peek_consumes_nothing_and_waits_for_what_it_asks(tasks):
    async def handler(flow, notes):
        notes.append(await flow.client.peek(4))
        notes.append(flow.client.offset)
        notes.append(await flow.client.peek(2, at=3))
        notes.append(await flow.client.readexactly(6))
        notes.append(await flow.client.peek(1))

    notes = read_with(handler, in_pieces(b"ab", b"cd", b"ef"), tasks=tasks, burst=1)
    assert notes == [b"abcd", 0, b"de", b"abcdef", b""]


def test_peek_beyond_the_end_gives_what_there_is(tasks):
    async def handler(flow, notes):
        notes.append(await flow.client.peek(10))
        notes.append(await flow.client.peek(10, at=2))
        notes.append(await flow.client.peek(10, at=7))

    assert read_with(handler, in_pieces(b"abc"), tasks=tasks) == [b"abc", b"c", b""]


def test_peek_at_an_offset_already_read_is_a_value_error(tasks):
    async def handler(flow, notes):
        await flow.client.readexactly(2)
        notes.append(await flow.client.peek(1, at=2))
        with pytest.raises(ValueError, match="read already"):
            await flow.client.peek(1, at=1)

    assert read_with(handler, in_pieces(b"abc"), tasks=tasks) == [b"c"]


def test_at_eof_is_true_when_all_was_read_and_no_more_comes(tasks):
    async def handler(flow, notes):
        notes.append(flow.client.at_eof())
        await flow.client.readexactly(3)
        await flow.closed()
        notes.append(flow.client.at_eof())
        notes.append((flow.server.at_eof(), flow.server.buffered))
        await flow.server.read()
        notes.append(flow.server.at_eof())

    notes = read_with(handler, whole(b"abc", b"xyz"), tasks=tasks)
    assert notes == [False, True, (False, 3), True]


def test_stopped_side_reads_as_ended_and_keeps_nothing(tasks):
    async def handler(flow, notes):
        notes.append(await flow.client.readexactly(1))
        flow.client.stop()
        notes.append(await flow.client.read(10))
        notes.append(await flow.client.readline())
        notes.append(flow.client.at_eof())
        notes.append(flow.client.buffered)
        notes.append(await flow.server.read())

    notes = read_with(handler, whole(b"abc" * 50_000, b"xyz"), tasks=tasks)
    assert notes == [b"a", b"", b"", True, 0, b"xyz"]


def test_stop_during_a_read_ends_the_read(tasks):
    async def handler(flow, notes):
        reading = asyncio.create_task(flow.client.read(10))
        await asyncio.sleep(0)
        flow.client.stop()
        notes.append(await reading)

    assert read_with(handler, in_pieces(end=False), tasks=tasks) == [b""]


def test_time_is_the_stamp_of_the_last_byte_given(tasks):
    async def handler(flow, notes):
        notes.append(flow.client.time)
        for _ in range(3):
            await flow.client.readexactly(2)
            notes.append(round((flow.client.time - START / 1e9) * 1e3))

    def script(t):
        t.handshake()  # 0, 1, 2 ms
        t.c(b"ab")  # 3
        t.c(b"c")  # 4
        t.rest(1)
        t.c(b"def")  # 1005
        t.close()

    assert read_with(handler, script, tasks=tasks) == [0.0, 3, 1005, 1005]


@pytest.mark.replay_loop
def test_two_waiters_on_one_reader_second_is_a_runtime_error(tasks):
    async def handler(flow, notes):
        first = asyncio.create_task(flow.client.read(3))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already waiting"):
            await flow.client.read(3)
        notes.append(await first)

    def script(t):
        t.handshake()
        t.rest(1)
        t.c(b"abc")
        t.close()

    assert read_with(handler, script, tasks=tasks, burst=1) == [b"abc"]


def test_waiters_on_both_readers_do_not_disturb_each_other(tasks):
    async def handler(flow, notes):
        notes.extend(await asyncio.gather(flow.client.read(), flow.server.read()))

    assert read_with(handler, whole(b"abc", b"xyz"), tasks=tasks) == [b"abc", b"xyz"]


# ---- how a stream ends -------------------------------------------------------------------------


def test_fin_gives_end_of_stream_and_a_complete_side(tasks):
    async def handler(flow, notes):
        notes.append(await flow.client.read())
        notes.append(flow.client.complete)
        notes.append(flow.server.complete)

    def script(t):
        t.handshake()
        t.c(b"abc")
        t.c(flags=FIN | ACK)
        t.rest(1)
        t.s()

    assert read_with(handler, script, tasks=tasks) == [b"abc", True, False]


def test_capture_end_gives_what_is_buffered_then_the_end_incomplete(tasks):
    async def handler(flow, notes):
        notes.append(await flow.client.readexactly(2))
        notes.append(await flow.client.read(10))
        notes.append(await flow.client.read(10))
        notes.append(flow.client.complete)
        notes.append(await flow.closed())

    notes = read_with(handler, in_pieces(b"abc", end=False), tasks=tasks)
    assert notes == [b"ab", b"c", b"", False, "CAPTURE_END"]


@pytest.mark.parametrize("side", [CLIENT, SERVER])
def test_reset_gives_buffered_bytes_then_flow_reset(tasks, side):
    async def handler(flow, notes):
        await flow.closed()
        notes.append(await flow.client.read(2))
        notes.append(await flow.client.read(10))
        for _ in range(2):
            with pytest.raises(aiomos.FlowReset) as caught:
                await flow.client.read(10)
            assert isinstance(caught.value, ConnectionResetError)
        with pytest.raises(aiomos.FlowReset):
            await flow.server.readline()
        notes.append(await flow.closed())

    def script(t):
        t.handshake()
        t.c(b"abc")
        t.s()
        t.say(side, RST | ACK)

    assert read_with(handler, script, tasks=tasks) == [b"ab", b"c", "RESET"]


def test_reset_inside_a_unit_gives_incomplete_then_flow_reset(tasks):
    async def handler(flow, notes):
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await flow.client.readexactly(10)
        notes.append(caught.value.partial)
        with pytest.raises(aiomos.FlowReset):
            await flow.client.readexactly(10)

    def script(t):
        t.handshake()
        t.c(b"abc")
        t.s(flags=RST | ACK)

    assert read_with(handler, script, tasks=tasks) == [b"abc"]


def test_reset_after_fin_gives_the_end_of_the_side_that_was_complete(tasks):
    async def handler(flow, notes):
        await flow.closed()
        notes.append(await flow.client.read())
        notes.append(await flow.client.read(1))
        with pytest.raises(aiomos.FlowReset):
            await flow.server.read(1)

    def script(t):
        t.handshake()
        t.c(b"abc", flags=FIN | ACK)
        t.s(flags=RST | ACK)

    assert read_with(handler, script, tasks=tasks) == [b"abc", b""]


def test_idle_flow_expired_gives_buffered_bytes_then_flow_timeout(tasks):
    async def handler(flow, notes):
        notes.append(await flow.client.read(10))
        with pytest.raises(aiomos.FlowTimeout) as caught:
            await flow.client.read(10)
        assert isinstance(caught.value, TimeoutError)
        notes.append(await flow.closed())

    def idle(t):
        t.handshake()
        t.c(b"abc")

    def other(t):
        t.rest(4000)
        t.handshake()
        t.close()

    def run(flow, notes):
        return handler(flow, notes) if flow.client.port == 40000 else asyncio.sleep(0)

    assert read_with(run, idle, other, tasks=tasks) == [b"abc", "TIMEOUT"]


def test_pushed_data_with_the_fin_is_read_before_the_end(tasks):
    async def handler(flow, notes):
        notes.append(await flow.client.read())

    def script(t):
        t.handshake()
        t.c(b"abc", flags=PSH | FIN | ACK)
        t.s(flags=FIN | ACK)
        t.c()

    assert read_with(handler, script, tasks=tasks) == [b"abc"]


# ---- who it is ---------------------------------------------------------------------------------


def test_established_flow_tells_who_its_ends_are(tasks):
    async def handler(flow, notes):
        for end in (flow.client, flow.server):
            notes.append((end.address, end.port, end.isn, end.seen, end.syn_seen, end.state))

    def script(t):
        t.handshake()
        t.c(b"abc")
        t.close()

    notes = read_with(handler, script, tasks=tasks, burst=1)
    assert notes == [
        ("10.0.0.1", 40000, 1000, True, True, "ESTABLISHED"),
        ("10.0.0.2", 80, 500_000, True, True, "ESTABLISHED"),
    ]


def test_flow_and_endpoint_have_readable_representations(tasks):
    async def handler(flow, notes):
        notes.extend([repr(flow), repr(flow.client)])

    notes = read_with(handler, in_pieces(b"abc"), tasks=tasks, burst=1)
    assert notes[0] == "<Flow 1 tcp 10.0.0.1:40000 > 10.0.0.2:80>"
    assert notes[1] == "<Endpoint 10.0.0.1:40000 ESTABLISHED offset=0>"
