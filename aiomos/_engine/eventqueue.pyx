"""A bounded queue of events; see eventqueue.pxd."""
from collections import deque

from aiomos._engine.state cimport C_EVENTS_LOST


cdef EventQueue event_queue_new(Core core, EventMaker maker, TaskQueue queue, Py_ssize_t limit,
                                bint once):
    cdef EventQueue made = EventQueue.__new__(EventQueue)
    made.core = core
    made.maker = maker
    made.queue = queue
    made.events = deque()
    made.limit = limit
    made.once = once
    return made


cdef class EventQueue:
    """Where a coroutine gets its events from: take() until it gives None, then await wait()."""

    def __init__(self):
        raise TypeError("event queues are made by the engine")

    cdef int put(self, object event, int64_t time_ns, bint last) except -1:
        if self.ended:
            return 0
        if len(self.events) >= self.limit and not last:
            if self.n_lost == 0:
                self.lost_ns = time_ns
            self.n_lost += 1
            self.core.state.counters[C_EVENTS_LOST] += 1
            return 0
        self.tell_lost()
        self.events.append(event)
        self.ended = self.once
        if self.parking is not None:
            self.parking.wake()
        return 0

    cdef int tell_lost(self) except -1:
        """EventsLost in the place of those that were."""
        if self.n_lost:
            self.events.append(self.maker.lost(self.n_lost, self.lost_ns))
            self.n_lost = 0
        return 0

    cpdef object take(self):
        """The next event; None: there is none now."""
        if not self.events:
            self.tell_lost()
        return self.events.popleft() if self.events else None

    def wait(self):
        """Something to await until there may be an event, or the end."""
        if self.parking is None:
            self.parking = Parking.__new__(Parking)
            self.parking.queue = self.queue
        return self.parking

    cdef void end(self) noexcept:
        """What is in it can still be taken."""
        self.ended = True
        if self.parking is not None:
            self.parking.wake()

    def __len__(self):
        return len(self.events) + (self.n_lost > 0)
