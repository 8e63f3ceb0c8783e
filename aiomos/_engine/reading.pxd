"""What ``endpoint.read(n)`` gives on CPython 3.11: takes bytes, or parks until there are some.

That interpreter asks an awaitable for its next step in C (``am_send``), and is given a value
without an exception object or a frame. Later ones do not ask, and a coroutine in Python is
the cheaper way there (docs/decisions/0027).
"""
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t

from aiomos._engine.task cimport Parking


cdef class Reader:
    # What is read. EndpointBase is one.
    cdef readonly Parking _parking      # made when somebody first waits
    cdef Reading last                   # the last read, to be used again if nobody has it

    # Up to n bytes, b"" at the end; None: nothing yet, and _parking is made.
    cdef object take(self, uint64_t n)
    # All up to the end, in the same manner; what was taken so far is kept in the reading.
    cdef object take_to_end(self, Reading r)


cdef class Reading:
    # One read(), from call to result. Quacks as a coroutine does.
    cdef Reader reader                  # None: it is over
    cdef object ordinary                # future's iterator, where no flow task is stepped
    cdef list blocks                    # of a read to the end: what was taken so far
    cdef Py_ssize_t n                   # at most so many; negative: everything
    cdef uint8_t awaited

    cdef int park(self, PyObject **result) except -1


# A read of this reader; the last one's object again where nobody else holds that.
cdef Reading reading_of(Reader reader, Py_ssize_t n)
