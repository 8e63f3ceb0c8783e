"""Where an overlap policy and a delivery come from: app, prefix, handler, one side of a flow."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import aiomos

sys.path.append(str(Path(__file__).parents[1]))
from craft import SERVER
from kit import Tape, aiomos_command, play

POLICIES = ["first", "vista", "last", "linux", "old-linux", "bsd", "macos", "windows",
            "windows2k3", "solaris", "hpux11"]  # fmt: skip
BSD, OLD_LINUX, LAST = b"GOOD", b"EVIL", b"EVIL"


def twice(talk):
    """The same four bytes of the server twice before the client acknowledges them."""
    talk.handshake()
    talk.s(b"GOOD")
    talk.s(b"EVIL", at=0)
    talk.c()
    talk.close()


def early(talk):
    """Four early bytes, twice, then the one in front of them."""
    talk.handshake()
    talk.s(b"GOOD", at=1)
    talk.s(b"EVIL", at=1)
    talk.s(b"!", at=0)
    talk.close()


def read(app, *scripts, **options):
    """What handlers read of the server's bytes, in order of the flows."""
    got = []

    @app.tcp(**options)
    async def handler(flow):
        got.append(await flow.server.read())

    summary = play(app, *scripts)
    return got, summary


@pytest.mark.parametrize("policy", POLICIES)
def test_handlers_policy_decides_between_copies_that_wait(policy):
    got, _ = read(aiomos.App(), early, overlap=policy)
    wins = policy in ("last", "old-linux", "solaris", "hpux11")
    assert got == [b"!EVIL" if wins else b"!GOOD"]


def test_apps_policy_holds_where_the_handler_names_none():
    assert read(aiomos.App(overlap="last"), early)[0] == [b"!EVIL"]
    assert read(aiomos.App(overlap="last"), early, overlap="first")[0] == [b"!GOOD"]


def test_deliver_acked_copies_compete_until_the_acknowledgement():
    assert read(aiomos.App(overlap="last"), twice)[0] == [b"GOOD"]
    assert read(aiomos.App(overlap="last"), twice, deliver="acked")[0] == [b"EVIL"]
    assert read(aiomos.App(overlap="linux"), twice, deliver="acked")[0] == [b"GOOD"]


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ("10.0.0.1", b"!GOOD"),
        ("10.1.0.1", b"!EVIL"),
        ("10.1.2.1", b"!GOOD"),
        ("10.1.2.128", b"!EVIL"),
        ("192.0.2.1", b"!GOOD"),
        ("fd00::1", b"!EVIL"),
        ("fd01::1", b"!GOOD"),
    ],
)
def test_prefix_of_the_receiver_decides_the_longest_first(client, expected):
    table = {
        "10.0.0.0/8": "first",
        "10.1.0.0/16": "last",
        "10.1.2.0/24": "bsd",
        "10.1.2.128/25": "old-linux",
        "fd00::/16": "last",
    }
    tape = Tape()
    server = ("fd05::2", 80) if ":" in client else ("10.1.0.2", 80)
    tape.talk(early, client=(client, 40000), server=server)
    got = []
    app = aiomos.App(overlap=table)

    @app.tcp()
    async def handler(flow):
        got.append(await flow.server.read())

    aiomos.run(app, tape.source())
    assert got == [expected]


def test_handler_that_names_a_policy_is_above_the_table():
    app = aiomos.App(overlap={"0.0.0.0/0": "last"})
    assert read(app, early, overlap="first")[0] == [b"!GOOD"]


@pytest.mark.parametrize("table", [{"10.0.0.0/33": "last"}, {"10.0.0.0/8": "beos"}, {"x": "last"}])
def test_table_that_cannot_be_is_refused(table):
    with pytest.raises(aiomos.ConfigError, match="overlap"):
        aiomos.App(overlap=table)


def test_unknown_policy_of_an_app_is_refused():
    with pytest.raises(aiomos.ConfigError, match="overlap"):
        aiomos.App(overlap="beos")


def test_two_handlers_on_a_flow_the_first_declared_decides_and_the_other_is_counted():
    app = aiomos.App()
    got = []

    @app.tcp(overlap="last")
    async def one(flow):
        got.append(await flow.server.read())

    @app.tcp(overlap="first")
    async def other(flow):
        got.append(await flow.server.read())

    summary = play(app, early)
    assert got == [b"!EVIL", b"!EVIL"]
    assert summary.counters["overlap_conflict"] == 2


def test_two_handlers_that_agree_are_no_conflict():
    app = aiomos.App(overlap="last")
    for _ in range(2):

        @app.tcp()
        async def handler(flow):
            await flow.server.read()

    assert play(app, early).counters.get("overlap_conflict", 0) == 0


def test_configure_before_data_holds_for_this_flow_and_side():
    app = aiomos.App()
    got = []

    @app.tcp()
    async def handler(flow):
        if flow.client.port == 40001:
            flow.server.configure(overlap="last", deliver="acked")
        got.append(await flow.server.read())

    play(app, twice, twice, burst=1)
    assert sorted(got) == [b"EVIL", b"GOOD"]


def test_configure_after_data_holds_for_what_comes_then():
    app = aiomos.App()
    got = []

    @app.tcp()
    async def handler(flow):
        got.append(await flow.server.readexactly(4))
        flow.server.configure(overlap="last")
        got.append(await flow.server.read())

    def script(talk):
        talk.handshake()
        talk.s(b"GOOD")
        talk.s(b"EVIL", at=0)
        talk.rest(1)
        talk.s(b"good", at=5)
        talk.s(b"evil", at=5)
        talk.s(b"!", at=4)
        talk.close()

    play(app, script, burst=1)
    assert got == [b"GOOD", b"!evil"]


@pytest.mark.replay_loop
def test_configure_back_to_arrival_hands_out_what_waits():
    app = aiomos.App()
    got = []

    @app.tcp(deliver="acked")
    async def handler(flow):
        await aiomos_sleep(0.5)
        flow.server.configure(deliver="arrival")
        got.append(await flow.server.read(100))
        got.append(flow.is_closed)

    def script(talk):
        talk.handshake()
        talk.s(b"abc")
        talk.rest(3)
        talk.c(ack=0)
        talk.rest(3)
        talk.say(SERVER, 0x10)

    play(app, script, burst=1)
    assert got == [b"abc", False]


async def aiomos_sleep(seconds):
    import asyncio

    await asyncio.sleep(seconds)


def test_flows_policy_on_the_command_line(tmp_path):
    tape = Tape()
    tape.talk(twice)
    path = tape.write(tmp_path / "twice.pcap")
    digests = set()
    for policy in ("first", "last", "windows"):
        done = aiomos_command("flows", path, "--policy", policy, "--format", "jsonl",
                              "--digest", "sha256", "-q")  # fmt: skip
        assert done.returncode == 0, done.stderr
        row = json.loads(done.stdout)
        assert (row["server_bytes"], row["gaps"]) == (4, 0)
        digests.add(row["server_sha256"])
    assert len(digests) == 2
    assert aiomos_command("flows", path, "--policy", "beos").returncode == 2
