"""Community ID: published values, both directions, and tshark's opinion on captures."""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import aiomos
from aiomos._community_id import community_id

sys.path.append(str(Path(__file__).parents[1]))
from kit import play, whole

TCP, UDP = 6, 17
#: Addresses, ports, protocol, seed, and the ID: the baselines of the specification.
PUBLISHED = [
    ("128.232.110.120", "66.35.250.204", 34855, 80, TCP, 0, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
    ("128.232.110.120", "66.35.250.204", 34855, 80, TCP, 1, "1:3V71V58M3Ksw/yuFALMcW0LAHvc="),
    ("192.168.1.52", "8.8.8.8", 54585, 53, UDP, 0, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
    ("192.168.1.52", "8.8.8.8", 54585, 53, UDP, 1, "1:Q9We8WO3piVF8yEQBNJF4uiSVrI="),
    ("1.2.3.4", "5.6.7.8", 1122, 3344, TCP, 0, "1:wCb3OG7yAFWelaUydu0D+125CLM="),
    ("1.2.3.4", "5.6.7.8", 1122, 3344, UDP, 0, "1:0Mu9InQx6z4ZiCZM/7HXi2WMhOg="),
    (
        "2001:470:e5bf:dead:4957:2174:e82c:4887",
        "2607:f8b0:400c:c03::1a",
        63943,
        25,
        TCP,
        0,
        "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=",
    ),
]


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


@pytest.mark.parametrize(("a", "b", "sport", "dport", "protocol", "seed", "expected"), PUBLISHED)
def test_published_flow_has_the_published_id_from_both_ends(
    a, b, sport, dport, protocol, seed, expected
):
    ends = packed(a), packed(b)
    assert community_id(*ends, sport, dport, protocol, seed) == expected
    assert community_id(*reversed(ends), dport, sport, protocol, seed) == expected


def test_equal_addresses_are_ordered_by_port():
    here = packed("10.0.0.1")
    assert community_id(here, here, 1, 2, TCP) == community_id(here, here, 2, 1, TCP)


@pytest.mark.parametrize("seed", [0, 1])
def test_flow_gives_its_id_with_the_seed_of_the_engine(seed):
    found = []

    async def handler(flow):
        found.append(flow.community_id)

    play(handler, whole(b"x"), community_id_seed=seed)
    ends = packed("10.0.0.1"), packed("10.0.0.2")
    assert found == [community_id(*ends, 40000, 80, TCP, seed)]


@pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark")
@pytest.mark.parametrize("name", ["http_v6_reorder.pcap", "smtp_any.pcap", "tls_duplicate.pcapng"])
def test_tshark_gives_every_connection_the_same_id(captures, name):
    found = set()

    async def handler(flow):
        found.add(flow.community_id)

    aiomos.run(handler, captures / name)
    fields = ["-Y", "tcp", "-T", "fields", "-e", "communityid"]
    command = ["tshark", "-n", "-r", captures / name, "--enable-protocol", "communityid", *fields]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    theirs = set(done.stdout.split())
    if not theirs:
        pytest.skip("this tshark knows no Community ID")
    assert found == theirs
