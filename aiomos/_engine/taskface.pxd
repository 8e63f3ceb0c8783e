"""What asyncio, and libraries that look inside its tasks, see of a flow task.

Apart from task.pxd so that the protocol, which asyncio fixes, and the stepping, which is
ours, can each be read alone.
"""
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef enum TaskState:
    TASK_UNBORN             # never given a coroutine: counts as ended, so that nothing touches it
    TASK_RETURNED
    TASK_FAILED
    TASK_CANCELLED          # up to here it has ended: "done" is one comparison
    TASK_NEW                # born, never stepped
    TASK_PARKED             # waits for the engine: it is some parking's `waiter`
    TASK_QUEUED             # runnable: TaskQueue.run() will step it
    TASK_WAITING            # waits for a foreign future
    TASK_SCHEDULED          # loop.call_soon() will step it
    TASK_RUNNING            # being stepped


cdef struct TaskLink:       # a ring of all live tasks: unlinking needs no queue and no search
    TaskLink *prev
    TaskLink *next
    PyObject *task          # borrowed; NULL in the queue's own link


cdef class TaskFace:
    cdef object __weakref__
    cdef readonly object _loop
    cdef object coro
    cdef object context
    cdef object name                # None: "Flow-<serial>", made when asked for
    cdef object value               # the result or the exception, once ended
    cdef object traceback           # the exception's: raising it again must not make it longer
    cdef object callbacks           # list of (function, context), or None
    cdef object cancel_message

    cdef PyObject *next             # in the queue's list of runnable tasks
    cdef TaskLink link              # in the ring of live tasks; next == NULL: not in it
    cdef uint64_t serial
    cdef uint32_t cancels           # cancel() calls less uncancel() calls
    cdef uint8_t state              # a TaskState; set by task.pyx alone
    cdef uint8_t blocking           # _asyncio_future_blocking: awaited, not merely yielded
    cdef uint8_t unretrieved        # failed, and nobody has asked for the exception
    cdef uint8_t in_list            # in the queue's list, whatever became of it since
    cdef uint8_t must_cancel        # the next step throws CancelledError
    cdef uint8_t silent             # not _log_destroy_pending

    cdef inline bint is_done(self) noexcept:
        return self.state <= TASK_CANCELLED

    cdef int advance(self, object error) except -1      # FlowTask's: one step
    cdef int soon(self, object error) except -1         # FlowTask's: a step by loop.call_soon()
    cdef object error(self)
    cdef object cancelled_error(self)
    cdef int call_back(self) except -1
    cdef int report(self, str message, dict context) except -1


# What asking a future for its result raises, or None; no frame of ours in its traceback.
cdef object task_error_of(object future)

# The exception being raised in C, taken over.
cdef object task_take_raised()
