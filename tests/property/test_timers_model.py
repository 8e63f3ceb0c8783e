"""The timer wheel against a sorted list: Hypothesis arms, disarms and lets time go by."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aiomos._engine._teststorage import WheelHook

TICK = 1 << 20
FARTHEST = 0x7FFFFFFE
ENTRIES = 12
# Shortly before a tick at which slots of all levels begin.
T0 = (97 << 24) * TICK - 50_000 * TICK

entries = st.integers(1, ENTRIES)
waits = st.one_of(
    st.integers(-10 * TICK, 600 * TICK),
    st.sampled_from([n * TICK for n in (255, 256, 257, 65535, 65536, 65537, 1 << 24)]),
    st.builds(
        lambda turns, more: (50_000 + (turns << 16) + more) * TICK,
        st.integers(0, 600),
        st.integers(-2, 20_000),
    ),
    st.integers(0, 1 << 55),
)
steps = st.one_of(
    st.integers(0, 300 * TICK),
    st.just(50_000 * TICK),
    st.just(65_536 * TICK),
    st.integers(0, 1 << 50),
    st.integers(0, 1 << 58),
)


class WheelMachine(RuleBasedStateMachine):
    """`due` says at which tick an entry must be looked at; `firing` are those of one tick that
    are being handed out: arming one of them changes nothing, it is looked at anyway."""

    def __init__(self) -> None:
        super().__init__()
        self.wheel = WheelHook(ENTRIES)
        self.wheel.start(T0)
        self.now = T0
        self.tick = T0 // TICK
        self.due: dict[int, int] = {}
        self.firing: set[int] = set()

    def arm(self, i: int, due: int) -> None:
        self.wheel.arm(i, due)
        if i in self.firing:
            return
        tick = max(-(-due // TICK), self.tick)
        self.due[i] = min(tick, self.tick + FARTHEST)

    def disarm(self, i: int) -> None:
        self.wheel.disarm(i)
        self.due.pop(i, None)
        self.firing.discard(i)

    def took(self, i: int) -> None:
        tick = self.due.pop(i)
        assert tick <= self.now // TICK, "early"
        assert tick <= min([*self.due.values(), tick]), "out of order"
        if i not in self.firing:
            assert not self.firing, "another tick before this one was done"
            self.tick = tick
            self.firing = {other for other, at in self.due.items() if at == tick}
        self.firing.discard(i)

    @rule(i=entries, wait=waits)
    def arm_later(self, i, wait):
        self.arm(i, self.now + wait)

    @rule(i=entries)
    def disarm_one(self, i):
        self.disarm(i)

    @rule(step=steps)
    def pass_time(self, step):
        self.now += step
        while i := self.wheel.pop(self.now):
            self.took(i)
        self.nothing_is_left()

    @rule(step=steps, meanwhile=st.lists(st.tuples(entries, st.none() | waits), max_size=6))
    def pass_time_and_meddle(self, step, meanwhile):
        self.now += step
        meanwhile = list(meanwhile)
        while i := self.wheel.pop(self.now):
            self.took(i)
            if meanwhile:
                other, wait = meanwhile.pop()
                if wait is None:
                    self.disarm(other)
                else:
                    self.arm(other, self.now + wait)
        self.nothing_is_left()

    @precondition(lambda self: not self.firing)
    @rule(step=steps)
    def pass_time_but_stop_after_one(self, step):
        self.now += step
        if i := self.wheel.pop(self.now):
            self.took(i)
        else:
            self.nothing_is_left()

    def nothing_is_left(self) -> None:
        assert not self.firing
        self.tick = max(self.tick, self.now // TICK)
        assert all(tick > self.now // TICK for tick in self.due.values()), "late"

    @invariant()
    def counts_and_the_lower_bound_hold(self):
        assert self.wheel.armed == len(self.due)
        assert all(self.wheel.is_armed(i) == (i in self.due) for i in range(1, ENTRIES + 1))
        assert all(self.wheel.next_ns <= tick * TICK for tick in self.due.values())


TestWheel = WheelMachine.TestCase
TestWheel.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
