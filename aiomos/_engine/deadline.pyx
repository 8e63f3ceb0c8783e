"""The end of a wait; see deadline.pxd."""

from aiomos._engine.task cimport Parking


cdef class Deadline:
    """``with Deadline(clock, seconds) as deadline: … await deadline.of(parking)``."""

    def __init__(self, clock, double seconds):
        if not seconds < 1e9:                   # NaN too
            raise ValueError(f"timeout={seconds}: a number of seconds")
        self.clock = clock
        self.wait_ns = <int64_t>(seconds * 1e9)
        self.over = self.wait_ns <= 0

    def __enter__(self):
        if self.clock is not None and not self.over:
            self.entry = self.clock.call_at(self.clock.now_ns() + self.wait_ns, self.pass_by)
        return self

    def __exit__(self, *exception):
        if self.entry is not None and not self.over:
            self.clock.cancel_call(self.entry)
        if self.parking is not None:
            self.parking.too_late = False
        self.parking = self.clock = None

    def of(self, Parking parking not None):
        """The same parking: whoever waits there, or begins to when it is late, is told so."""
        if self.parking is not None:
            self.parking.too_late = False
        self.parking = parking
        parking.too_late = self.over
        return parking

    def pass_by(self):
        """The time is over."""
        self.over = True
        if self.parking is not None:
            self.parking.too_late = True
            self.parking.wake()
