"""A stream and its readers against a tape: a list of bytes and gaps, and one index a reader."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aiomos._engine._teststreams import StreamHook

CAUSES = ("lost", "acked_unseen", "memory", "slow_reader")
START = 1 << 33

payloads = st.binary(min_size=1, max_size=40).map(lambda piece: piece * 40)
some = st.integers(1, 1 << 40)
picks = st.integers(0, 7)


def joined(items, strict):
    """Neighbouring gaps as one: of one cause, or (not strict) of any."""
    out: list = []
    for item in items:
        if isinstance(item, tuple) and out and isinstance(out[-1], tuple):
            offset, length, cause = out[-1]
            if cause == item[2] or not strict:
                new = max(0, item[0] + item[1] - offset - length)  # met again, grown
                out[-1] = (offset, length + new, cause)
                continue
        out.append(item)
    return out if strict else [item[:2] if isinstance(item, tuple) else item for item in out]


class StreamMachine(RuleBasedStateMachine):
    budget = 1 << 30
    strict = True

    def __init__(self) -> None:
        super().__init__()
        self.stream = StreamHook(START, self.budget)
        self.tape: list = []  # bytes of length 1, and (length, cause)
        self.readers: dict[int, int] = {}

    # -- what the tape says --

    def offset(self, index: int) -> int:
        return START + sum(1 if isinstance(x, bytes) else x[0] for x in self.tape[:index])

    def position(self, index: int) -> int:
        return START + sum(isinstance(x, bytes) for x in self.tape[:index])

    def upto(self, index: int, most: int) -> int:
        """Where a reader stands after reading at most so many bytes."""
        while index < len(self.tape) and most:
            most -= isinstance(self.tape[index], bytes)
            index += 1
        return index

    def items(self, begin: int, end: int) -> list:
        out: list = []
        for i in range(begin, end):
            item = self.tape[i]
            if isinstance(item, tuple):
                out.append((self.offset(i), *item))
            elif out and isinstance(out[-1], bytes):
                out[-1] += item
            else:
                out.append(item)
        return joined(out, self.strict)

    def pick(self, n: int) -> int:
        return sorted(self.readers)[n % len(self.readers)]

    # -- what happens --

    @rule(data=payloads, cut=st.booleans())
    def append(self, data, cut):
        if self.stream.append(data, cuts=(1, 3) if cut else ()):
            self.tape += [bytes([b]) for b in data]
        else:
            assert not self.strict
            self.gap(len(data), "memory")

    @rule(length=some, cause=st.sampled_from(CAUSES))
    def gap(self, length, cause):
        self.stream.gap(length, cause)
        self.tape.append((length, cause))

    @rule()
    def attach(self):
        self.readers[self.stream.attach()] = len(self.tape)

    @precondition(lambda self: self.readers)
    @rule(data=payloads, length=some)
    def attach_where_a_record_stood(self, data, length):
        if self.tape and isinstance(self.tape[-1], tuple):
            return  # the gap would grow: test_stream.py has that case
        place = self.stream.end, self.stream.missing
        index = len(self.tape)
        self.gap(length, "lost")
        self.append(data, False)
        self.readers[self.stream.attach(*place)] = index

    @precondition(lambda self: self.readers)
    @rule(n=picks, most=st.one_of(st.integers(1, 100), st.just(1 << 40)))
    def read(self, n, most):
        reader = self.pick(n)
        begin = self.readers[reader]
        end = self.readers[reader] = self.upto(begin, most)
        found = joined(self.stream.read(reader, most), self.strict)
        if not self.strict and found and isinstance(found[0], tuple):
            here = self.offset(begin)  # a gap met again, grown: what is new of it
            found[0] = here, found[0][0] + found[0][1] - here
        assert found == self.items(begin, end)

    @precondition(lambda self: self.readers)
    @rule(n=picks)
    def detach(self, n):
        reader = self.pick(n)
        self.stream.detach(reader)
        del self.readers[reader]

    @precondition(lambda self: self.readers)
    @rule(keep=st.integers(0, 300))
    def cut(self, keep):
        place = max(self.position(index) for index in self.readers.values()) + keep
        index = 0
        while index < len(self.tape) and self.position(index) < place:
            index += 1
        while index < len(self.tape) and isinstance(self.tape[index], tuple):
            index += 1
        lost = self.offset(len(self.tape)) - self.offset(index)
        bytes_lost = sum(isinstance(item, bytes) for item in self.tape[index:])
        assert self.stream.cut(place) == bytes_lost
        if bytes_lost:
            self.tape[index:] = [(lost, "slow_reader")]

    # -- what always holds --

    @invariant()
    def counts_hold(self):
        end = len(self.tape)
        assert self.stream.end + self.stream.missing == self.offset(end)
        for reader, index in self.readers.items():
            if self.strict:
                assert self.stream.offset(reader) == self.offset(index)

    def teardown(self):
        self.stream.drop()
        counts = self.stream.counts()
        assert (counts["used"], counts["blocks"]) == (0, 0)


class CrampedMachine(StreamMachine):
    """With next to no memory: bytes are refused, but no gap is ever silent."""

    budget = 256 + 2048 + 64
    strict = False


TestStream = StreamMachine.TestCase
TestStream.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestCramped = CrampedMachine.TestCase
TestCramped.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
