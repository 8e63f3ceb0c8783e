"""What supervisor and worker say to each other: whole, in order, whatever the socket makes of it."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import sys
import threading
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from kit import LOOPS

from aiomos._control import Channel, refuse, told
from aiomos._engine.errors import SourceError

LARGE = "x" * (5 << 20)  # more than any socket takes at once


class Both:
    """Two ends, each with what it has heard."""

    def __init__(self, loop):
        self.loop = loop
        ends = socket.socketpair()
        self.heard = [], []
        self.gone = [0, 0]
        self.channels = [self.channel(loop, end, i) for i, end in enumerate(ends)]

    def channel(self, loop, end, i):
        def gone():
            self.gone[i] += 1

        return Channel(end, loop, self.heard[i].append, gone)

    async def until(self, what):
        async with asyncio.timeout(60):
            while not what():
                await asyncio.sleep(0)

    def close(self):
        for channel in self.channels:
            channel.close()


@pytest.fixture(params=LOOPS)
def play(request):
    """Runs a conversation of both ends on a loop."""

    def run(conversation):
        async def main():
            both = Both(asyncio.get_running_loop())
            try:
                await conversation(both)
            finally:
                both.close()

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(main())

    return run


def test_messages_larger_than_the_socket_arrive_whole_and_in_order(play):
    async def conversation(both):
        for number in range(3):
            both.channels[0].send("large", number=number, text=LARGE)
            both.channels[0].send("small", number=number)
        await both.until(lambda: len(both.heard[1]) == 6)
        kinds = [(message["kind"], message["number"]) for message in both.heard[1]]
        assert kinds == [(kind, n) for n in range(3) for kind in ("large", "small")]
        assert all(m["text"] == LARGE for m in both.heard[1] if m["kind"] == "large")

    play(conversation)


def test_both_ends_may_talk_at_once(play):
    async def conversation(both):
        for channel in both.channels:
            channel.send("large", text=LARGE)
        await both.until(lambda: both.heard[0] and both.heard[1])
        assert [heard[0]["text"] == LARGE for heard in both.heard] == [True, True]

    play(conversation)


def test_messages_cut_anywhere_are_put_together(play):
    messages = [{"kind": "stats", "id": n, "text": "é\n" * n} for n in range(30)]
    text = b"".join(json.dumps(message).encode() + b"\n" for message in messages)
    rng = random.Random(1)

    async def conversation(both):
        raw, ours = socket.socketpair()
        heard = []
        channel = Channel(ours, both.loop, heard.append, lambda: None)
        at = 0
        while at < len(text):
            size = rng.choice((1, 2, 3, 40, 500))
            raw.sendall(text[at : at + size])
            at += size
            await asyncio.sleep(0)
        await both.until(lambda: len(heard) == len(messages))
        assert heard == messages
        raw.close()
        channel.close()

    play(conversation)


def test_other_end_hangs_up_it_is_told_once_behind_its_last_words(play):
    async def conversation(both):
        both.channels[0].send("done")
        both.channels[0].close()
        await both.until(lambda: both.gone[1])
        assert both.heard[1] == [{"kind": "done"}]
        both.channels[1].send("nobody hears this")
        both.channels[1].flush(60)
        await asyncio.sleep(0.01)
        assert both.gone == [0, 1]

    play(conversation)


def test_other_end_is_gone_while_much_is_unsent(play):
    async def conversation(both):
        both.channels[0].send("large", text=LARGE)
        both.channels[1].close()
        await both.until(lambda: both.gone[0])
        both.channels[0].send("more")
        assert both.gone == [1, 0]

    play(conversation)


@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)
def test_last_words_go_out_when_the_loop_is_closed(new_loop):
    """A worker says what it came to when its loop has ended, and ends itself when all is taken."""
    ours, theirs = socket.socketpair()
    loop = new_loop()
    channel = Channel(ours, loop, lambda message: None, lambda: None)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    found = bytearray()

    def take():
        while piece := theirs.recv(1 << 16):
            found.extend(piece)

    channel.send("done", text=LARGE)
    taking = threading.Thread(target=take)
    taking.start()
    channel.flush(60)
    ours.close()
    taking.join(60)
    theirs.close()
    assert json.loads(found) == {"kind": "done", "text": LARGE}


@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)
def test_last_words_to_nobody_are_forgotten(new_loop):
    ours, theirs = socket.socketpair()
    loop = new_loop()
    gone = []
    channel = Channel(ours, loop, lambda message: None, lambda: gone.append(True))
    theirs.close()

    async def until_gone():
        while not gone:
            await asyncio.sleep(0)

    loop.run_until_complete(asyncio.wait_for(until_gone(), 60))
    loop.close()
    channel.send("done", text=LARGE)
    channel.flush(60)


# ---- before there is a loop ----------------------------------------------------------------------


def test_first_message_is_read_and_what_follows_is_left_for_the_channel():
    ours, theirs = socket.socketpair()
    text = json.dumps({"kind": "serve", "text": LARGE}).encode() + b"\n" + b'{"kind": "stop"}\n'
    saying = threading.Thread(target=theirs.sendall, args=(text,))
    with ours, theirs:
        saying.start()
        assert told(ours) == {"kind": "serve", "text": LARGE}
        saying.join(60)
        assert ours.recv(100) == b'{"kind": "stop"}\n'


def test_supervisor_that_says_nothing_is_no_reason_to_begin():
    ours, theirs = socket.socketpair()
    theirs.sendall(b'{"kind": "ser')
    theirs.close()
    with ours, pytest.raises(SystemExit) as ended:
        told(ours)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SourceError("no such interface"), "no such interface"),
        (FileNotFoundError(2, "No such file or directory", "a.py"), "a.py: No such file or "),
    ],
)
def test_refusal_is_one_message(error, said):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert refuse(ours, error) == 2
        message = json.loads(theirs.recv(4096))
    assert message["kind"] == "failed"
    assert message["message"].startswith(said)


def test_refusal_that_nobody_hears_is_none_the_less_an_end():
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        assert refuse(ours, SourceError("no such interface")) == 2
