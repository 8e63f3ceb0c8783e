"""Flow tasks: coroutines that the engine steps itself; see task.pxd for who owns whom.

The protocol followed for foreign futures is the one of ``asyncio.tasks.Task``, method by
method. Calls that may end in a user's exception go through the C API by hand rather than
through ``try``, so that no frame of this file stands in a user's traceback.
"""
cimport cython
from cpython.contextvars cimport PyContext_CopyCurrent
from cpython.exc cimport PyErr_ExceptionMatches
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint64_t

import asyncio
import inspect
import sys
from asyncio.coroutines import iscoroutine
from asyncio.exceptions import CancelledError
from asyncio.futures import _get_loop
from contextvars import copy_context

from aiomos._engine.taskface cimport (
    TASK_CANCELLED, TASK_FAILED, TASK_NEW, TASK_PARKED, TASK_QUEUED, TASK_RETURNED, TASK_RUNNING,
    TASK_SCHEDULED, TASK_WAITING, task_error_of, task_take_raised,
)

cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT
    PySendResult PyIter_Send(PyObject *iterator, PyObject *value, PyObject **result)
    PyObject *Py_None
    int PyContext_Enter(PyObject *context)
    int PyContext_Exit(PyObject *context)
    ctypedef struct PyThreadState:
        PyObject *context
    PyThreadState *PyThreadState_Get()
    PyObject *PyObject_CallMethodOneArg(PyObject *obj, PyObject *name, PyObject *arg)
    bint PyCoro_CheckExact(object o)

# What a parked coroutine yields to its task: nobody else ever sees it.
cdef object PARKED = object()
cdef str THROW = "throw"
cdef uint64_t serials = 0

cdef bint UNCANCEL_RESETS = sys.version_info >= (3, 13)


@cython.final
cdef class FlowTask(TaskFace):
    """A coroutine that the engine steps itself; to asyncio it looks like a task."""

    def __init__(self, coro, TaskQueue queue not None, *, name=None, context=None, flow=None):
        if self.queue is not None:
            raise RuntimeError("a flow task is born once")
        task_born(self, coro, queue, copy_context() if context is None else context, flow)
        self.name = None if name is None else str(name)

    def __dealloc__(self):
        self.unlink()

    def __del__(self):
        if self.queue is None:
            return
        self.retire()
        if not self.is_done() and not self.silent:
            self.report("Task was destroyed but it is pending!", {"task": self})
        if self.unretrieved:
            self.report("Task exception was never retrieved",
                        {"exception": self.value, "future": self})

    # ---- stepping ----

    cpdef int step(self) except -1:
        """Runs the coroutine up to its next wait, now; says whether it has ended.

        Inside another task it cannot: then the task becomes runnable instead.
        """
        if self.state > TASK_QUEUED or self.is_done():
            return self.is_done()
        if self.state == TASK_PARKED:
            (<Parking>self.waits_on).waiter = None
        if not self.queue.enter(self):
            self.queue.push(self)
            return 0
        try:
            return self.advance(None)
        finally:
            self.queue.leave()

    cdef int go_on(self, object error) except -1:
        """A step asked for by the loop; ``error`` is thrown into the coroutine."""
        if not self.queue.enter(self):
            return self.soon(error)
        self.queue.steps += 1
        try:
            return self.advance(error)
        finally:
            self.queue.leave()

    cdef int advance(self, object error) except -1:
        """One step; the queue has made this task the current one."""
        cdef PyObject *yielded = NULL
        cdef int how
        if self.must_cancel:
            self.must_cancel = False
            if not isinstance(error, CancelledError):
                error = self.cancelled_error()
        self.state = TASK_RUNNING
        if PyContext_Enter(<PyObject *>self.context) < 0:
            return self.failed()                # a context of the caller's, entered elsewhere
        self.queue.stepping = <PyObject *>self
        if error is None:
            how = PyIter_Send(<PyObject *>self.coro, Py_None, &yielded)
        else:
            self.waits_on = None
            how = task_throw(<PyObject *>self.coro, <PyObject *>error, &yielded)
        self.queue.stepping = NULL
        PyContext_Exit(<PyObject *>self.context)
        if yielded == <PyObject *>PARKED:
            Py_DECREF(PARKED)
            return self.parked()
        return self.stepped(how, yielded)

    cdef int stepped(self, int how, PyObject *yielded) except -1:
        """What the coroutine did, other than to park."""
        if how == PYGEN_ERROR:
            return self.failed()
        result = <object>yielded
        Py_DECREF(result)
        if how == PYGEN_NEXT:
            return self.suspended(result)
        if self.must_cancel:                    # cancelled right before it returned
            self.must_cancel = False
            return self.end(TASK_CANCELLED, None)
        return self.end(TASK_RETURNED, result)

    cdef int parked(self) except -1:
        self.state = TASK_PARKED
        if self.must_cancel:
            self.unpark()
        elif (<Parking>self.waits_on).waiter is not self:
            self.queue.push(self)               # woken by whoever passed the yield on to us
        return 0

    cdef int unpark(self) except -1:
        """A parked task is cancelled: in a later iteration, as a cancelled future would."""
        (<Parking>self.waits_on).waiter = None
        return self.soon(None)

    cdef int suspended(self, object yielded) except -1:
        """Not parked: it waits for something of asyncio's."""
        if yielded is None:                     # asyncio.sleep(0)
            return self.soon(None)
        try:
            complaint = task_complaint(self, yielded)
            if complaint is None:
                # In the queue's context, not in ours, which the step that follows enters.
                yielded._asyncio_future_blocking = False
                yielded.add_done_callback(self._wakeup, context=self.queue.context)
        except Exception as error:              # a future that does not play its part
            return self.soon(error)
        return self.soon(RuntimeError(complaint)) if complaint else self.wait_for(yielded)

    cdef int wait_for(self, object future) except -1:
        self.state = TASK_WAITING
        self.waits_on = future
        self.queue.foreign_waiters += 1
        self.register()
        if self.must_cancel and future.cancel(msg=self.cancel_message):
            self.must_cancel = False
        return 0

    cdef int soon(self, object error) except -1:
        self.state = TASK_SCHEDULED
        self._loop.call_soon(self._step_soon, error, context=self.queue.context)
        return 0

    def _step_soon(self, error):
        if self.state == TASK_SCHEDULED:
            self.go_on(error)

    def _wakeup(self, future):
        if self.state != TASK_WAITING or self.waits_on is not future:
            return
        self.queue.foreign_waiters -= 1
        self.waits_on = None
        self.go_on(task_error_of(future))

    # ---- the end ----

    cdef int failed(self) except -1:
        error = task_take_raised()
        if isinstance(error, CancelledError):
            self.cancel_message = None
            return self.end(TASK_CANCELLED, error)
        self.traceback = error.__traceback__
        self.unretrieved = True
        self.end(TASK_FAILED, error)
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise error
        return 1

    cdef int end(self, int state, object value) except -1:
        self.state = state
        self.value = value
        self.waits_on = None
        self.retire()
        try:
            if self.on_done is not None:
                self.tell_owner()
        finally:
            self.flow = None                    # the flow knows its task: no cycle after the end
            if self.callbacks is not None:
                self.call_back()
        return 1

    cdef int tell_owner(self) except -1:
        """The owner's hook runs between tasks: it may step others."""
        on_done, self.on_done = self.on_done, None
        self.queue.leave()
        try:
            on_done(self)
        except Exception as error:
            self.report("Exception in a flow task's on_done", {"exception": error, "task": self})
        return 0

    cdef int register(self) except -1:
        if not self.registered:
            self.registered = True
            asyncio.tasks._register_task(self)
        return 0

    cdef void retire(self) noexcept:
        """Leaves the queue's ring and counts, and asyncio's registry. Once."""
        if self.link.next == NULL:
            return
        self.unlink()
        self.queue.ended += 1
        if self.state == TASK_WAITING:          # dropped, never to be woken
            self.queue.foreign_waiters -= 1
        if self.registered:
            asyncio.tasks._unregister_task(self)

    cdef void unlink(self) noexcept:
        if self.link.next != NULL:
            self.link.prev.next = self.link.next
            self.link.next.prev = self.link.prev
            self.link.next = NULL

    # ---- asyncio.Task, to the letter ----

    def cancel(self, msg=None):
        """Request that this task cancel itself, in a later iteration of the loop."""
        self.unretrieved = False
        if self.is_done():
            return False
        self.cancels += 1
        if self.state == TASK_WAITING and self.waits_on.cancel(msg=msg):
            return True
        self.must_cancel = True
        self.cancel_message = msg
        if self.state == TASK_PARKED:
            self.unpark()
        elif self.state == TASK_NEW:
            self.queue.push(self)               # nobody else may be about to step it
        return True

    def cancelling(self):
        """Return the count of the task's cancellation requests."""
        return self.cancels

    def uncancel(self):
        """Decrement the count of cancellation requests; return what remains."""
        if self.cancels > 0:
            self.cancels -= 1
            if self.cancels == 0 and UNCANCEL_RESETS:
                self.must_cancel = False
        return self.cancels

    @property
    def _fut_waiter(self):
        """The foreign future that it waits for; parkings are nobody else's business."""
        return self.waits_on if self.state == TASK_WAITING else None


cdef FlowTask flow_task_new(object coro, TaskQueue queue, object flow):
    cdef FlowTask task = FlowTask.__new__(FlowTask)
    task_born(task, coro, queue, PyContext_CopyCurrent(), flow)
    return task


cdef int task_born(FlowTask task, coro, TaskQueue queue, context, flow) except -1:
    global serials
    if not PyCoro_CheckExact(coro) and not iscoroutine(coro):
        raise TypeError(f"a coroutine was expected, got {coro!r}")
    serials += 1
    task.serial = serials
    task._loop = queue.loop
    task.queue = queue
    task.coro = coro
    task.context = context
    task.flow = flow
    task.state = TASK_NEW
    task.link.next = &queue.live                # last of the ring
    task.link.prev = queue.live.prev
    task.link.task = <PyObject *>task
    task.link.prev.next = queue.live.prev = &task.link
    queue.born += 1
    if queue.debug:
        task.register()
    return 0


cdef int task_throw(PyObject *coro, PyObject *error, PyObject **yielded) noexcept:
    """coro.throw(), with the answers of PyIter_Send."""
    yielded[0] = PyObject_CallMethodOneArg(coro, <PyObject *>THROW, error)
    if yielded[0] != NULL:
        return PYGEN_NEXT
    if not PyErr_ExceptionMatches(StopIteration):
        return PYGEN_ERROR
    value = task_take_raised().value
    Py_INCREF(value)
    yielded[0] = <PyObject *>value
    return PYGEN_RETURN


cdef object task_complaint(FlowTask task, object yielded):
    """Why a task cannot wait for what it yielded, in asyncio's words, or None."""
    blocking = getattr(yielded, "_asyncio_future_blocking", None)
    if blocking is None:
        if inspect.isgenerator(yielded):
            return ("yield was used instead of yield from for generator "
                    f"in task {task!r} with {yielded!r}")
        return f"Task got bad yield: {yielded!r}"
    if _get_loop(yielded) is not task._loop:
        return f"Task {task!r} got Future {yielded!r} attached to a different loop"
    if not blocking:
        return f"yield was used instead of yield from in task {task!r} with {yielded!r}"
    if yielded is task:
        return f"Task cannot await on itself: {task!r}"
    return None


# ---- Where a task waits for the engine ---------------------------------------------------

cdef class Parking:
    """A place where at most one coroutine waits for the engine: ``await parking``.

    A flow task is stepped again by its queue; the coroutine of any other task waits for a
    future. A wake-up says that something may have changed, no more.
    """

    def __init__(self, TaskQueue queue not None):
        self.queue = queue

    cpdef void wake(self) noexcept:
        """Whoever waits becomes runnable."""
        waiter = self.waiter
        if waiter is None:
            return
        self.waiter = None
        if type(waiter) is FlowTask:
            (<FlowTask>waiter).queue.push(<FlowTask>waiter)
        elif not waiter.done():
            waiter.set_result(None)

    cpdef bint waiting(self) noexcept:
        """Whether anybody waits."""
        if self.waiter is None:
            return False
        return type(self.waiter) is FlowTask or not self.waiter.done()

    def __await__(self):
        if self.queue is None:
            raise RuntimeError("a parking belongs to a queue")
        cdef PyObject *stepping = self.queue.stepping
        # In a step another task may run: one that was started eagerly. It has a context of
        # its own, and only the flow task itself runs in the flow task's.
        if stepping == NULL or not task_context_entered(<FlowTask>stepping):
            return self.wait_ordinary()
        return self

    def __next__(self):
        cdef PyObject *stepping = self.queue.stepping
        if stepping == NULL:
            raise RuntimeError("a parking is awaited, not iterated")
        if (<FlowTask>stepping).waits_on is self:
            (<FlowTask>stepping).waits_on = None
            raise StopIteration                 # bare: no exception object is made
        if self.waiter is not None:
            self.refuse_second()
        if self.too_late:
            self.refuse_late()
        self.waiter = <FlowTask>stepping
        (<FlowTask>stepping).waits_on = self
        return PARKED

    cdef object wait_ordinary(self):
        if self.waiter is not None:
            self.refuse_second()
        if self.too_late:
            self.refuse_late()
        self.waiter = self.queue.loop.create_future()
        return self.waiter.__await__()

    cdef int refuse_second(self) except -1:
        """A waiter of an ordinary task that was cancelled does not count."""
        if self.waiting():
            parking_refuse(task_method())
        return 0

    cdef int refuse_late(self) except -1:
        raise TimeoutError(f"{task_method()}(): nothing came before its timeout")


cdef int parking_refuse(str method) except -1:
    """asyncio's words, and what to do instead."""
    raise RuntimeError(f"{method}() called while another coroutine is already waiting for "
                       "incoming data: let one coroutine read and hand on what it got, or declare "
                       "a second handler, which has a cursor of its own")


cdef inline bint task_context_entered(FlowTask task) noexcept:
    return <PyObject *>task.context == PyThreadState_Get().context


cdef str task_method():
    """The method that a coroutine is in: the innermost one with a public name."""
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_name.startswith("_"):
        frame = frame.f_back
    return frame.f_code.co_name


cdef bint parking_enter(Parking parking, PyObject **to_yield) noexcept:
    cdef PyObject *stepping = parking.queue.stepping
    if stepping == NULL or not task_context_entered(<FlowTask>stepping):
        return False
    parking.waiter = <FlowTask>stepping
    (<FlowTask>stepping).waits_on = parking
    Py_INCREF(PARKED)
    to_yield[0] = <PyObject *>PARKED
    return True


cdef void parking_leave(Parking parking) noexcept:
    cdef PyObject *stepping = parking.queue.stepping
    if stepping != NULL and (<FlowTask>stepping).waits_on is parking:
        (<FlowTask>stepping).waits_on = None
