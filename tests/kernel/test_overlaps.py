"""Overlapping segments to a real Linux socket: it receives what aiomos reads with `linux`.

The rule holds where the kernel keeps each early segment in a buffer of its own, which a sniffer
on its host, still holding a copy of each, makes it do. Where neighbours are merged, the last tests
say what this kernel does (docs/decisions/0025).
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from overlaps import VECTORS, in_order, parse, patterns, segments_of

sys.path.append(str(Path(__file__).parent))
from reading import FULL, read
from scripted import Script, closed, dense, early
from stranger import PORT, SERVER, Street, Visit

ISNS = (0, 1, 2**32 - 1, 2**32 - 11)
RANDOM = 3000 if FULL else 300
MAIN = parse(VECTORS["main"][0])


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


def compare(street: Street, scripts: list[Script], isn: int = 1000) -> list[str]:
    """Kernel, rule and aiomos agree on every script; gives what was received."""
    kernel = received(street, scripts, isn)
    tapped = read(street.frames, overlap="linux")
    for segments, (port, data) in zip(scripts, kernel.items(), strict=True):
        (seen,) = tapped[port, PORT]
        assert data == in_order(segments, "linux"), segments
        assert (seen.client.data, seen.client.gaps) == (data, []), segments
    return [data.decode() for data in kernel.values()]


@pytest.mark.parametrize("isn", ISNS)
def test_early_segments_of_the_vectors_socket_receives_what_linux_policy_reads(sniffed, isn):
    scripts = [closed(early(parse(text))) for text, _ in VECTORS.values()]
    expected = [outcomes["linux"] for _, outcomes in VECTORS.values()]
    expected = [text if text[0] == "0" else "0" + text for text in expected]
    assert compare(sniffed, [MAIN, *scripts[1:]], isn) == expected


def in_all_relations(n: int, first: int) -> list[Script]:
    """n segments two bytes to the place, the lowest at offset `first`; holes are filled last."""
    wide = [tuple((2 * a, 2 * b) for a, b in shape) for shape in patterns(n)]
    return [closed(segments_of(shape, equal=False, at=first)) for shape in wide]


@pytest.mark.parametrize("first", [0, 1])
def test_pairs_in_all_relations_socket_receives_what_linux_policy_reads(sniffed, first):
    pairs = in_all_relations(2, first)
    assert len(pairs) == 13
    compare(sniffed, pairs, 2**32 - 4)


@pytest.mark.parametrize("first", [0, 1])
def test_triplets_in_all_relations_socket_receives_what_linux_policy_reads(sniffed, first):
    triplets = in_all_relations(3, first)
    assert len(triplets) == 409
    compare(sniffed, triplets, 2**32 - 7)


def test_random_scripts_socket_receives_what_linux_policy_reads(sniffed):
    compare(sniffed, [dense(seed) for seed in range(RANDOM)])


# ---- a kernel that merges neighbours: what it does, for the record ----------------------------


def test_pairs_in_all_relations_merging_changes_nothing(road):
    compare(road, in_all_relations(2, 0) + in_all_relations(2, 1))


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
    wide = [(at * unit, bytes(b for b in data for _ in range(unit))) for at, data in MAIN]
    (data,) = received(road, [wide]).values()
    assert data == bytes(b for b in data[::unit] for _ in range(unit))
    assert data[::unit] in MERGED.values()
