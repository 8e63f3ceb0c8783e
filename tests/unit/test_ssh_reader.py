"""SSH banners and key exchange offers, through the engine."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import CLIENT, SERVER
from kit import play

import aiomos
from aiomos import ssh

LISTS = ("curve25519-sha256,kex2", "ssh-ed25519", "aes128-ctr", "aes256-ctr", "hmac-a", "hmac-b")
LISTS += ("none", "zlib", "", "")


def packet(lists=LISTS, message=20):
    names = b"".join(len(n).to_bytes(4, "big") + n.encode() for n in lists)
    payload = bytes([message]) + bytes(16) + names + b"\0" + bytes(4)
    padding = 8 - (len(payload) + 5) % 8 + 4
    return (
        (len(payload) + 1 + padding).to_bytes(4, "big")
        + bytes([padding])
        + payload
        + b"p" * padding
    )


def looked(look, data, side=SERVER, size=1000, close=True):
    found = []

    async def handler(flow):
        end = flow.server if side == SERVER else flow.client
        try:
            found.append(await look(end))
        except Exception as error:
            found.append(error)

    def script(t):
        t.handshake()
        for at in range(0, len(data), size):
            t.say(side, 0x10, data[at : at + size])
            t.say(1 - side, 0x10)
        if close:
            t.close()

    assert play(handler, script).handler_errors == 0
    return found[0]


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_banner_is_taken_apart(size):
    data = b"SSH-2.0-OpenSSH_9.2p1 Debian-2 x\r\n" + packet()
    found = looked(ssh.banner, data, size=size)
    assert found == ssh.Banner("2.0", "OpenSSH_9.2p1", "Debian-2 x", (), 0, 34)


def test_software_may_have_a_minus_and_the_line_a_lone_lf():
    found = looked(ssh.banner, b"SSH-1.99-my-server-1\n", CLIENT)
    assert (found.protocol, found.software, found.comments) == ("1.99", "my-server-1", "")


def test_lines_of_a_server_before_its_banner_are_kept():
    found = looked(ssh.banner, b"Welcome\r\nto this host\r\nSSH-2.0-x\r\n")
    assert (found.preface, found.offset) == (("Welcome", "to this host"), 23)


def test_looking_consumes_nothing():
    async def look(end):
        await ssh.banner(end)
        await ssh.kex_init(end)
        return await end.readline()

    assert looked(look, b"SSH-2.0-x\r\n" + packet()) == b"SSH-2.0-x\r\n"


@pytest.mark.parametrize("size", [1, 1000])
def test_offers_are_listed_and_hashed(size):
    found = looked(ssh.kex_init, b"SSH-2.0-x\r\n" + packet(), size=size)
    assert found.kex == ("curve25519-sha256", "kex2")
    assert (found.macs_to_client, found.languages_to_client) == (("hmac-b",), ())
    # md5 of "curve25519-sha256,kex2;aes128-ctr;hmac-a;none" and of the other direction, by md5sum
    assert found.hassh == "f8863b024966e31f9d5be46edf2abdeb"
    assert found.hassh_server == "b885ab4d29294e15c1d920b36101b8d3"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"SSH-2.0\r\n", "without a software version"),
        (b"GET / HTTP/1.1\r\n" * 1000, "no banner in 8192 bytes"),
        (b"a" * 300, "over 255 bytes"),
        (b"\x16\x03\x01\x00\xff", "zero byte"),
    ],
)
def test_what_is_no_banner_is_said_without_waiting_for_the_end(data, reason):
    error = looked(ssh.banner, data, close=False)
    assert isinstance(error, aiomos.ProtocolError)
    assert reason in error.reason
    assert error.protocol == "ssh"


@pytest.mark.parametrize(
    "behind",
    [
        *(packet(message=30), b"\xff\xff\xff\xff", b"\0\0\0\1" + bytes(9)),
        packet(LISTS[:5]),
    ],
)
def test_what_is_no_offer_raises(behind):
    error = looked(ssh.kex_init, b"SSH-2.0-x\r\n" + behind)
    assert isinstance(error, aiomos.ProtocolError)


def test_stream_that_ends_first_is_incomplete():
    error = looked(ssh.banner, b"SSH-2.0-Open")
    assert isinstance(error, asyncio.IncompleteReadError)
    assert error.partial == b"SSH-2.0-Open"
