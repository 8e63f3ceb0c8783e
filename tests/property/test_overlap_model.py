"""Overlap policies of the out-of-order store against a model that goes by the byte."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomos._engine._testcore import CoreDriver
from aiomos._engine._teststreams import StreamHook

sys.path.append(str(Path(__file__).parents[1]))
from craft import CLIENT, Talk, assert_idle
from overlaps import RULES, VECTORS, in_order, parse, patterns, received, segments_of, text

#: Initial sequence numbers of overlap-cases.md: with the last two, numbers wrap in the data.
ISNS = [0, 1, 2**32 - 1, 2**32 - 11]

policies = pytest.mark.parametrize("policy", RULES)


def store_of(segments, policy, isn=0):
    """A store that got these; numbers are as in a connection (the first byte is isn + 1)."""
    store = StreamHook(policy=policy)
    for at, data in segments:
        store.add((isn + 1 + at) % 2**32, data)
    return store


def held(store, isn=0):
    """Offset -> byte. Pieces must be sorted and apart."""
    found: dict[int, int] = {}
    end = 0
    for seq, data in store.pieces():
        at = (seq - isn - 1) % 2**32
        assert data
        assert at >= end
        end = at + len(data)
        found.update(enumerate(data, at))
    assert store.early[0] == len(found)
    return found


@pytest.mark.parametrize("isn", ISNS)
@pytest.mark.parametrize("vector", VECTORS)
@policies
def test_vector_of_novak_and_sturges_queued_is_as_published(policy, vector, isn):
    segments, expected = VECTORS[vector]
    assert text(held(store_of(parse(segments), policy, isn), isn)) == expected[policy]


@pytest.mark.parametrize("vector", VECTORS)
@policies
def test_model_itself_gives_the_published_vectors(policy, vector):
    segments, expected = VECTORS[vector]
    assert text(received(parse(segments), policy)) == expected[policy]


def test_patterns_of_two_are_the_thirteen_relations_of_allen():
    assert len(list(patterns(2))) == 13


@pytest.mark.parametrize("isn", ISNS)
@pytest.mark.parametrize("equal", [False, True])
@policies
def test_pairs_and_triplets_queued_are_as_the_model_says(policy, equal, isn):
    for shape in [*patterns(2), *patterns(3)]:
        segments = segments_of(shape, equal)
        assert held(store_of(segments, policy, isn), isn) == received(segments, policy), shape


segment = st.tuples(st.integers(0, 40), st.binary(min_size=1, max_size=24))


@settings(max_examples=400, deadline=None)
@given(
    segments=st.lists(segment, max_size=24),
    policy=st.sampled_from(list(RULES)),
    isn=st.sampled_from(ISNS),
)
def test_any_segments_queued_are_as_the_model_says(segments, policy, isn):
    store = store_of(segments, policy, isn)
    assert held(store, isn) == received(segments, policy)
    store.drop()
    assert store.counts()["blocks"] == 0


@settings(max_examples=150, deadline=None)
@given(
    segments=st.lists(segment, min_size=1, max_size=24),
    policy=st.sampled_from(list(RULES)),
    budget=st.integers(0, 3000),
)
def test_any_budget_kept_bytes_are_copies_that_were_sent_and_nothing_leaks(
    segments, policy, budget
):
    store = StreamHook(policy=policy, budget=256 + budget)
    for at, data in segments:
        store.add(at + 1, data)
    for at, byte in held(store).items():
        assert any(s <= at < s + len(data) and data[at - s] == byte for s, data in segments)
    store.drop()
    assert store.counts()["blocks"] == 0


# ---- through the whole engine -------------------------------------------------------------------


def read(segments, policy, deliver, isn, acks=()):
    """What the reader of the client's bytes gets; the server acknowledges at these numbers of
    segments, and everything at the end."""
    driver = CoreDriver(policy=policy, deliver=deliver)
    talk = Talk(driver.input, isn=(isn, 7))
    talk.handshake()
    for number, (at, data) in enumerate(segments):
        talk.c(data, at=at)
        if number in acks:
            talk.s(ack=acks[number])
    talk.s()
    got = driver.flows[0].data(CLIENT)
    assert_idle(driver)
    return got


@pytest.mark.parametrize("isn", ISNS)
@pytest.mark.parametrize("deliver", ["arrival", "acked"])
@policies
def test_main_vector_in_a_connection_reads_as_published(policy, deliver, isn):
    segments, expected = VECTORS["main"]
    assert read(parse(segments), policy, deliver, isn).decode() == expected[policy]


@pytest.mark.parametrize("deliver", ["arrival", "acked"])
@pytest.mark.parametrize("first", [True, False])
@policies
def test_pairs_and_triplets_in_a_connection_read_as_the_model_says(policy, first, deliver):
    """With the byte in front of them first, bytes that are next are gone at once, unless they
    wait for their acknowledgement; with it last, all waited for it."""
    model = in_order if deliver == "arrival" else together
    for number, shape in enumerate([*patterns(2), *patterns(3)]):
        segments = segments_of(shape, equal=bool(number % 2))
        if len(received(segments, policy)) < max(b for _, b in shape):
            continue  # a hole
        front = (0, b"0")
        segments = [front, *segments] if first else [*segments, front]
        got = read(segments, policy, deliver, ISNS[number % len(ISNS)])
        assert got == model(segments, policy), (shape, segments)


def together(segments, policy):
    """Everything waited for one acknowledgement at the end: holes are jumped over."""
    held = received(segments, policy)
    return bytes(held[at] for at in sorted(held))


@settings(max_examples=150, deadline=None)
@given(
    segments=st.lists(segment, max_size=12),
    policy=st.sampled_from(list(RULES)),
    deliver=st.sampled_from(["arrival", "acked"]),
    isn=st.sampled_from(ISNS),
)
def test_any_segments_in_a_connection_read_as_the_model_says(segments, policy, deliver, isn):
    """The last one fills every hole that is left, so that no gap is made."""
    end = max([at + len(data) for at, data in segments], default=0)
    segments = [*segments, (0, bytes(end + 1))]
    model = in_order if deliver == "arrival" else together
    assert read(segments, policy, deliver, isn) == model(segments, policy)
