"""Protocol readers over the corpus, against what tshark reads from it (protocols.json)."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

import aiomos
from aiomos import dns, http, ssh, tls

ANSWERS = json.loads(Path(__file__).with_name("protocols.json").read_text())
del ANSWERS["made by"]

#: (capture, kind) -> why the answers differ. Anything else that differs is a mistake of ours.
DIFFERENT = {
    (
        "flowcontrol/arkime__wireshark-retrans.pcap",
        "responses",
    ): "tshark counts what was sent again",
    (
        "reorder_retransmit/suricata-verify__filestore-5408_input.pcap",
        "requests",
    ): "tshark counts what was sent again",
    (
        "reorder_retransmit/suricata-verify__filestore-5408_input.pcap",
        "responses",
    ): "tshark counts what was sent again",
    (
        "flags_rst/mercury__quic_reordered_frames.pcap",
        "ja3",
    ): "not at the beginning of a stream (STARTTLS, a proxy, a connection reused)",
    (
        "flags_rst/mercury__quic_reordered_frames.pcap",
        "names",
    ): "not at the beginning of a stream (STARTTLS, a proxy, a connection reused)",
    (
        "flags_rst/mercury__quic_reordered_frames.pcap",
        "ja3s",
    ): "not at the beginning of a stream (STARTTLS, a proxy, a connection reused)",
    (
        "gap_loss/zeek__psql-aws-ssl-require.pcap",
        "ja3",
    ): "not at the beginning of a stream (STARTTLS, a proxy, a connection reused)",
    (
        "gap_loss/zeek__psql-aws-ssl-require.pcap",
        "names",
    ): "not at the beginning of a stream (STARTTLS, a proxy, a connection reused)",
    (
        "gap_loss/zeek__psql-aws-ssl-require.pcap",
        "ja3s",
    ): "not at the beginning of a stream (STARTTLS, a proxy, a connection reused)",
    (
        "linktype/PcapPlusPlus__pcapng-example.pcapng",
        "ja3",
    ): "not at the beginning of a stream (STARTTLS, a proxy, a connection reused)",
    (
        "linktype/PcapPlusPlus__pcapng-example.pcapng",
        "ja3s",
    ): "not at the beginning of a stream (STARTTLS, a proxy, a connection reused)",
    (
        "normal/mercury__imap2.pcap",
        "ja3",
    ): "not at the beginning of a stream (STARTTLS, a proxy, a connection reused)",
    (
        "normal/mercury__imap2.pcap",
        "ja3s",
    ): "not at the beginning of a stream (STARTTLS, a proxy, a connection reused)",
    (
        "flags_rst/gopacket__test301.pcapng",
        "requests",
    ): "inside TLS, with keys that the capture brings",
    (
        "fileformat/zeek__get-to-ssh-server.pcap",
        "requests",
    ): "tshark does not look for HTTP, or SSH, on that port",
    (
        "flags_rst/arkime__tcp_handshake_synthetic.pcap",
        "banners",
    ): "tshark does not look for HTTP, or SSH, on that port",
    (
        "gap_loss/zeek__dce-rpc_mapi.pcap",
        "responses",
    ): "tshark does not look for HTTP, or SSH, on that port",
    (
        "tunnel/suricata-verify__output-eve-ftp-data_input.pcap",
        "requests",
    ): "tshark does not look for HTTP, or SSH, on that port",
    (
        "flags_rst/suricata-verify__tcp-urgent1.pcap",
        "requests",
    ): "urgent byte: part of the request or not",
    (
        "seqwrap/suricata-verify__seqwrap_tcp-urgent1.pcap",
        "requests",
    ): "urgent byte: part of the request or not",
    (
        "flags_rst/trex-core__tcp2_http_rst_middle2_c.pcap",
        "responses",
    ): "a head that is whole, of a response that tshark wants whole",
    (
        "flowcontrol/trex-core__tcp2_http_simple_cmd_connect_rst_keepalive_s.pcap",
        "responses",
    ): "a head that is whole, of a response that tshark wants whole",
    (
        "linktype/suricata-verify__http-gap-simple_input.pcap",
        "responses",
    ): "a head that is whole, of a response that tshark wants whole",
    (
        "overlap/PcapFlowLab__pcap_flow_lab_showcase.pcap",
        "responses",
    ): "a head that is whole, of a response that tshark wants whole",
    (
        "overlap/PcapPlusPlus__many-protocols.pcap",
        "responses",
    ): "a head that is whole, of a response that tshark wants whole",
    (
        "flags_rst/zeek__modbus-and-non-modbus-p502.pcap",
        "requests",
    ): "the side that the engine takes for the server sends it",
    (
        "linktype/PcapPlusPlus__pcapng-example.pcapng",
        "responses",
    ): "a head cut off by the snap length",
    (
        "linktype/suricata-verify__transform-base64-7296_input.pcap",
        "requests",
    ): "bytes of the head were damaged on purpose",
    (
        "linktype/suricata-verify__transform-base64-7296_input.pcap",
        "responses",
    ): "bytes of the head were damaged on purpose",
    (
        "tunnel/suricata-verify__bug-5437-01_input.pcap",
        "requests",
    ): "bytes of the head were damaged on purpose",
    ("tunnel/arkime__gre-erspan-vxlan.pcap", "requests"): "HTTP/0.9",
    ("vlan_mpls_pppoe/zeek__mixed-vlan-mpls.pcap", "requests"): "HTTP/0.9",
    ("tunnel/arkime__arkime_synthetic.pcap", "requests"): "methods that llhttp does not know",
    ("overlap/PcapFlowLab__pcap_flow_lab_showcase.pcap", "dns"): "records that do not parse",
    ("tunnel/arkime__arkime_synthetic.pcap", "dns"): "records that do not parse",
    ("tunnel/arkime__arkime_synthetic.pcap", "ja3s"): "records that do not parse",
    ("tunnel/dpkt__nb6-http.pcap", "dns"): "quoted by an ICMP error",
}


def read(path: Path) -> dict[str, Counter[str]]:
    """Everything that the readers find, kind by kind, spelt as tshark does."""
    found = {kind: Counter[str]() for kind in ANSWERS_KINDS}
    app = aiomos.App()

    @app.tcp(start="data", on_gap="skip", limit=1 << 24)
    async def hellos(flow):
        for look in LOOKS:
            try:
                for kind, answer in await look(flow):
                    found[kind][answer] += 1
            except (aiomos.AiomosError, asyncio.IncompleteReadError):
                pass

    @app.tcp(start="data", on_gap="skip", limit=1 << 24)
    async def web(flow):
        async for request in _whatever(http.requests(flow.client)):
            found["requests"][f"{request.method} {request.target}"] += 1
        async for response in _whatever(http.responses(flow.server)):
            found["responses"][str(response.status)] += 1

    @app.tcp("port 53", start="data", on_gap="skip", limit=1 << 24)
    @app.udp("port 53")
    async def names(flow):
        async for item in dns.messages(flow):
            if isinstance(item, dns.Message):
                found["dns"][f"0x{item.message.id:04x} {int(item.is_response)}"] += 1

    summary = aiomos.run(app, path)
    assert summary.handler_errors == 0
    return found


async def _whatever(messages):
    """Messages, and no errors: tshark goes on behind them too."""
    while True:
        try:
            yield await anext(messages)
        except aiomos.ProtocolError:
            continue
        except (StopAsyncIteration, aiomos.FlowError):
            return


async def _client_hello(flow):
    hello = await tls.client_hello(flow.client)
    return [("ja3", hello.ja3)] + ([("names", hello.server_name)] if hello.server_name else [])


async def _server_hello(flow):
    return [("ja3s", (await tls.server_hello(flow.server)).ja3s)]


async def _ssh_client(flow):
    return [("banners", _spelt(await ssh.banner(flow.client)))]


async def _ssh_server(flow):
    return [("banners", _spelt(await ssh.banner(flow.server)))]


async def _ssh_client_offer(flow):
    return [("hassh", (await ssh.kex_init(flow.client)).hassh)]


async def _ssh_server_offer(flow):
    return [("hassh_server", (await ssh.kex_init(flow.server)).hassh_server)]


def _spelt(banner):
    return f"SSH-{banner.protocol}-{banner.software} {banner.comments}".strip()


LOOKS = (_client_hello, _server_hello, _ssh_client, _ssh_server)
LOOKS += (_ssh_client_offer, _ssh_server_offer)
ANSWERS_KINDS = (
    *("requests", "responses", "ja3", "names", "ja3s"),
    *("banners", "hassh", "hassh_server", "dns"),
)


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_readers_find_in_a_capture_what_tshark_finds(corpus, name):
    found = read(corpus / "public" / name)
    for kind in ANSWERS_KINDS:
        if (name, kind) not in DIFFERENT:
            assert dict(found[kind]) == ANSWERS[name].get(kind, {}), kind
