"""TLS hellos: real handshakes of OpenSSL in memory, cut and broken, through the engine."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
import contextlib

from craft import CLIENT
from kit import play, tape_of

import aiomos
from aiomos import _tlsfingerprint as fingerprint
from aiomos import tls

needs_tshark = pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=a -keyout k -out c"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder / "c", folder / "k"


def handshake(certificate, *, curve=None, version=None, name="www.example.org", alpn=("h2",)):
    """What both ends of a handshake say, in turns: [(side, bytes), ...]."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*certificate)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    if curve:
        server.set_ecdh_curve(curve)
    if version:
        client.maximum_version = version
    for context in (server, client):
        context.set_alpn_protocols(list(alpn)) if alpn else None
    pipes = [(ssl.MemoryBIO(), ssl.MemoryBIO()) for _ in range(2)]
    ends = [
        client.wrap_bio(*pipes[0], server_hostname=name),
        server.wrap_bio(*pipes[1], server_side=True),
    ]
    said = []
    for turn in range(8):
        side = turn % 2
        with contextlib.suppress(ssl.SSLWantReadError):
            ends[side].do_handshake()
        if data := pipes[side][1].read():
            pipes[1 - side][0].write(data)
            said.append((side, data))
    return said


def conversation(said, size=1200):
    def script(t):
        t.handshake()
        for side, data in said:
            for at in range(0, len(data), size):
                t.say(side, 0x10, data[at : at + size])
                t.say(1 - side, 0x10)
        t.close()

    return script


def looked(look, script, **options):
    """What a coroutine function of the flow gave or raised."""
    found = []
    app = aiomos.App()

    @app.tcp(start="data", **options)
    async def handler(flow):
        try:
            found.append(await look(flow))
        except Exception as error:
            found.append(error)

    assert play(app, script).handler_errors == 0
    return found[0]


def client_of(data, size=1200, **options):
    script = conversation([(CLIENT, data)], size)
    return looked(lambda flow: tls.client_hello(flow.client, **options), script)


def server_of(data, **options):
    script = conversation([(1, data)])
    return looked(lambda flow: tls.server_hello(flow.server, **options), script)


def record(content, kind=22):
    return bytes([kind, 3, 1]) + len(content).to_bytes(2, "big") + content


def test_hellos_of_openssl_name_what_was_asked_for(certificate):
    said = handshake(certificate)
    hello = client_of(said[0][1])
    assert (hello.server_name, hello.alpn) == ("www.example.org", ("h2",))
    assert (hello.version_name, hello.legacy_version) == ("TLSv1.3", 0x0303)
    assert 0x1301 in hello.cipher_suites
    assert hello.extension(16) == b"\x00\x03\x02h2"
    answer = server_of(said[1][1])
    assert (answer.version_name, answer.is_retry_request) == ("TLSv1.3", False)
    assert answer.cipher_suite in hello.cipher_suites


def test_tls12_server_tells_its_protocol(certificate):
    said = handshake(certificate, version=ssl.TLSVersion.TLSv1_2)
    answer = server_of(said[1][1])
    assert (answer.version_name, answer.alpn) == ("TLSv1.2", "h2")


@pytest.mark.parametrize("size", [1, 7, 100])
def test_hello_over_many_segments_and_records_is_the_same(certificate, size):
    data = handshake(certificate)[0][1]
    whole = client_of(data)
    assert client_of(data, size) == whole
    content = data[5:]
    pieces = [content[i : i + size] for i in range(0, len(content), size)]
    assert client_of(b"".join(map(record, pieces))) == whole


def test_looking_consumes_nothing(certificate):
    data = handshake(certificate)[0][1]

    async def look(flow):
        first = await tls.client_hello(flow.client)
        assert await tls.client_hello(flow.client) == first
        return await flow.client.read(10_000)

    assert looked(look, conversation([(CLIENT, data)])) == data


def test_hello_behind_plain_text_is_read_from_the_cursor_on(certificate):
    data = handshake(certificate)[0][1]

    async def look(flow):
        assert await flow.client.readline() == b"STARTTLS\r\n"
        return await tls.client_hello(flow.client)

    hello = looked(look, conversation([(CLIENT, b"STARTTLS\r\n" + data)]))
    assert (hello.server_name, hello.offset) == ("www.example.org", 10)


def test_server_hello_is_given_before_its_certificate_came(certificate):
    data = handshake(certificate, version=ssl.TLSVersion.TLSv1_2)[1][1]
    length = int.from_bytes(data[6:9], "big")
    assert server_of(data[: 9 + length]).version == 0x0303


def test_retry_request_and_second_hello_are_told_apart(certificate):
    said = handshake(certificate, curve="secp521r1")
    assert [side for side, _ in said[:4]] == [0, 1, 0, 1]

    async def look(flow):
        return (
            await tls.client_hello(flow.client),
            await tls.client_hello(flow.client, retried=True),
            await tls.server_hello(flow.server),
            await tls.server_hello(flow.server, retried=True),
        )

    first, second, retry, answer = looked(look, conversation(said))
    assert first.random == second.random
    assert first.extension(51) != second.extension(51)
    assert (retry.is_retry_request, answer.is_retry_request) == (True, False)


@needs_tshark
@pytest.mark.parametrize("curve", [None, "secp521r1"])
@pytest.mark.parametrize("version", [None, ssl.TLSVersion.TLSv1_2])
def test_fingerprints_of_openssl_are_tsharks(certificate, tmp_path, curve, version):
    said = handshake(certificate, curve=curve, version=version)
    script = conversation(said)

    async def look(flow):
        client = await tls.client_hello(flow.client)
        return client.ja3, client.ja3_text, (await tls.server_hello(flow.server)).ja3s

    path = tape_of(script).write(tmp_path / "a.pcap")
    command = ["tshark", "-n", "-r", path, "-d", "tcp.port==80,tls", "-T", "fields"]
    for field in ("ja3", "ja3_full", "ja3s"):
        command += ["-e", f"tls.handshake.{field}"]
    rows = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    cells = [row.split("\t") for row in rows if row.strip()]
    ja3, ja3s = next(c for c in cells if c[0]), next(c for c in cells if c[2])
    assert looked(look, script) == (ja3[0], ja3[1], ja3s[2])


# ---- what is none ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "first byte is 0x47"),
        (b"\x80\x2e\x01\x03\x01", "SSLv2"),
        (b"\x16\x02\x00", "second byte"),
        (b"\x16\x03\x01\x00\x00", "record of 0 bytes"),
        (b"\x16\x03\x01\xff\xff", "record of 65535 bytes"),
        (record(b"\x02\x00\x00\x05hello"), "type 2 where 1"),
        (record(b"\x01\xff\xff\xff"), "over the limit"),
        (record(b"\x01\x00\x00\x02\x03\x03"), "ends before"),
        (record(b"\x01\x00\x00\x27\x03\x03" + bytes(37)), "ends before"),
        (record(b"\x14\x00\x00\x00"), "type 20"),
    ],
)
def test_what_is_no_hello_is_said_with_its_reason(data, reason):
    error = client_of(data)
    assert isinstance(error, aiomos.ProtocolError)
    assert reason in error.reason
    assert (error.protocol, error.offset) == ("tls", 0)


def test_not_tls_is_known_from_the_first_byte():
    def script(t):
        t.handshake()
        t.c(b"G")

    error = looked(lambda flow: tls.client_hello(flow.client), script)
    assert isinstance(error, aiomos.ProtocolError)


def test_alert_instead_of_a_hello_is_named():
    error = server_of(record(b"\x02\x28", 21))
    assert isinstance(error, tls.Alert)
    assert (error.level, error.description) == (2, 40)


def test_endless_records_of_change_cipher_spec_end_at_the_limit():
    error = client_of(record(b"\x01", 20) * 2000, limit=5000)
    assert "no whole hello in 5000 bytes" in error.reason


def test_hello_cut_by_the_end_or_a_gap_is_incomplete(certificate):
    data = handshake(certificate)[0][1]
    error = client_of(data[:100])
    assert isinstance(error, asyncio.IncompleteReadError)
    assert error.partial == data[9:100]

    def script(t):
        t.handshake()
        t.c(data[:50])
        t.skip(CLIENT, 50)
        t.c(data[100:])
        t.s()
        t.rest(1)
        t.close()

    error = looked(lambda flow: tls.client_hello(flow.client), script)
    assert isinstance(error, asyncio.IncompleteReadError)


def test_flow_without_a_byte_is_incomplete():
    script = conversation([(1, b"x")])
    error = looked(lambda flow: tls.client_hello(flow.client), script)
    assert isinstance(error, asyncio.IncompleteReadError)
    assert error.partial == b""


# ---- JA3 and JA4 ----------------------------------------------------------------------------------


def test_ja4_of_the_published_example():
    """The example of its authors, with GREASE put in, which must not count."""
    ciphers = "002f,0035,009c,009d,1301,1302,1303,c013,c014,c02b,c02c,c02f,c030,cca8,cca9"
    extensions = "0000,0010,0005,000a,000b,000d,0012,0015,0017,001b,0023,002b,002d,0033,4469,ff01"
    signatures = "0403,0804,0401,0503,0805,0501,0806,0601"

    def numbers(text):
        return [0x1A1A, *(int(part, 16) for part in reversed(text.split(",")))]

    hashed = [int(part, 16) for part in signatures.split(",")]
    given = (0x0304, True, numbers(ciphers), numbers(extensions), b"h2", hashed)
    assert fingerprint.ja4(*given) == "t13d1516h2_8daaf6152771_e5627efa2ab1"
    raw = fingerprint.ja4(*given, raw=True)
    assert raw == f"t13d1516h2_{ciphers}_{extensions[10:]}_{signatures}"
    assert hashlib.sha256(ciphers.encode()).hexdigest()[:12] == "8daaf6152771"


@pytest.mark.parametrize(
    ("alpn", "ends"),
    [
        *((b"h2", "h2"), (b"http/1.1", "h1"), (b"", "00"), (b"x", "xx")),
        *((b"\xab", "ab"), (b"\xab\xcd", "ad"), (b"0\xab", "3b"), (b"01\xab\xcd", "3d")),
    ],
)
def test_ja4_takes_the_ends_of_the_first_protocol(alpn, ends):
    assert (
        fingerprint.ja4(0x0303, False, [], [], alpn, []) == f"t12i0000{ends}_{'0' * 12}_{'0' * 12}"
    )


def test_grease_is_sixteen_numbers():
    found = [n for n in range(1 << 16) if fingerprint.is_grease(n)]
    assert found == [0x0A0A + 0x1010 * i for i in range(16)]


def test_ja3_leaves_grease_out():
    text = fingerprint.ja3_text(771, [0x0A0A, 4865], [0x1A1A, 0, 23], [0x2A2A, 29], [0])
    assert text == "771,4865,0-23,29,0"
