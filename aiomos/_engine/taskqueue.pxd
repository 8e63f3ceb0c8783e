"""Who is runnable on one core, in order of first wake-up; and asyncio's current task."""
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from aiomos._engine.taskface cimport TaskFace, TaskLink


cdef class TaskQueue:
    # One a core and loop: who is runnable, in order of first wake-up.
    cdef readonly object loop
    cdef Py_hash_t loop_hash
    cdef object context             # empty; foreign futures wake tasks in it (FlowTask.suspended)
    cdef public object on_runnable  # called when the first becomes runnable; schedules the pump

    cdef PyObject *head             # runnable tasks, each a reference of ours, linked by `next`
    cdef PyObject *tail
    cdef PyObject *stepping         # the task being stepped, borrowed
    cdef TaskLink live              # the ring of all that were born and have not ended

    cdef readonly Py_ssize_t foreign_waiters    # live tasks that wait for foreign futures
    cdef readonly uint64_t steps        # made so far; and cycles of the pump: that it goes on
    cdef readonly uint64_t born
    cdef readonly uint64_t ended
    cdef public bint debug          # loop.get_debug() at creation: tasks register from birth
    cdef public bint pumping        # the pump is at work, and will look: no on_runnable
    cdef bint entered               # asyncio's current task of this loop is one of ours

    cpdef void push(self, TaskFace task) noexcept
    cpdef Py_ssize_t run(self, Py_ssize_t budget) except -1
    cpdef void clear(self) noexcept
    cdef inline bint runnable(self) noexcept:
        return self.head != NULL

    cdef PyObject *pop(self) noexcept
    cdef bint may_step_next(self) except -1
    cdef int step_next(self) except -1
    cdef void announce(self) noexcept
    cdef bint enter(self, TaskFace task) except -1
    cdef int leave(self) except -1
    cdef bint enter_by_swapping(self, TaskFace task) except -1
