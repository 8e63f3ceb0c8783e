"""Workers that all see every frame: each flow is one's, and together they do what one would."""

from __future__ import annotations

import struct
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[1]))
from craft import ICMP, IP4, UDP, datagram, ethernet, ipv4, udp

import aiomos
from aiomos import rss
from aiomos._ownloop import serve_on_own_loop
from aiomos.testing.frames import framed, packets

CAPTURES = sorted((Path(__file__).parents[1] / "captures").glob("*.pcap*"))
WORKERS = (2, 3, 5)
#: What all workers count of a file that all of them read: the first one's is told.
SHARED = {"clock_jumps", "clock_steps_back", "other_workers"}


class Seen:
    """What one worker made of some traffic."""

    def __init__(self, source, number=0, count=1):
        self.flows, self.packets = [], []
        app = aiomos.App()
        app.tcp(on_gap="skip")(self.stream)
        app.udp()(self.datagrams)
        app.packet()(self.packet)
        engine = aiomos.Engine(source)
        engine.number = number
        if count > 1:
            engine.core.share(number, count)
        try:
            self.summary = serve_on_own_loop(engine, app)
        finally:
            engine.close()
        assert not self.summary.handler_errors

    async def stream(self, flow):
        said = [await end.read() for end in (flow.client, flow.server)]
        self.flows.append((str(flow.key), *said))

    async def datagrams(self, flow):
        said = [(d.sender, d.data) async for d in flow]
        self.flows.append((str(flow.key), *said))

    def packet(self, packet):
        self.packets.append(bytes(packet))


def assert_shared_out(make_source, count):
    """So many workers do together what one does, and nothing twice."""
    alone = Seen(make_source())
    parts = [Seen(make_source(), number, count) for number in range(count)]
    flows = [flow for part in parts for flow in part.flows]
    assert Counter(map(repr, flows)) == Counter(map(repr, alone.flows))
    assert Counter(p for part in parts for p in part.packets) == Counter(alone.packets)
    counters = Counter()
    for part in parts:
        counters.update(part.summary.counters)
    differing = {
        name: (value, counters[name])
        for name, value in alone.summary.counters.items()
        if value != counters[name] and name not in SHARED
    }
    assert not differing
    assert sum(p.summary.received for p in parts) == alone.summary.received
    return parts


@pytest.mark.parametrize("count", WORKERS)
@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_workers_of_a_capture_do_together_what_one_does(path, count):
    assert_shared_out(lambda: path, count)


@pytest.mark.parametrize("folder", ["fragments", "tunnel", "nontcp", "vlan_mpls_pppoe"])
def test_workers_of_the_corpus_do_together_what_one_does(corpus, folder):
    paths = [p for p in sorted((corpus / "public" / folder).iterdir()) if "pcap" in p.suffix]
    assert paths
    for path in paths:
        assert_shared_out(lambda path=path: path, 3)


def source_of(frames):
    return aiomos.MemorySource([(raw, 1_700_000_000 * 10**9 + n) for n, raw in enumerate(frames)])


@pytest.mark.parametrize("count", WORKERS)
def test_fragmented_and_whole_packets_of_one_flow_meet(count):
    """A fragment has no ports to hash; its datagram has."""
    ends = "10.0.0.1", "10.0.0.2"
    frames = []
    for port in range(5000, 5020):
        frames.append(datagram(b"whole", ("10.0.0.1", port), ("10.0.0.2", 53)))
        segment = udp(port, 53, bytes(1000), ends=ends)
        frames += map(framed, packets(segment, ends, UDP, fragment=400, ident=port))
    parts = assert_shared_out(lambda: source_of(frames), count)
    flows = [flow for part in parts for flow in part.flows]
    assert len(flows) == 20
    assert all([len(data) for _, data in said] == [5, 1000] for _, *said in flows)
    assert sum(len(part.flows) > 0 for part in parts) > 1, "all flows are one worker's"


@pytest.mark.parametrize("count", WORKERS)
def test_icmp_error_goes_with_the_flow_that_it_quotes(count):
    frames = []
    for port in range(5000, 5010):
        quoted = ipv4(
            udp(port, 53, b"q", ends=("10.0.0.1", "10.0.0.2")), "10.0.0.1", "10.0.0.2", UDP
        )
        frames.append(ethernet(quoted, IP4))
        error = b"\x03\x03\0\0\0\0\0\0" + quoted
        frames.append(ethernet(ipv4(error, "192.0.2.1", "10.0.0.1", ICMP), IP4))
    parts = assert_shared_out(lambda: source_of(frames), count)
    assert sum(part.summary.counters["icmp_errors"] for part in parts) == 10


#: Ports of what is decoded further.
TUNNELS = {1701, 2152, 3544, 4789, 6081}
addresses = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
)
ports = st.integers(1, 65535)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(addresses, ports, ports), min_size=1, max_size=20), st.integers(2, 7))
def test_flow_is_at_the_worker_that_rss_names(flows, count):
    frames = [
        datagram(b"x", (str(a), sport), (str(b), dport))
        for (a, b), sport, dport in flows
        if not {sport, dport} & TUNNELS
    ]
    for number in range(count):
        for name, *_ in Seen(source_of(frames), number, count).flows:
            key = eval(name, {"FlowKey": aiomos.FlowKey})
            assert rss.worker_of(key, count) == number


# ---- the hash itself -----------------------------------------------------------------------------

#: "Verifying the RSS Hash Calculation" (Microsoft, NDIS): key, input, addresses alone, with ports.
VERIFIED_KEY = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
)
VERIFIED = [
    ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x323E8FC2, 0x51CCC178),
    ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xD718262A, 0xC626B0EA),
    ("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x2CC18CD5, 0x40207D3D),
]


@pytest.mark.parametrize(("source", "sport", "target", "dport", "pair", "flow"), VERIFIED)
def test_toeplitz_gives_the_published_values(source, sport, target, dport, pair, flow):
    from ipaddress import ip_address

    data = ip_address(source).packed + ip_address(target).packed
    assert rss.toeplitz(data, VERIFIED_KEY) == pair
    assert rss.toeplitz(data + struct.pack(">HH", sport, dport), VERIFIED_KEY) == flow


@pytest.mark.parametrize("key", [("10.0.0.1", 1, "::1", 2), ("no address", 1, "10.0.0.1", 2)])
def test_rss_refuses_what_is_no_flow(key):
    with pytest.raises(ValueError):
        rss.worker_of(key, 2)


@pytest.mark.parametrize("count", [0, -1, 129])
def test_rss_refuses_workers_that_there_cannot_be(count):
    with pytest.raises(ValueError, match="128"):
        rss.worker_of(("10.0.0.1", 1, "10.0.0.2", 2), count)


@pytest.mark.parametrize(("number", "count"), [(2, 2), (-1, 2), (0, 129)])
def test_core_refuses_a_place_that_there_cannot_be(number, count):
    engine = aiomos.Engine(source_of([]))
    with pytest.raises(aiomos.ConfigError, match="128"):
        engine.core.share(number, count)
