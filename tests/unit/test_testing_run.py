"""testing.run: what an app made of traffic, and traffic as a network spoils it."""

from __future__ import annotations

import asyncio

import pytest
from scapy.all import IP, TCP, Ether

import aiomos
from aiomos import testing
from aiomos.testing import Conversation, Datagrams, Impair, client, server

HELLO = Conversation().handshake().data(client, b"hello").data(server, b"hi").close()


async def reads(flow):
    await flow.client.read()
    await flow.server.read()


def reader():
    """An app that reads everything, and what it read, by side."""
    got = {"client": [], "server": []}
    app = aiomos.App()

    async def side(end, into):
        async for chunk in end:
            into.append(chunk)

    @app.tcp(on_gap="yield")
    async def handler(flow):
        async with asyncio.TaskGroup() as group:
            group.create_task(side(flow.client, got["client"]))
            group.create_task(side(flow.server, got["server"]))

    return app, got


# ---- what it came to --------------------------------------------------------------------------


def test_whole_conversation_gives_one_flow_with_its_record():
    result = testing.run(reads, HELLO)
    flow = result.flow()
    assert (flow.key.client, flow.key.client_port, flow.key.server_port) == ("10.0.0.1", 40000, 80)
    assert (flow.close_reason, flow.midstream) == ("FIN", False)
    assert flow.stats.packets == len(HELLO.frames()) == result.summary.processed
    assert flow.handlers == ("reads",)
    assert flow.verdicts == flow.failures == ()


def test_events_are_told_of_their_flow_in_order():
    result = testing.run(reads, HELLO, Datagrams().data(client, b"?"))
    tcp = result.flow(protocol="tcp")
    assert [type(e).__name__ for e in tcp.of(aiomos.Established, aiomos.FinSeen)] == [
        "Established",
        "FinSeen",
        "FinSeen",
    ]
    assert isinstance(tcp.events[-1], aiomos.ConnectionEnd)
    assert [e.length for e in result.of(aiomos.NewData)] == [5, 2]
    assert len(result.of(aiomos.ConnectionEnd)) == len(result.flows) == 2


def test_flow_is_found_by_its_key_and_a_wrong_wish_says_what_there_is():
    talks = [Conversation(client=("10.0.0.1", port)).handshake() for port in (1, 2)]
    result = testing.run(reads, *talks)
    assert result.flow(client_port=2).id == 2
    with pytest.raises(AssertionError, match=r"2 flows .*client_port=1.*client_port=2"):
        result.flow()
    with pytest.raises(AssertionError, match=r"0 flows with \{'client_port': 3\}"):
        result.flow(client_port=3)


def test_flow_that_no_handler_wanted_has_none():
    app = aiomos.App()
    app.tcp("port 443")(reads)
    assert testing.run(app, HELLO).flow().handlers == ()


def test_verdicts_are_noted_with_who_said_them_where():
    async def decides(flow):
        await flow.client.readexactly(3)
        flow.accept()
        flow.client.stop()
        flow.bypass()

    flow = testing.run(decides, HELLO).flow()
    assert flow.verbs == ("accept", "stop", "bypass")
    accepted = flow.assert_verdict("accept", handler="decides")
    assert (accepted.client_offset, accepted.server_offset) == (3, 0)
    assert flow.assert_verdict("stop", side="client").client_offset == 3
    for wrong in (
        {"verb": "drop"},
        {"verb": "stop", "side": "server"},
        {"verb": "accept", "handler": "x"},
    ):
        with pytest.raises(
            AssertionError, match=r"but: accept by .*decides at client 3, server 0; stop client"
        ):
            flow.assert_verdict(**wrong)


def test_verdict_that_is_refused_is_a_failure_and_no_verdict():
    async def refused(flow):
        raise aiomos.VerdictError("a tap cannot drop")

    result = testing.run(refused, HELLO, failures="keep")
    assert isinstance(result.flow().failures[0].error, aiomos.VerdictError)
    assert result.verdicts == ()


def test_the_same_app_runs_twice_and_its_lifespan_sets_its_own_state():
    app, seen = aiomos.App(), []

    @app.lifespan
    async def life(app):
        yield "state"

    @app.tcp()
    async def handler(flow):
        seen.append(app.state)

    assert testing.run(app, HELLO) == testing.run(app, HELLO)
    assert seen == ["state", "state"]


# ---- failures ---------------------------------------------------------------------------------


async def fails(flow):
    await flow.client.read()
    raise ValueError(flow.client.port)


def test_handler_that_raises_makes_the_run_raise_that():
    with pytest.raises(ValueError, match="40000"):
        testing.run(fails, HELLO)


def test_handlers_that_raise_make_the_run_raise_a_group():
    other = Conversation(client=("10.0.0.3", 3)).handshake()
    with pytest.raises(ExceptionGroup, match="2 handlers failed") as caught:
        testing.run(fails, HELLO, other)
    assert sorted(int(str(e)) for e in caught.value.exceptions) == [3, 40000]


def test_failures_are_kept_if_asked_for():
    result = testing.run(fails, HELLO, failures="keep")
    assert [(f.handler, f.flow_id, type(f.error)) for f in result.failures] == [
        ("fails", 1, ValueError)
    ]
    assert result.flow().failures == result.failures
    assert result.summary.handler_errors == 1
    with pytest.raises(ValueError, match="40000"):
        result.raise_failures()


def test_failure_of_every_and_of_a_plain_function_is_one_too():
    app = aiomos.App()

    @app.every(0.004)
    async def ticks():
        raise KeyError

    @app.on(aiomos.Established)
    def told(flow, event, packet):
        raise IndexError

    result = testing.run(app, HELLO, failures="keep", linger=0)
    assert {type(f.error) for f in result.failures} == {KeyError, IndexError}


# ---- what is traffic --------------------------------------------------------------------------


def test_frames_with_and_without_times_scapy_packets_and_pairs_are_traffic():
    syn = Ether() / IP(src="1.1.1.1", dst="2.2.2.2") / TCP(sport=1, dport=2, flags="S")
    raw = bytes(syn)
    for traffic in (
        syn,
        raw,
        memoryview(raw),
        (syn, 5.0),
        [syn],
        [raw],
        [(raw, 5.0)],
        HELLO.frames()[0],
    ):
        assert len(testing.run(reads, traffic).flows) == 1
    assert testing.run(reads, (syn, 5.5)).events[0][1].time == 5.5
    assert testing.run(reads, [raw, raw]).events[-1][1].time == testing.START + testing.PACE


def test_capture_is_traffic_alone_and_beside_a_script(captures, tmp_path):
    HELLO.save(tmp_path / "hello.pcap")
    other = Conversation(client=("10.0.0.9", 9)).handshake()
    assert len(testing.run(reads, tmp_path / "hello.pcap").flows) == 1
    assert len(testing.run(reads, str(tmp_path / "hello.pcap"), other).flows) == 2
    assert len(testing.run(reads, captures / "http_demo.pcap").flows) > 1


@pytest.mark.parametrize("nonsense", [5, [5], None, [(b"x", b"y")]])
def test_what_is_no_traffic_is_refused(nonsense):
    with pytest.raises(TypeError):
        testing.run(reads, nonsense)


def test_missing_capture_is_a_source_error(tmp_path):
    with pytest.raises(aiomos.SourceError):
        testing.run(reads, tmp_path / "none.pcap")


def test_options_and_misuse_are_those_of_the_engine():
    assert testing.run(reads, HELLO, count=3).summary.received == 3
    with pytest.raises(aiomos.ConfigError, match="tasks"):
        testing.run(reads, HELLO, tasks="threads")
    with pytest.raises(aiomos.ConfigError, match="failures"):
        testing.run(reads, HELLO, failures="ignore")
    with pytest.raises(aiomos.AppError):
        testing.run(lambda flow: None, HELLO)


@pytest.mark.asyncio
async def test_run_inside_a_loop_says_what_to_do():
    with pytest.raises(aiomos.ConfigError, match=r"testing\.engine"):
        testing.run(reads, HELLO)


# ---- impairments ------------------------------------------------------------------------------


BODY = bytes(n % 251 for n in range(20_000))
# It stays open: of what comes behind both FINs, late as it may be, nothing is read.
LONG = Conversation().handshake().data(client, BODY).data(server, BODY)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_a_network_does_but_loss_the_same_bytes_are_read(seed):
    app, got = reader()
    impair = Impair(
        seed=seed,
        duplicate=0.1,
        reorder=0.3,
        distance=5,
        delay=0.01,
        cut=(1, 700),
        pieces=True,
        burst=(1, 64),
    )
    result = testing.run(app, LONG, impair=impair)
    assert b"".join(got["client"]) == BODY == b"".join(got["server"])
    counters = result.summary.counters
    assert counters["tcp_retransmitted"] > 0 < counters["tcp_out_of_order"]


@pytest.mark.parametrize("seed", range(10))
def test_loss_at_the_tap_gives_gaps_where_the_bytes_are_missing(seed):
    app, got = reader()
    testing.run(app, LONG, impair=Impair(seed=seed, loss=0.2))
    gaps = 0
    for items in got.values():
        at = 0
        for item in items:
            if isinstance(item, aiomos.Gap):
                gaps += 1
                assert item.offset == at
                at += item.length
            else:
                assert item == BODY[at : at + len(item)]
                at += len(item)
    assert gaps > 0


def test_one_seed_gives_one_result_and_another_another():
    results = [
        testing.run(reader()[0], LONG, impair=Impair(seed=s, loss=0.1, reorder=0.2))
        for s in (1, 1, 2)
    ]
    assert results[0].events == results[1].events != results[2].events


def test_delay_keeps_the_order_and_is_bounded():
    frames = LONG.frames()
    late = Impair(seed=3, delay=0.5).spoiler()(frames)
    assert [f.data for f in late] == [f.data for f in frames]
    assert all(0 <= b.time_ns - a.time_ns <= 0.5e9 for a, b in zip(frames, late, strict=True))
    assert any(a.time_ns != b.time_ns for a, b in zip(frames, late, strict=True))


def test_reorder_keeps_all_frames_and_moves_none_further_than_it_may():
    frames = LONG.frames()
    spoilt = Impair(seed=5, reorder=0.5, distance=2).spoiler()(frames)
    assert sorted(f.data for f in spoilt) == sorted(f.data for f in frames)
    assert [f.time_ns for f in spoilt] == [f.time_ns for f in frames]
    was = {f.data: n for n, f in enumerate(frames)}
    moves = [n - was[f.data] for n, f in enumerate(spoilt)]
    assert max(moves) <= 2
    assert min(moves) < 0


@pytest.mark.parametrize(
    "wrong", [{"loss": 1.5}, {"reorder": -0.1}, {"distance": 0}, {"delay": -1}]
)
def test_impairment_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError):
        Impair(seed=1, **wrong)


def test_events_that_were_not_asked_for_are_not_kept_and_flows_end_all_the_same():
    result = testing.run(reads, HELLO, events=[aiomos.FinSeen])
    assert {type(event) for _, event in result.events} == {aiomos.FinSeen, aiomos.ConnectionEnd}
    assert result.flow().close_reason == "FIN"
    with pytest.raises(aiomos.AppError, match="events="):
        testing.run(reads, HELLO, events=[int])
