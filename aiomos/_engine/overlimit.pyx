"""What readers leave unread beyond their limit; see overlimit.pxd."""
from libc.stdint cimport uint64_t

from aiomos._engine.limits cimport PROTO_UDP
from aiomos._engine.state cimport C_SLOW_READER, C_UNREAD_SIDE
from aiomos._engine.stream cimport (STREAM_UNREAD, Cursor, Stream, cursor_catch_up, stream_cut,
                                    stream_end)
from aiomos._engine.handler cimport ON_FULL_DETACH, ON_FULL_STOP


cdef class OverLimit:
    """Endpoints to judge when their handlers had their turn."""

    def __init__(self, Core core not None):
        self.core = core
        self.sides = []

    cdef int judge_all(self) except -1:
        """Readers had their turn: what they left beyond their limit is cut (semantics.md 5)."""
        sides, self.sides = self.sides, []
        for side in sides:
            (<EndpointBase>side).listed = False
            self.judge(<EndpointBase>side)
        return 0

    cdef int judge(self, EndpointBase e) except -1:
        cdef Stream *s = e.cursor.stream
        cdef Cursor *c
        cdef uint64_t keep = 0, lost
        if s == NULL or stream_end(s) - e.cursor.position <= max(e.limit, e.want):
            return 0
        if e.fl.protocol == PROTO_UDP:      # a queue of datagrams has its own bound (udp.pxd)
            return 0
        if e.on_full == ON_FULL_STOP or e.on_full == ON_FULL_DETACH:
            e.detach()
            return 0
        c = s.cursors
        while c != NULL:
            keep = max(keep, c.position + c.limit)
            c = c.next
        lost = stream_cut(s, keep)
        if lost == 0:       # others read on: what this one leaves behind is lost for it alone
            self.core.state.counters[C_SLOW_READER] += cursor_catch_up(&e.cursor)
            return 0
        if not e.touched:
            s.flags |= STREAM_UNREAD
            self.core.state.counters[C_UNREAD_SIDE] += 1
        else:
            self.core.state.counters[C_SLOW_READER] += lost
        return 0
