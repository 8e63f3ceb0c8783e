"""Who wants which events; see subscription.pxd."""
from aiomos._engine.errors import FilterError
from aiomos._engine.probe cimport match_flow


cdef Subscription subscription_new(uint32_t kinds, uint8_t hooks, object function, uint8_t how):
    cdef Subscription made = Subscription.__new__(Subscription)
    made.kinds = kinds
    made.hooks = hooks
    made.function = function
    made.how = how
    return made


cdef class Subscription:
    """Made by the event bridge."""

    cdef bint wants(self, const Event *e):
        if not self.kinds >> e.kind & 1 or not self.hooks >> e.hook & 1:
            return False
        return self.frame_filter is None or self.passes(e)

    cdef bint passes(self, const Event *e):
        """A packet is judged as a frame; what comes without one as its flow would be."""
        if e.packet != NULL:
            return self.frame_filter.match(e.packet.frame)
        if e.flow == NULL or self.flow_filter is None:
            return False
        return match_flow(<void *>self.flow_filter, e.flow, NULL) != 0

    def filter_by(self, expression):
        """Lets only events pass whose frame the expression matches."""
        if expression is None:
            return
        self.frame_filter = FrameFilter(expression)
        self.flow_filter = FilterSet()
        try:
            for protocol in ("tcp", "udp"):
                self.flow_filter.add(protocol, expression)
        except FilterError:                 # reads what no flow has: then timers pass nothing
            self.flow_filter = None


cdef class FlowEvents:
    """Made by the event bridge."""

    def __cinit__(self):
        self.subscriptions = ()
        self.runners = {}
        self.timers = {}

    cdef void recount(self) noexcept:
        cdef Subscription s
        self.kinds = 0
        for s in self.subscriptions:
            self.kinds |= s.kinds


cdef EventRunner event_runner_new(object function, object flow, EventQueue queue, Faults faults):
    cdef EventRunner made = EventRunner.__new__(EventRunner)
    made.function = function
    made.flow = flow
    made.queue = queue
    made.faults = faults
    return made


cdef class EventRunner:
    """Gives its events to a task (eventrun.py), which ends when there are none."""

    def take(self):
        """The next event; None: the task ends."""
        event = self.queue.take()
        if event is None:
            self.running = False
        return event

    def failed(self, error):
        """The function raised."""
        self.faults.failed(self.flow, error, self.function)

    def done(self, task):
        """The task ended, of itself or cancelled: another event begins another one."""
        self.running = False
