"""Flow tasks: coroutines that the engine steps itself.

An ordinary asyncio task is woken through a Future and ``loop.call_soon``: an object, a
handle and a trip through the loop for each wake-up. A flow task that waits for the engine
is *parked* instead, and the engine steps it from the pump's own loop callback. For every
other awaitable it follows asyncio's documented task protocol.

    Parking.wake() -> TaskQueue.push() -> [pump] TaskQueue.run()  -> the coroutine goes on
    a future's done callback                                      -> the coroutine goes on

Who owns whom: a queued task is held by its queue, a parked one by its parking, one that
waits for a foreign future by that future's callback, as in asyncio. A task that ended
holds its coroutine, context and outcome, and nothing that leads back to it.
"""
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

from aiomos._engine.taskface cimport TaskFace
from aiomos._engine.taskqueue cimport TaskQueue


cdef class FlowTask(TaskFace):
    # asyncio.Task's protocol, without being one.
    cdef readonly object flow               # what it works for; dropped when it ended (cycles)
    cdef public object on_done              # called with the task, in the step in which it ended
    cdef TaskQueue queue
    cdef object waits_on                    # the parking or the foreign future that it waits for

    cdef uint8_t registered                 # in asyncio's registry: all_tasks() shows it

    cpdef int step(self) except -1
    cdef int go_on(self, object error) except -1
    cdef int advance(self, object error) except -1
    cdef int stepped(self, int how, PyObject *yielded) except -1
    cdef int parked(self) except -1
    cdef int unpark(self) except -1
    cdef int suspended(self, object yielded) except -1
    cdef int wait_for(self, object future) except -1
    cdef int soon(self, object error) except -1
    cdef int failed(self) except -1
    cdef int end(self, int state, object value) except -1
    cdef int tell_owner(self) except -1
    cdef int register(self) except -1
    cdef void retire(self) noexcept
    cdef void unlink(self) noexcept


cdef class Parking:
    # A place where at most one task waits. Wake-ups may be spurious: users loop
    # `while not ready: await parking`. May be subclassed; whoever makes one sets `queue`.
    cdef TaskQueue queue
    cdef object waiter                      # the flow task, or an ordinary task's future, or None
    cdef uint8_t too_late                   # set by a Deadline: waiting here any longer fails

    cpdef void wake(self) noexcept
    cpdef bint waiting(self) noexcept
    cdef int refuse_second(self) except -1
    cdef int refuse_late(self) except -1
    cdef object wait_ordinary(self)


# The quick way to make a task; it starts when stepped.
cdef FlowTask flow_task_new(object coro, TaskQueue queue, object flow)

# Parks the task that is being stepped, and gives what it must yield (a new reference); False where
# the caller runs in no flow task, or in an ordinary one that a flow task started eagerly.
cdef bint parking_enter(Parking parking, PyObject **to_yield) noexcept
# The task goes on: it waits there no longer.
cdef void parking_leave(Parking parking) noexcept
# A second coroutine wants to wait where one does: RuntimeError, in the name of its method.
cdef int parking_refuse(str method) except -1
