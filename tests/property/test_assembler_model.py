"""The out-of-order store against a dictionary from offset to byte, in which the first copy wins.
A FIN is a symbol at its offset, which gives way to a byte."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from aiomos._engine._teststreams import ASM_DIFFERS, ASM_DUPLICATE, ASM_LIMIT, ASM_NEW, StreamHook

isns = st.one_of(
    st.sampled_from([0, 1 << 31, (1 << 31) - 20, (1 << 32) - 1, (1 << 32) - 30]),
    st.integers(0, (1 << 32) - 1),
)
# Two contents: what lies at an offset is one of two bytes, so that copies agree or differ.
adds = st.tuples(
    st.just("add"),
    st.integers(1, 60),
    st.integers(1, 30),
    st.booleans(),
    st.lists(st.integers(1, 29), max_size=3),
)
others = st.one_of(
    st.tuples(st.just("fill"), st.integers(1, 20)),
    st.tuples(st.just("truncate"), st.integers(0, 60)),
    st.tuples(st.just("fin"), st.integers(1, 60)),
)


def content(offset: int, length: int, other: bool) -> bytes:
    return bytes((offset + i) % 97 + 128 * other for i in range(length))


class Model:
    """Offsets count from the first sequence number; `nxt` is the first byte missing."""

    def __init__(self) -> None:
        self.nxt = 0
        self.early: dict[int, int | None] = {}
        self.delivered = bytearray()

    def add(self, offset: int, data: bytes) -> int:
        result = 0
        for i, byte in enumerate(data, offset):
            if self.early.get(i) is None and i in self.early:
                self.early[i] = byte
                result |= ASM_DUPLICATE | ASM_DIFFERS
            elif i not in self.early:
                self.early[i] = byte
                result |= ASM_NEW
            else:
                result |= ASM_DUPLICATE | (ASM_DIFFERS if self.early[i] != byte else 0)
        return result

    def add_fin(self, offset: int) -> int:
        if offset in self.early:
            return ASM_DUPLICATE
        self.early[offset] = None
        return ASM_NEW

    def fill(self, data: bytes) -> None:
        """Bytes that are next come; what was early and has become next follows them."""
        self.delivered += data
        self.nxt += len(data)
        while (byte := self.early.get(self.nxt)) is not None:
            self.delivered.append(byte)
            self.nxt += 1
        self.early = {i: byte for i, byte in self.early.items() if i >= self.nxt}

    def truncate(self, offset: int) -> None:
        self.early = {i: byte for i, byte in self.early.items() if i < offset}


@settings(max_examples=200, deadline=None)
@given(isn=isns, steps=st.lists(st.one_of(adds, adds, adds, others), max_size=40))
def test_any_steps_are_as_the_dictionary_says(isn, steps):
    store, model = StreamHook(), Model()
    reader = store.attach()
    for step in steps:
        if step[0] == "add":
            _, ahead, length, other, cuts = step
            offset = model.nxt + ahead
            data = content(offset, length, other)
            cuts = [cut for cut in cuts if cut < length]
            assert store.add((isn + offset) % 2**32, data, cuts) == model.add(offset, data)
        elif step[0] == "fin":
            offset = model.nxt + step[1]
            assert store.add_fin((isn + offset) % 2**32) == model.add_fin(offset)
        elif step[0] == "fill":
            data = content(model.nxt, step[1], False)
            filled = model.nxt + len(data)
            model.fill(data)
            store.append(data)
            assert store.drain((isn + filled) % 2**32) == ((isn + model.nxt) % 2**32, False)
        else:
            model.truncate(model.nxt + step[1])
            store.truncate((isn + model.nxt + step[1]) % 2**32)
        assert held(store, isn) == model.early
        assert store.early[0] == len(model.early)
    assert b"".join(store.read(reader)) == bytes(model.delivered)
    store.drop()
    assert store.counts()["blocks"] == 0


def held(store, isn: int) -> dict[int, int | None]:
    """Offset to byte, or None for a FIN; pieces must be sorted and apart."""
    found: dict[int, int | None] = {}
    last = -1
    for seq, data in store.pieces():
        offset = (seq - isn) % 2**32
        assert offset > last
        symbols = [None] if data is None else list(data)
        last = offset + len(symbols) - 1
        found.update(enumerate(symbols, offset))
    return found


@settings(max_examples=12, deadline=None)
@given(
    isn=isns,
    seed=st.randoms(use_true_random=False),
    budget=st.sampled_from([2048, 8192, 65536, 1 << 20]),
)
def test_any_budget_what_is_kept_is_right_and_nothing_leaks(isn, seed, budget):
    store = StreamHook(budget=256 + budget)
    kept: dict[int, int] = {}
    for _ in range(300):
        offset, length = seed.randrange(1, 20_000), seed.randrange(1, 900)
        data = content(offset, length, False)
        result = store.add((isn + offset) % 2**32, data)
        kept = held(store, isn)
        assert all(byte == i % 97 for i, byte in kept.items())
        assert result & (ASM_NEW | ASM_DUPLICATE | ASM_LIMIT)
    assert store.early[0] == len(kept)
    store.drop()
    assert store.counts()["blocks"] == 0
