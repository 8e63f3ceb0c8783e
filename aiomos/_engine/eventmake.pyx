"""C events to Python objects; see eventmake.pxd.

Event classes are frozen: their own constructor would take most of the time that an event
costs. Here their slots are filled directly, as attrs does, without the way through it.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from aiomos._engine import names
from aiomos._engine.events cimport (EVENT_ANOMALY, EVENT_END, EVENT_ESTABLISHED, EVENT_FIN,
                                    EVENT_GAP, EVENT_ICMP, EVENT_IDLE, EVENT_NEW_DATA,
                                    EVENT_ORPHAN, EVENT_OUT_OF_ORDER, EVENT_OVERLAP,
                                    EVENT_PACKET, EVENT_RESET, EVENT_RETRANSMISSION,
                                    EVENT_STATE, EVENT_WINDOW_UPDATE)

cdef extern from *:
    """
    static PyObject *aio_new_event(PyObject *cls, PyObject *no_args)
    { return ((PyTypeObject *)cls)->tp_new((PyTypeObject *)cls, no_args, NULL); }
    static int aio_set_slot(PyObject *slot, PyObject *obj, PyObject *value)
    { return Py_TYPE(slot)->tp_descr_set(slot, obj, value); }
    """
    object aio_new_event(object cls, object no_args)
    int aio_set_slot(object slot, object obj, object value) except -1

COMMON = ("time", "side", "hook")
cdef tuple NO_ARGS = ()
cdef tuple SIDES = names.SIDES
cdef tuple HOOKS = names.HOOKS
cdef tuple VERDICTS = names.VERDICTS
cdef tuple ORPHANS = names.ORPHANS
cdef tuple GAP_CAUSES = names.GAP_CAUSES
cdef tuple DIFFERS = (False, True, None)
cdef tuple WINNERS = ("old", "new")
cdef object anomaly_name = names.anomaly_name


cdef class EventClass:
    """A class of events and its fields."""

    def __init__(self, cls, fields):
        self.cls = cls
        self.slots = tuple([getattr(cls, name) for name in (*fields, *COMMON)])

    cdef object make(self, tuple own, double time, str side, str hook):
        cdef object event = aio_new_event(self.cls, NO_ARGS)
        cdef Py_ssize_t i, n = len(own)
        for i in range(n):
            aio_set_slot(self.slots[i], event, own[i])
        aio_set_slot(self.slots[n], event, time)
        aio_set_slot(self.slots[n + 1], event, side)
        aio_set_slot(self.slots[n + 2], event, hook)
        return event


cdef class EventMaker:
    """``classes`` by kind, as (class, names of its own fields)."""

    def __init__(self, classes, states, reasons):
        self.classes = [EventClass(cls, fields) for cls, fields in classes]
        if len(self.classes) != EVENT_KINDS:
            raise ValueError(f"{EVENT_KINDS} classes of events, not {len(self.classes)}")
        self.states = tuple(states)
        self.reasons = tuple(reasons)

    cdef object make(self, const Event *e):
        cdef EventClass c = <EventClass>self.classes[e.kind]
        cdef str side = ""
        if e.flow != NULL and of_an_end(e.kind):
            side = <str>SIDES[e.side]
        return c.make(self.fields(e), e.time_ns / 1e9, side, <str>HOOKS[e.hook])

    cdef object timer(self, object value, int64_t time_ns):
        return (<EventClass>self.classes[EVENT_TIMER]).make((value,), time_ns / 1e9, "", "timer")

    cdef object lost(self, uint64_t count, int64_t time_ns):
        return (<EventClass>self.classes[EVENT_LOST]).make((count,), time_ns / 1e9, "", "")

    cdef tuple fields(self, const Event *e):
        """The event's own fields, in the order of its class."""
        cdef int kind = e.kind
        if kind == EVENT_STATE:
            return (word(self.states, e.a), word(self.states, e.b))
        if kind == EVENT_NEW_DATA:
            return (e.a, e.b, some_bytes(e.new, e.new_length))
        if kind == EVENT_PACKET:
            return (word(VERDICTS, e.a),)
        if kind == EVENT_OUT_OF_ORDER or kind == EVENT_WINDOW_UPDATE:
            return (e.a, e.b)
        if kind == EVENT_RETRANSMISSION:
            return (e.a, e.b, word(DIFFERS, e.c))
        if kind == EVENT_FIN:
            return (e.a,)
        if kind == EVENT_END:
            return (word(self.reasons, e.a),)
        return self.rarer_fields(e)

    cdef tuple rarer_fields(self, const Event *e):
        cdef int kind = e.kind
        if kind == EVENT_OVERLAP:
            return (e.a, some_bytes(e.old, e.old_length), some_bytes(e.new, e.new_length),
                    word(WINNERS, e.c))
        if kind == EVENT_GAP:
            return (e.a, e.b, word(GAP_CAUSES, e.c))
        if kind == EVENT_RESET:
            return (e.a != 0,)
        if kind == EVENT_ORPHAN:
            return (word(ORPHANS, e.a),)
        if kind == EVENT_ANOMALY:
            return (anomaly_name(e.a), e.b)
        if kind == EVENT_IDLE:
            return (e.a / 1e9,)
        if kind == EVENT_ICMP:
            return (e.a >> 8, e.a & 0xFF, e.b)
        return ()


cdef inline object word(tuple words, uint64_t number):
    """Indices are not checked in here: a number without a word stays one."""
    return words[number] if number < <uint64_t>len(words) else number


cdef inline bint of_an_end(int kind) noexcept:
    """Whether such an event is about one end, not about the flow."""
    return kind != EVENT_ESTABLISHED and kind != EVENT_END and kind != EVENT_IDLE


cdef object some_bytes(const uint8_t *data, uint32_t length):
    """None where the capture has cut them."""
    return None if data == NULL else PyBytes_FromStringAndSize(<const char *>data, length)
