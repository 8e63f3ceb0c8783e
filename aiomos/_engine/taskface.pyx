"""The protocol of asyncio's Future and Task, as far as it steps nothing; see taskface.pxd."""
cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF

from asyncio import base_tasks
from asyncio.exceptions import CancelledError, InvalidStateError
from contextvars import copy_context
from types import GenericAlias

cdef extern from *:
    """
    /* The exception being raised, taken over: normalised, its traceback set. */
    static PyObject *aio_take_raised(void) {
    #if PY_VERSION_HEX >= 0x030C0000
        return PyErr_GetRaisedException();
    #else
        PyObject *type, *value, *trace;
        PyErr_Fetch(&type, &value, &trace);
        PyErr_NormalizeException(&type, &value, &trace);
        if (trace != NULL) PyException_SetTraceback(value, trace);
        Py_XDECREF(type);
        Py_XDECREF(trace);
        return value;
    #endif
    }
    """
    object aio_take_raised()

cdef extern from "Python.h":
    PyObject *PyObject_CallMethodNoArgs(object obj, object name)


cdef class TaskFace:
    """A coroutine, what it ended with, and who is told."""

    cdef int advance(self, object error) except -1:
        raise NotImplementedError

    cdef int soon(self, object error) except -1:
        raise NotImplementedError

    cdef object error(self):
        """What asking for the result of an ended task raises, or None."""
        if self.state == TASK_CANCELLED:
            return self.cancelled_error()
        self.unretrieved = False
        return self.value.with_traceback(self.traceback) if self.state == TASK_FAILED else None

    cdef object cancelled_error(self):
        """The one that ended the coroutine first, a new one after that: so asyncio."""
        error, self.value = self.value, None
        if error is None:
            message = self.cancel_message
            error = CancelledError() if message is None else CancelledError(message)
        return error

    cdef int call_back(self) except -1:
        callbacks, self.callbacks = self.callbacks, None
        for function, context in callbacks:
            self._loop.call_soon(function, self, context=context)
        return 0

    cdef int report(self, str message, dict context) except -1:
        context["message"] = message
        self._loop.call_exception_handler(context)
        return 0

    def cancelled(self):
        """Return True if the task was cancelled."""
        return self.state == TASK_CANCELLED

    def done(self):
        """Return True if the task has ended, in whatever way."""
        return self.is_done()

    def result(self):
        """Return what the coroutine returned, or raise what it raised."""
        if not self.is_done():
            raise InvalidStateError("Result is not ready.")
        error = self.error()
        if error is not None:
            raise error
        return self.value

    def exception(self):
        """Return the exception that the coroutine raised, or None."""
        if not self.is_done():
            raise InvalidStateError("Exception is not set.")
        error = self.error()
        if self.state == TASK_CANCELLED:
            raise error
        return error

    def set_result(self, result):
        """Refused: the result is the coroutine's."""
        raise RuntimeError("Task does not support set_result operation")

    def set_exception(self, exception):
        """Refused: the result is the coroutine's."""
        raise RuntimeError("Task does not support set_exception operation")

    def add_done_callback(self, fn, *, context=None):
        """Call ``fn(task)`` from the loop when the task has ended."""
        if self.is_done():
            self._loop.call_soon(fn, self, context=context)
            return
        if self.callbacks is None:
            self.callbacks = []
        self.callbacks.append((fn, copy_context() if context is None else context))

    def remove_done_callback(self, fn):
        """Remove all instances of a callback; return their number."""
        before = self.callbacks or []
        kept = [entry for entry in before if entry[0] != fn]
        self.callbacks = kept or None
        return len(before) - len(kept)

    def get_coro(self):
        return self.coro

    def get_context(self):
        return self.context

    def get_name(self):
        if self.name is None:
            self.name = f"Flow-{self.serial}"
        return self.name

    def set_name(self, value):
        self.name = str(value)

    def get_stack(self, *, limit=None):
        """Return the frames of the coroutine, or of the traceback it ended with."""
        return base_tasks._task_get_stack(self, limit)

    def print_stack(self, *, limit=None, file=None):
        """Print what get_stack() returns."""
        base_tasks._task_print_stack(self, limit, file)

    def __repr__(self):
        return base_tasks._task_repr(self)

    def get_loop(self):
        """Return the event loop that the task belongs to."""
        return self._loop

    def __await__(self):
        return TaskWait.__new__(TaskWait, self)

    def __iter__(self):
        return TaskWait.__new__(TaskWait, self)

    @classmethod
    def __class_getitem__(cls, item):
        return GenericAlias(cls, item)

    # What asyncio's own helpers, and libraries that look inside a task, look at.

    _source_traceback = None

    @property
    def _coro(self):
        return self.coro

    @property
    def _must_cancel(self):
        return bool(self.must_cancel)

    @_must_cancel.setter
    def _must_cancel(self, value):
        self.must_cancel = bool(value)

    @property
    def _num_cancels_requested(self):
        return self.cancels

    @property
    def _log_destroy_pending(self):
        return not self.silent

    @_log_destroy_pending.setter
    def _log_destroy_pending(self, value):
        self.silent = not value

    def _make_cancelled_error(self):
        return self.cancelled_error()

    @property
    def _asyncio_future_blocking(self):
        return bool(self.blocking)

    @_asyncio_future_blocking.setter
    def _asyncio_future_blocking(self, value):
        self.blocking = bool(value)

    @property
    def _log_traceback(self):
        return bool(self.unretrieved)

    @_log_traceback.setter
    def _log_traceback(self, value):
        if value:
            raise ValueError("_log_traceback can only be set to False")
        self.unretrieved = False

    @property
    def _state(self):
        if not self.is_done():
            return "PENDING"
        return "CANCELLED" if self.state == TASK_CANCELLED else "FINISHED"

    @property
    def _result(self):
        return self.value if self.state == TASK_RETURNED else None

    @property
    def _exception(self):
        return self.value if self.state == TASK_FAILED else None

    @property
    def _callbacks(self):
        return self.callbacks

    @property
    def _cancel_message(self):
        return self.cancel_message

    @_cancel_message.setter
    def _cancel_message(self, message):
        self.cancel_message = message


@cython.final
cdef class TaskWait:
    """What awaiting a flow task iterates. It has no throw(): what a waiter is woken with
    is raised at its own await, with no frame of this file in between."""
    cdef TaskFace task
    cdef bint yielded

    def __cinit__(self, TaskFace task not None):
        self.task = task

    def __iter__(self):
        return self

    def __next__(self):
        if self.task.is_done():
            raise StopIteration(self.task.result())
        if self.yielded:
            raise RuntimeError("await wasn't used with future")
        self.yielded = True
        self.task.blocking = True
        return self.task


cdef object task_error_of(object future):
    if isinstance(future, TaskFace):
        return (<TaskFace>future).error() if (<TaskFace>future).is_done() else None
    cdef PyObject *result = PyObject_CallMethodNoArgs(future, "result")
    if result == NULL:
        return aio_take_raised()
    Py_DECREF(<object>result)
    return None


cdef object task_take_raised():
    return aio_take_raised()
