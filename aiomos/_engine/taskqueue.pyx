"""Who is runnable, and what asyncio holds for the current task; see taskqueue.pxd."""
cimport cython
from cpython.contextvars cimport PyContext_New
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

import asyncio
import sys

from aiomos._engine.taskface cimport TASK_NEW, TASK_PARKED, TASK_QUEUED, TaskFace, TaskLink

cdef extern from *:
    """
    /* What asyncio's own C code uses for this dictionary: hashing the loop each time costs 45 of
       3300 instructions a resume. 3.13 exports them too, but in no public header. */
    #if PY_VERSION_HEX >= 0x030D0000
    int _PyDict_SetItem_KnownHash(PyObject *d, PyObject *key, PyObject *item, Py_hash_t hash);
    int _PyDict_DelItem_KnownHash(PyObject *d, PyObject *key, Py_hash_t hash);
    #endif
    """
    int _PyDict_SetItem_KnownHash(object d, object key, object item, Py_hash_t hash) except -1
    int _PyDict_DelItem_KnownHash(object d, object key, Py_hash_t hash) except -1

cdef extern from "Python.h":
    PyObject *PyDict_SetDefault(object d, object key, object value) except NULL

# asyncio's current tasks by loop: a plain dictionary until Python 3.13, which a step may
# set directly; a thread's own field, set through _swap_current_task, from 3.14 on.
cdef dict current_tasks = None
cdef object swap_current = None
if sys.version_info < (3, 14):
    current_tasks = asyncio.tasks._current_tasks
else:
    swap_current = asyncio.tasks._swap_current_task


@cython.final
cdef class TaskQueue:
    """Who is runnable on one core, in order of first wake-up."""

    def __cinit__(self, loop not None):
        self.live.prev = self.live.next = &self.live
        self.loop = loop
        self.loop_hash = hash(loop)
        self.context = PyContext_New()
        self.debug = loop.get_debug()

    def __dealloc__(self):
        self.live.prev.next = self.live.next    # tasks of a dead queue stay a ring of their own
        self.live.next.prev = self.live.prev

    cpdef void push(self, TaskFace task) noexcept:
        """Makes a task that has not begun, or is parked, runnable."""
        if task.state != TASK_PARKED and task.state != TASK_NEW:
            return                              # ended or queued, or somebody else will step it
        task.state = TASK_QUEUED
        if task.in_list:
            return
        task.in_list = True
        Py_INCREF(task)
        if self.head != NULL:
            (<TaskFace>self.tail).next = <PyObject *>task
            self.tail = <PyObject *>task
        else:
            self.head = self.tail = <PyObject *>task
            self.announce()

    cdef void announce(self) noexcept:
        if self.on_runnable is not None and not self.pumping:
            self.on_runnable()

    cdef PyObject *pop(self) noexcept:
        """The next of the list; the caller takes the list's reference over."""
        cdef PyObject *first = self.head
        self.head = (<TaskFace>first).next
        (<TaskFace>first).next = NULL
        (<TaskFace>first).in_list = False
        return first

    cpdef Py_ssize_t run(self, Py_ssize_t budget) except -1:
        """Steps runnable tasks until there are none, or ``budget`` steps were made.

        A task woken again goes behind all that are runnable, so this list is the rounds:
        nobody is stepped twice before everybody was stepped once.
        """
        cdef Py_ssize_t steps = 0
        cdef bint pumping = self.pumping
        self.pumping = True
        try:
            while steps < budget and self.may_step_next():
                steps += 1
                self.step_next()
        except BaseException:                   # an exit: the pump will not come to ask again
            self.pumping = False
            if self.head != NULL:
                self.announce()
            raise
        finally:
            self.pumping = pumping
            self.leave()
        if self.head != NULL and steps < budget:
            self.announce()                     # refused: this is inside some task
        return steps

    cdef bint may_step_next(self) except -1:
        """Finds the next task and makes it the current one, where none is current."""
        while self.head != NULL and (<TaskFace>self.head).state != TASK_QUEUED:
            Py_DECREF(<TaskFace>self.pop())     # stepped by hand since, or ended
        return self.head != NULL and self.enter(<TaskFace>self.head)

    cdef int step_next(self) except -1:
        cdef TaskFace task = <TaskFace>self.pop()
        Py_DECREF(task)
        self.steps += 1
        task.advance(None)
        return 0

    cpdef void clear(self) noexcept:
        """Forgets who is runnable: for shutdown, when nothing will be stepped any more."""
        cdef TaskFace task
        while self.head != NULL:
            task = <TaskFace>self.pop()
            Py_DECREF(task)

    def tasks(self):
        """All tasks that were born and have not ended, oldest first."""
        cdef TaskLink *link = self.live.next
        found = []
        while link != &self.live:
            found.append(<TaskFace>link.task)
            link = link.next
        return found

    @property
    def current(self):
        """The task that is being stepped, or None; may be asked from another thread."""
        return <object>self.stepping if self.stepping != NULL else None

    @property
    def alive(self):
        return self.born - self.ended

    cdef bint enter(self, TaskFace task) except -1:
        """Makes a task asyncio's current one; refuses where another is."""
        if self.stepping != NULL:
            return False
        if current_tasks is None:
            return self.enter_by_swapping(task)
        if self.entered:
            _PyDict_SetItem_KnownHash(current_tasks, self.loop, task, self.loop_hash)
            return True
        self.entered = PyDict_SetDefault(current_tasks, self.loop, task) == <PyObject *>task
        return self.entered

    cdef int leave(self) except -1:
        if not self.entered:
            return 0
        self.entered = False
        if current_tasks is not None:
            _PyDict_DelItem_KnownHash(current_tasks, self.loop, self.loop_hash)
        else:
            swap_current(self.loop, None)
        return 0

    cdef bint enter_by_swapping(self, TaskFace task) except -1:
        before = swap_current(self.loop, task)
        if before is not None and not self.entered:
            swap_current(self.loop, before)
            return False
        self.entered = True
        return True
