"""testing.engine: traffic word by word, and a clock that moves when nothing is left to do."""

from __future__ import annotations

import asyncio

import pytest

import aiomos
from aiomos import testing
from aiomos.testing import Conversation, Datagrams, client, server

pytestmark = [pytest.mark.asyncio, pytest.mark.aiomos]


class Seen(list):
    """What a handler read, and how it came out."""

    async def __call__(self, flow):
        while data := await flow.client.read(100):
            self.append(data)
        self.append(await flow.closed())


async def test_play_returns_when_the_handler_has_done_all_it_can():
    seen = Seen()
    async with testing.engine(seen) as engine:
        talk = Conversation()
        await engine.play(talk.handshake())
        assert seen == []
        await engine.play(talk.data(client, b"one"))
        assert seen == [b"one"]
        await engine.play(talk.data(client, b"two").data(client, b"three"))
        assert b"".join(seen) == b"onetwothree"
        await engine.play(talk.close())
        assert seen[-1] is aiomos.CloseReason.FIN
    assert engine.result.flow().close_reason == "FIN"


@pytest.mark.parametrize("tasks", ["engine", "asyncio"])
async def test_children_of_the_handler_have_their_turn_before_play_returns(tasks):
    got = []

    async def handler(flow):
        queue = asyncio.Queue()

        async def consume():
            while True:
                got.append(await queue.get())

        async with asyncio.TaskGroup() as group:
            child = group.create_task(consume())
            async for line in flow.client.lines():
                await queue.put(line)
            child.cancel()

    async with testing.engine(handler, tasks=tasks) as engine:
        talk = Conversation().handshake()
        await engine.play(talk.data(client, b"a\nb\n"))
        assert got == [b"a", b"b"]


async def test_script_goes_on_where_it_was_and_a_second_one_beside_it():
    seen = Seen()
    async with testing.engine(seen) as engine:
        one, two = Conversation(), Conversation(client=("10.0.0.9", 9))
        await engine.play(one.handshake(), two.handshake())
        await engine.play(one)
        await engine.play(two.data(client, b"two"), one.data(client, b"one"))
    assert sorted(seen[:2]) == [b"one", b"two"]
    assert len(engine.result.flows) == 2
    assert engine.result.summary.processed == 8


# ---- the clock --------------------------------------------------------------------------------


async def test_time_stands_still_but_for_frames_and_waiting():
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with testing.engine(Seen()) as engine:

        def passed():
            return round(engine.time - testing.START, 6), round(loop.time() - began, 6)

        assert passed() == (0, 0)
        await engine.play(Datagrams().data(client, b"a").data(server, b"b", after=0.25))
        assert passed() == (0.25, 0.25)
        await engine.wait(3600)
        assert passed() == (3600.25, 3600.25)
        await asyncio.sleep(0.5)
        assert passed() == (3600.75, 3600.75)


async def test_script_played_later_begins_then():
    async with testing.engine(Seen()) as engine:
        await engine.play(talk := Datagrams().data(client, b"a"))
        await engine.wait(10)
        await engine.play(talk.data(client, b"b"))
    times = [
        e.time - testing.START for e in engine.result.of(aiomos.PacketSeen) if e.hook == "sender"
    ]
    assert times == [0, 10]


async def test_capture_played_later_begins_then_and_keeps_its_pace(tmp_path):
    Datagrams(start=5.0).data(client, b"a").data(server, b"b", after=2).save(tmp_path / "old.pcap")
    async with testing.engine(Seen()) as engine:
        await engine.wait(100)
        await engine.play(tmp_path / "old.pcap")
    times = [
        e.time - testing.START for e in engine.result.of(aiomos.PacketSeen) if e.hook == "sender"
    ]
    assert times == [100, 102]


async def test_timeouts_of_a_handler_fire_while_the_test_waits_in_their_order():
    noted = []

    async def handler(flow):
        for seconds in (2, 1):
            try:
                async with asyncio.timeout(seconds):
                    await flow.client.read()
            except TimeoutError:
                noted.append(flow.duration + seconds)
        await asyncio.sleep(5)
        noted.append("slept")

    async with testing.engine(handler) as engine:
        await engine.play(Conversation().handshake())
        await engine.wait(1.5)
        assert len(noted) == 0
        await engine.wait(0.5)
        assert len(noted) == 1
        await engine.wait(1)
        assert len(noted) == 2
        await engine.wait(5)
        assert noted[2:] == ["slept"]


async def test_hole_becomes_a_gap_after_its_grace_with_no_frame_coming():
    noted = []

    async def handler(flow):
        try:
            await flow.client.readexactly(5)
        except aiomos.GapError as error:
            noted.append((error.offset, error.length, error.cause))

    async with testing.engine(handler) as engine:
        talk = (
            Conversation().handshake().data(client, b"abc").lose().data(client, b"de").ack(server)
        )
        await engine.play(talk)
        await engine.wait(0.1)
        assert noted == []
        await engine.wait(0.2)
        assert noted == [(0, 3, "acked_unseen")]


async def test_time_goes_on_to_the_timer_that_whoever_waits_needs():
    done = asyncio.get_running_loop().create_future()

    async def handler(flow):
        flow.after(7, lambda flow, event, packet: done.set_result(event.time))
        await flow.closed()

    async with testing.engine(handler) as engine:
        await engine.play(Conversation().handshake())
        began = engine.time
        assert await done == pytest.approx(began + 7)


async def test_idle_flow_expires_while_the_test_waits():
    async with testing.engine(Seen(), established=60) as engine:
        await engine.play(Conversation().handshake())
        await engine.wait(59)
        assert engine.result.flows == ()
        await engine.wait(2)
        assert engine.result.flow().close_reason == "TIMEOUT"


async def test_every_and_lifespan_run_inside_the_block():
    app, noted = aiomos.App(), []

    @app.lifespan
    async def life(app):
        noted.append("in")
        yield
        noted.append("out")

    @app.every(10)
    async def tick():
        noted.append("tick")

    async with testing.engine(app) as engine:
        assert noted == ["in"]
        await engine.wait(25)
        assert noted == ["in", "tick", "tick"]
    assert noted[-1] == "out"


async def test_real_work_of_a_handler_holds_the_clock():
    async def echo(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    answers = []

    async def handler(flow):
        async with asyncio.timeout(0.5):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(await flow.client.readexactly(3))
            answers.append(await reader.readline())
            answers.append(await asyncio.to_thread(lambda: "thread"))
            writer.close()
            await writer.wait_closed()

    listener = await asyncio.start_server(echo, "127.0.0.1", 0)
    address = listener.sockets[0].getsockname()
    async with listener, testing.engine(handler) as engine:
        await engine.play(Conversation().handshake().data(client, b"hi\n"))
        await engine.wait(10)
    assert answers == [b"hi\n", "thread"]


# ---- ends and failures ------------------------------------------------------------------------


async def test_end_of_the_block_is_the_end_of_the_capture():
    seen = Seen()
    async with testing.engine(seen) as engine:
        await engine.play(Conversation().handshake().data(client, b"x"))
    assert seen == [b"x", aiomos.CloseReason.CAPTURE_END]
    assert engine.result.summary.handlers_started == 1


async def test_handler_that_raises_is_told_of_by_the_next_word_and_once():
    async def handler(flow):
        await flow.client.read(1)
        raise ValueError("broken")

    async with testing.engine(handler) as engine:
        talk = Conversation().handshake()
        await engine.play(talk)
        with pytest.raises(ValueError, match="broken"):
            await engine.play(talk.data(client, b"x"))
        await engine.play(talk.close())
    assert len(engine.result.failures) == 1


async def test_handler_that_raises_at_the_end_makes_the_block_raise():
    async def handler(flow):
        await flow.closed()
        raise ValueError("too late")

    with pytest.raises(ValueError, match="too late"):
        async with testing.engine(handler) as engine:
            await engine.play(Conversation().handshake())


async def test_failures_can_be_kept():
    async def handler(flow):
        raise ValueError

    async with testing.engine(handler, failures="keep") as engine:
        await engine.play(Conversation().handshake())
        await engine.wait(1)
    assert len(engine.result.failures) == 1


async def test_error_of_the_test_itself_comes_out_and_handlers_end():
    seen = Seen()
    with pytest.raises(KeyError, match="mine"):
        async with testing.engine(seen) as engine:
            await engine.play(Conversation().handshake())
            raise KeyError("mine")
    assert seen == [aiomos.CloseReason.SHUTDOWN]


async def test_app_that_cannot_begin_raises_at_once():
    app = aiomos.App()

    @app.lifespan
    async def life(app):
        raise OSError("no database")
        yield

    with pytest.raises(OSError, match="no database"):
        async with testing.engine(app):
            pytest.fail("it began")


async def test_test_that_is_cancelled_takes_the_engine_with_it():
    seen = Seen()

    async def body():
        async with testing.engine(seen) as engine:
            await engine.play(Conversation().handshake())
            await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(body())
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [aiomos.CloseReason.SHUTDOWN]


# ---- engines and loops ------------------------------------------------------------------------


async def test_one_engine_after_the_other_and_the_clock_goes_on():
    loop = asyncio.get_running_loop()
    for hours in range(3):
        assert loop.time() == pytest.approx(hours * 3600)
        async with testing.engine(Seen(), linger=0) as engine:
            await engine.wait(3600)
    assert engine.result.summary.processed == 0


async def test_two_engines_at_a_time_are_refused():
    async with testing.engine(Seen()):
        with pytest.raises(aiomos.ConfigError, match="one engine at a time"):
            async with testing.engine(Seen()):
                pass


async def test_waiting_backwards_is_refused():
    async with testing.engine(Seen()) as engine:
        with pytest.raises(aiomos.ConfigError, match="from 0 up"):
            await engine.wait(-1)


@pytest.mark.parametrize("seed", range(5))
async def test_impaired_traffic_gives_the_same_bytes(seed):
    seen = Seen()
    impair = testing.Impair(seed=seed, duplicate=0.2, cut=(1, 9), pieces=True, burst=(1, 8))
    async with testing.engine(seen, impair=impair) as engine:
        talk = Conversation().handshake()
        for word in (b"one " * 20, b"two " * 20, b"three " * 20):
            await engine.play(talk.data(client, word))
    assert b"".join(seen[:-1]) == b"one " * 20 + b"two " * 20 + b"three " * 20
