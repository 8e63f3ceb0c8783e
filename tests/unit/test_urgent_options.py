"""Where the policy for urgent data comes from: the engine, a handler, one side of a flow."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, CLIENT, SERVER, URG
from kit import Notes, play

import aiomos

WORDS = {
    "inline": [b"woXrd and more"],
    "oob": [b"word and more"],
    "gap": [b"wo", aiomos.Gap(2, 1, "urgent"), b"rd and more"],
    "drop": [aiomos.Gap(0, 5, "urgent"), b" and more"],
}


def urgent(talk, data=b"woXrd", pointer=3, side=CLIENT):
    """A segment with the URG flag; its checksum is not right."""
    raw = bytearray(talk.segment(side, ACK | URG, data))
    raw[14 + 20 + 18 : 14 + 20 + 20] = pointer.to_bytes(2, "big")
    talk.give(bytes(raw))


def both_ways(talk):
    """The same words from either end."""
    talk.handshake()
    for side in (CLIENT, SERVER):
        urgent(talk, side=side)
        talk.say(side, ACK, b" and more")
    talk.close()


async def pieces(end):
    """Bytes between gaps as one piece each."""
    found = []
    async for item in end:
        if found and isinstance(item, bytes) and isinstance(found[-1], bytes):
            found[-1] += item
        else:
            found.append(item)
    return found


def read(app, script=both_ways, *, engine="inline", configure=None, **options):
    """What a handler with these options reads of both sides."""
    got = []

    @app.tcp(on_gap="yield", **options)
    async def handler(flow):
        if configure:
            flow.client.configure(urgent=configure)
        got.extend([await pieces(flow.client), await pieces(flow.server)])

    summary = play(app, script, urgent=engine)
    return got, summary


@pytest.mark.parametrize("policy", WORDS)
@pytest.mark.parametrize("engine", ["inline", "gap"])
def test_handlers_policy_is_stronger_than_the_engines(engine, policy):
    got, summary = read(aiomos.App(), engine=engine, urgent=policy)
    assert got == [WORDS[policy]] * 2
    assert summary.counters["tcp_urgent"] == 2 * (policy != "inline")
    assert summary.counters["overlap_conflict"] == 0


@pytest.mark.parametrize("policy", WORDS)
def test_handler_that_says_nothing_gets_the_engines_policy(policy):
    assert read(aiomos.App(), engine=policy)[0] == [WORDS[policy]] * 2


@pytest.mark.parametrize("policy", WORDS)
def test_side_configured_by_its_handler_has_a_policy_of_its_own(policy):
    """Configured when the connection is open, before its bytes come."""
    got, _ = read(aiomos.App(), configure=policy, urgent="oob", start="syn")
    assert got == [WORDS["oob"]] * 2  # all came in one burst, before the handler had its turn
    got = []

    async def handler(flow):
        flow.client.configure(urgent=policy, on_gap="yield")
        got.extend([await pieces(flow.client), await pieces(flow.server)])

    play(handler, both_ways, burst=1)
    assert got == [WORDS[policy], WORDS["inline"]]


def test_first_handler_decides_for_the_flow_and_the_other_is_counted():
    app, got = aiomos.App(), []

    @app.tcp(urgent="oob")
    async def first(flow):
        got.append(await flow.client.read())

    @app.tcp(urgent="inline")
    async def second(flow):
        got.append(await flow.client.read())

    summary = play(app, both_ways)
    assert got == [b"word and more"] * 2
    assert summary.counters["overlap_conflict"] == 2  # one a side


def test_side_set_back_to_inline_keeps_an_announced_byte_out():
    """Announced while it was to be taken out; it comes after that has changed."""

    def script(talk):
        talk.handshake()
        urgent(talk, b"wo", 3)
        talk.c(b"X")
        talk.c(b"rd")
        urgent(talk, b"!!", 2)
        talk.close()

    notes = Notes()
    app = aiomos.App()

    @app.tcp(urgent="oob")
    async def handler(flow):
        notes.append(await flow.client.read(2))
        flow.client.configure(urgent="inline")
        notes.append(await flow.client.read())

    play(app, script, burst=1)
    assert notes == [b"wo", b"rd!!"]


def test_urgent_with_deliver_acked_takes_the_byte_out_too():
    def script(talk):
        talk.handshake()
        urgent(talk)
        talk.s()
        talk.c(b" and more")
        talk.s()
        talk.close()

    assert read(aiomos.App(), script, urgent="oob", deliver="acked")[0][0] == WORDS["oob"]


@pytest.mark.parametrize("value", ["out-of-band", "", 1])
def test_policy_that_does_not_exist_is_refused(value):
    with pytest.raises(aiomos.ConfigError, match="urgent="):
        aiomos.App().tcp(urgent=value)(_nothing)

    async def handler(flow):
        flow.client.configure(urgent=value)

    assert play(handler, both_ways).handler_errors == 1


async def _nothing(flow):
    """A handler."""
