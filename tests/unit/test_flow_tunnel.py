"""What is around a connection: told with it, kept out of its key or put into it, and freed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import aiomos
from aiomos import Tunnel
from aiomos._engine._testcore import CoreDriver

sys.path.append(str(Path(__file__).parents[1]))
from craft import IP4, IP6, MAC, SECOND, Talk, assert_idle, datagram, ethernet
from kit import Tape, aiomos_command
from wraps import (
    GRE,
    IPIP,
    MPLS,
    OUTER,
    PPPOE,
    erspan2,
    geneve,
    gre,
    gtpu,
    in_ip,
    in_udp,
    l2tp,
    mpls,
    ppp,
    pppoe,
    vxlan,
)

#: What a monitored segment looks like, from the plain frame.
WRAPS = {
    "vlan": lambda f: f[:12] + b"\x81\0\0\x05" + f[12:],
    "qinq": lambda f: f[:12] + b"\x88\xa8\0\x05\x81\0\0\x06" + f[12:],
    "mpls": lambda f: ethernet(mpls(f[14:], 16), MPLS),
    "gre": lambda f: ethernet(in_ip(gre(f[14:]), GRE)),
    "erspan": lambda f: ethernet(in_ip(erspan2(f), GRE)),
    "geneve": lambda f: ethernet(in_udp(geneve(f), 6081)),
    "vxlan": lambda f: ethernet(in_udp(vxlan(f), 4789)),
    "ipip": lambda f: ethernet(in_ip(f[14:], IPIP)),
    "pppoe": lambda f: ethernet(pppoe(ppp(f[14:])), PPPOE),
}


def converse(driver: CoreDriver, wrap_of, script) -> None:
    """A conversation whose frames are wrapped as wrap_of(number) says."""
    count = 0

    def sink(raw: bytes, time_ns: int) -> None:
        nonlocal count
        driver.input(wrap_of(count)(raw), time_ns)
        count += 1

    script(Talk(sink))


def hello(t: Talk) -> None:
    t.handshake()
    t.c(b"question")
    t.s(b"answer")
    t.close()


def plain(raw: bytes) -> bytes:
    return raw


@pytest.mark.parametrize("name", WRAPS)
def test_connection_wrapped_half_the_time_is_one_flow(name):
    driver = CoreDriver()
    converse(driver, lambda i: WRAPS[name] if i % 2 else plain, hello)
    [log] = driver.flows
    assert (log.data(0), log.data(1)) == (b"question", b"answer")
    assert_idle(driver)


@pytest.mark.parametrize("name", WRAPS)
def test_connection_wrapped_half_the_time_with_the_network_in_the_key_is_two_flows(name):
    driver = CoreDriver(vlan_in_key=True, tunnel_in_key=True)
    converse(driver, lambda i: WRAPS[name] if i % 2 else plain, hello)
    assert len(driver.flows) == 2
    assert_idle(driver)


@pytest.mark.parametrize("name", WRAPS)
def test_copies_inside_and_outside_are_retransmissions_of_one_flow(name):
    driver = CoreDriver()

    def twice(raw: bytes, time_ns: int) -> None:
        driver.input(raw, time_ns)
        driver.input(WRAPS[name](raw), time_ns + 1)

    hello(Talk(twice))
    [log] = driver.flows
    assert (log.data(0), log.data(1)) == (b"question", b"answer")
    assert log.retransmissions == (3, 2)  # data, FIN, and the client's last acknowledgement or SYN
    assert_idle(driver)


@pytest.mark.parametrize("name", WRAPS)
def test_copies_inside_and_outside_with_the_network_in_the_key_are_two_whole_flows(name):
    driver = CoreDriver(vlan_in_key=True, tunnel_in_key=True)
    converse(driver, lambda i: plain, hello)
    converse(driver, lambda i: WRAPS[name], hello)
    first, second = driver.flows
    assert first.data(0) == second.data(0) == b"question"
    assert_idle(driver)


def told(frame: bytes, **options) -> tuple[Tunnel, ...]:
    """flow.tunnel of a datagram's flow."""
    found = []

    async def handler(flow):
        found.append(flow.tunnel)

    app = aiomos.App()
    app.udp()(handler)
    source = aiomos.MemorySource([(frame, SECOND)])
    source.finish()
    aiomos.run(app, source, **options)
    return found[0]


INNER = datagram(b"query")
PLAIN = INNER[14:]


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (INNER, ()),
        (ethernet(PLAIN, vlan=[5]), ()),
        (
            ethernet(in_udp(vxlan(INNER), 4789)),
            (Tunnel("vxlan", 42, *OUTER),),
        ),
        (ethernet(in_ip(PLAIN, IPIP)), (Tunnel("ipip", None, *OUTER),)),
        (
            ethernet(mpls(in_ip(gre(in_udp(geneve(INNER), 6081), key=5), GRE), 16), MPLS),
            (Tunnel("mpls", 16), Tunnel("gre", 5, *OUTER), Tunnel("geneve", 42, *OUTER)),
        ),
        (
            ethernet(in_udp(vxlan(INNER), 4789, ends=("fd00::9", "fd00::8")), IP6),
            (Tunnel("vxlan", 42, "fd00::9", "fd00::8"),),
        ),
    ],
)
def test_flow_tells_its_tunnels_outermost_first(frame, expected):
    assert told(frame) == expected


def test_tunnel_left_closed_tells_none():
    assert told(ethernet(in_udp(vxlan(INNER), 4789)), decode=["vlan"]) == ()


def test_tunnel_is_that_of_the_first_packet():
    frames = [(WRAPS["vxlan"](INNER), SECOND), (WRAPS["gre"](INNER), 2 * SECOND)]
    found = []

    async def handler(flow):
        async for _ in flow:
            pass
        found.append(flow.tunnel)

    app = aiomos.App()
    app.udp()(handler)
    source = aiomos.MemorySource(frames)
    source.finish()
    aiomos.run(app, source)
    assert found == [(Tunnel("vxlan", 42, *OUTER),)]


def test_tunnel_outlives_the_flow_while_somebody_holds_it():
    flows = []

    async def handler(flow):
        flows.append(flow)

    tape = Tape()
    hello(Talk(lambda raw, ns: tape.add(WRAPS["gre"](raw), ns)))
    aiomos.run(handler, tape.source())
    assert flows[0].is_closed
    assert flows[0].tunnel == (Tunnel("gre", None, *OUTER),)


def test_link_addresses_are_those_of_the_captured_frame():
    seen = []

    async def handler(flow):
        seen.append(flow._mac)

    app = aiomos.App()
    app.udp()(handler)
    inner = ethernet(PLAIN, src=bytes(6), dst=bytes(6))
    source = aiomos.MemorySource([(ethernet(in_udp(vxlan(inner), 4789)), SECOND)])
    source.finish()
    aiomos.run(app, source)
    assert seen == [MAC]


def test_description_without_memory_is_left_out_and_counted():
    driver = CoreDriver(memory=0)
    driver.input(WRAPS["gre"](INNER), SECOND)
    assert driver.counters()["memory_refused"] >= 1
    assert len(driver.flows) == 1
    assert_idle(driver)


def test_tunnelled_flows_give_their_blocks_back():
    driver = CoreDriver(max_flows=100)
    for i in range(1000):
        inner = datagram(b"x", ("10.0.0.1", 1000 + i))
        driver.input(WRAPS["vxlan"](inner), i * SECOND)
    assert len(driver.flows) == 1000
    assert driver.usage()["blocks"] <= 2 * 100  # a description and a queue each
    assert_idle(driver)


def test_both_directions_of_gtp_and_l2tp_are_one_flow_even_with_tunnels_in_the_key():
    for wrap, port in ((lambda f, n: gtpu(f[14:], n), 2152),
                       (lambda f, n: l2tp(ppp(f[14:]), n), 1701)):  # fmt: skip
        driver = CoreDriver(tunnel_in_key=True)
        ends = (OUTER, OUTER[::-1])

        def sink(raw: bytes, time_ns: int, driver=driver, wrap=wrap, port=port, ends=ends) -> None:
            side = raw[14 + 12 : 14 + 16] == bytes([10, 0, 0, 2])
            body = in_udp(wrap(raw, 7 + side), port, port, ends[side])
            driver.input(ethernet(body), time_ns)

        hello(Talk(sink))
        assert len(driver.flows) == 1
        assert_idle(driver)


# ---- options ----------------------------------------------------------------


async def nobody(flow):
    pass


def test_unknown_decoder_is_refused_by_name():
    with pytest.raises(aiomos.ConfigError, match=r"no such .vxlam."):
        aiomos.run(nobody, Tape().source(), decode=["vxlam"])


@pytest.fixture
def capture(tmp_path):
    tape = Tape()
    hello(Talk(lambda raw, ns: tape.add(WRAPS["vxlan"](WRAPS["qinq"](raw)), ns)))
    hello(Talk(lambda raw, ns: tape.add(raw, ns + 1)))
    return tape.write(tmp_path / "a.pcap")


def listed(*args):
    done = aiomos_command("flows", *args, "-q", "--format", "jsonl")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_flows_lists_tags_and_tunnels(capture):
    [row] = listed(capture)
    assert (row["vlan"], row["tunnel"]) == ("5 6", "vxlan:42")


def test_key_option_tells_networks_apart(capture):
    assert [row["tunnel"] for row in listed(capture, "--key", "vlan,tunnel")] == ["vxlan:42", ""]


def test_no_decode_option_leaves_encapsulations_closed(capture):
    assert [row["tunnel"] for row in listed(capture, "--no-decode", "vxlan,gre")] == [""]
    [first, *_] = listed(capture, "--no-decode", "vxlan", "--udp")
    assert (first["proto"], first["dport"]) == ("udp", 4789)


@pytest.mark.parametrize(("option", "value"), [("--no-decode", "vxlam"), ("--key", "tunel")])
def test_options_with_unknown_names_are_refused(capture, option, value):
    done = aiomos_command("flows", capture, option, value)
    assert done.returncode == 2
    assert value.encode() in done.stderr


def test_plain_frames_still_have_no_description():
    driver = CoreDriver()
    hello(Talk(driver.input))
    driver.input(ethernet(PLAIN, IP4), SECOND)
    assert all(not log.look()["flags"] & 0x400000 for log in driver.flows)
