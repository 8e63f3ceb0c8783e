"""Overlapping segments to a real Linux socket: it receives what aiomos reads with `linux`.

The rule holds where the kernel keeps each early segment in a buffer of its own, which a sniffer
on its host, still holding a copy of each, makes it do. Where neighbours are merged, the last tests
say what this kernel does (docs/decisions/0025).
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
from overlaps import VECTORS, Script, arrangements, by_the_rule, closed, dense, laid_out
from reading import FULL, offered, read
from stranger import PORT, SERVER, Street, Visit

ISNS = (0, 1, 2**32 - 1, 2**32 - 11)
RANDOM = 3000 if FULL else 300
#: main, before, same, after: overlap-cases of 2007, read by `linux`.
EXPECTED = {
    "main": b"0AAAJJBCCCLLLMMMFFFGGHHQQ",
    "before": b"0JJJJ...LLLMMM",
    "same": b"0LLLL..........HHII",
    "after": b"0AAJ............FFFGG",
}


def received(street: Street, scripts: list[Script], isn: int = 1000) -> dict[int, bytes]:
    """What the application got in each script, by the stranger's port."""
    found = {}
    with street.server.listen(SERVER, PORT) as listener:
        for segments in scripts:
            visit = Visit(street, listener, isn)
            visit.open()
            for at, data in segments:
                visit.send(data=data, at=at)
            street.settle()
            found[visit.port] = visit.read()
            visit.close()
            if street.after_visit:
                street.after_visit()
    return found


def compare(street: Street, scripts: list[Script], isn: int = 1000) -> list[bytes]:
    """Kernel, rule and aiomos agree on every script; gives what was received."""
    kernel = received(street, scripts, isn)
    for segments, data in zip(scripts, kernel.values(), strict=True):
        assert data == by_the_rule(segments), segments
    tapped = read(street.frames, overlap="linux") if offered(overlap="linux") else {}
    for segments, ports in zip(scripts, tapped, strict=False):
        (seen,), data = tapped[ports], kernel[ports[0]]
        assert seen.client.data == data, segments
        assert seen.client.gaps == [], segments
    return list(kernel.values())


@pytest.mark.parametrize("isn", ISNS)
def test_early_segments_of_the_vectors_socket_receives_what_linux_policy_reads(sniffed, isn):
    scripts = [closed(segments) for segments in VECTORS.values()]
    assert compare(sniffed, scripts, isn) == list(EXPECTED.values())


@pytest.mark.parametrize("first", [0, 1])
def test_pairs_in_all_relations_socket_receives_what_linux_policy_reads(sniffed, first):
    pairs = list(arrangements(2))
    assert len(pairs) == 13
    compare(sniffed, [closed(laid_out(pair, first)) for pair in pairs], 2**32 - 4)


@pytest.mark.parametrize("first", [0, 1])
def test_triplets_in_all_relations_socket_receives_what_linux_policy_reads(sniffed, first):
    triplets = list(arrangements(3))
    assert len(triplets) == 409
    compare(sniffed, [closed(laid_out(triplet, first)) for triplet in triplets], 2**32 - 7)


def test_random_scripts_socket_receives_what_linux_policy_reads(sniffed):
    compare(sniffed, [dense(seed) for seed in range(RANDOM)])


# ---- a kernel that merges neighbours: what it does, for the record ----------------------------


def test_pairs_in_all_relations_merging_changes_nothing(road):
    pairs = [laid_out(pair, first) for first in (0, 1) for pair in arrangements(2)]
    compare(road, [closed(pair) for pair in pairs])


#: letters, each so many bytes long -> what the socket receives, one byte a letter
MERGED = {
    1: b"0AAAJJBCCCLLLMMMFFFGGHHIQ",  # every neighbour fits: as the BSD rule says
    16: b"0AAAJJBCCCLLLMMMFFFGGHHIQ",
    200: b"0AAAJJBCCCLLLMMMFFFGGPHIQ",  # some fit: as no rule says
    300: b"0AAAJJBCCCLLLMMMFFFGGHHQQ",  # none fits: as in 2007
}


@pytest.mark.parametrize("unit", MERGED)
def test_main_vector_small_segments_are_merged_as_memory_allows(road, unit):
    """Whether a kernel merges is its own affair: one of the outcomes above, and none but these."""
    wide = [
        (at * unit, bytes(b for b in data for _ in range(unit))) for at, data in VECTORS["main"]
    ]
    (data,) = received(road, [wide]).values()
    assert data == bytes(b for b in data[::unit] for _ in range(unit))
    assert data[::unit] in MERGED.values()
