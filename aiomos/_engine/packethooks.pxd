"""Functions of @app.packet: called with every frame, in place or with a copy after the burst."""
from aiomos._engine.core cimport Core
from aiomos._engine.faults cimport Faults
from aiomos._engine.taskqueue cimport TaskQueue
from aiomos._engine.wire cimport Packet


cdef class PacketHooks:
    cdef Core core
    cdef TaskQueue queue
    cdef Faults faults
    cdef object spawn                   # makes a task other than a flow task; None: flow tasks
    cdef tuple rules                    # (FrameFilter or None, function, is it async, class)
    cdef list fresh                     # coroutines of async functions, to be started

    cdef int call(self, Packet *p) except -1
    cdef int start_tasks(self) except -1
