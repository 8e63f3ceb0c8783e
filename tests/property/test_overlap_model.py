"""Overlap policies of the out-of-order store against a model that goes by the byte."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomos._engine._testing import StreamHook

sys.path.append(str(Path(__file__).parents[1]))
from overlaps import RULES, VECTORS, parse, patterns, received, segments_of, text

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
