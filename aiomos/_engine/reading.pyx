"""The C protocol of an awaitable (PEP 492; ``PyIter_Send``), for reads; see reading.pxd."""
cimport cython
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF

from warnings import warn

from aiomos._engine.intrinsics cimport likely
from aiomos._engine.task cimport parking_enter, parking_leave, parking_refuse

cdef extern from *:
    """
    typedef int (*aio_sendfunc)(PyObject *, PyObject *, PyObject **);

    typedef void (*aio_closefunc)(PyObject *);
    static aio_closefunc aio_close;

    /* No throw() of Cython's: it would stand in the traceback of what is thrown. */
    static PyObject *aio_throw(PyObject *self, PyObject *args) {
        PyObject *error = NULL, *value = NULL, *trace = NULL;
        if (!PyArg_ParseTuple(args, "O|OO", &error, &value, &trace)) return NULL;
        aio_close(self);
        if (PyExceptionInstance_Check(error)) {
            PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        } else {
            if (trace == Py_None) trace = NULL;
            Py_INCREF(error); Py_XINCREF(value); Py_XINCREF(trace);
            PyErr_Restore(error, value, trace);
        }
        return NULL;
    }

    #define aio_references(object) Py_REFCNT(object)

    static PyMethodDef aio_throw_def = {"throw", aio_throw, METH_VARARGS,
        "Raise an exception where the read is awaited."};

    /* Fills what Cython leaves empty: the C way to resume, and throw(). */
    static int aio_complete_type(PyTypeObject *type, aio_sendfunc send, aio_closefunc close) {
        PyObject *method = PyDescr_NewMethod(type, &aio_throw_def);
        int failed = method == NULL || PyDict_SetItemString(type->tp_dict, "throw", method) < 0;
        Py_XDECREF(method);
        type->tp_as_async->am_send = (sendfunc)send;
        aio_close = close;
        PyType_Modified(type);
        return failed ? -1 : 0;
    }
    """
    ctypedef int (*aio_sendfunc)(PyObject *, PyObject *, PyObject **) except -1
    ctypedef void (*aio_closefunc)(PyObject *) noexcept
    Py_ssize_t aio_references(PyObject *object)
    int aio_complete_type(PyTypeObject *type, aio_sendfunc send,
                          aio_closefunc close) except -1

cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_NEXT
    PyObject *PyIter_Next(object iterator) except? NULL


cdef class Reader:
    cdef object take(self, uint64_t n):
        raise NotImplementedError

    cdef object take_to_end(self, Reading r):
        raise NotImplementedError


@cython.final
cdef class Reading:
    """A read that is awaited once, as a coroutine is."""

    __name__ = "read"
    __qualname__ = "Endpoint.read"

    def __init__(self):
        raise TypeError("reads are made by endpoint.read()")

    def __dealloc__(self):
        if not self.awaited and self.reader is not None:
            warn("coroutine 'Endpoint.read' was never awaited", RuntimeWarning)

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        """One step: what to wait for, or StopIteration with the bytes."""
        cdef PyObject *result = NULL
        cdef int how = reading_send(<PyObject *>self, <PyObject *>value, &result)
        given = <object>result
        Py_DECREF(given)                        # the reference that came with it
        if how == PYGEN_RETURN:
            raise StopIteration(given)
        return given

    def close(self):
        """Gives the read up."""
        reading_close(<PyObject *>self)

    cdef int park(self, PyObject **result) except -1:
        """Nothing is there yet: gives what the task waits for."""
        cdef Parking parking = self.reader._parking
        if parking.waiter is not None and parking.waiting():
            parking_refuse("read")
        if parking.too_late:
            raise TimeoutError("read(): nothing came before its timeout")
        if parking_enter(parking, result):
            return PYGEN_NEXT
        self.ordinary = parking.wait_ordinary()
        result[0] = PyIter_Next(self.ordinary)
        return PYGEN_NEXT


cdef int reading_send(PyObject *self, PyObject *value, PyObject **result) except -1:
    """PyIter_Send's contract: a result, or what to wait for, or -1 and an exception."""
    cdef Reading r = <Reading>self
    if r.reader is None:
        raise RuntimeError("cannot reuse already awaited coroutine")
    if r.awaited:
        parking_leave(r.reader._parking)
        if r.ordinary is not None:
            result[0] = PyIter_Next(r.ordinary)     # raises what the future was given
            if result[0] != NULL:
                return PYGEN_NEXT
            r.ordinary = None
    r.awaited = True
    if likely(r.n > 0):
        data = r.reader.take(r.n)
    else:
        data = r.reader.take_to_end(r) if r.n else b""
    if data is None:
        return r.park(result)
    r.reader = None
    if r.blocks is not None:
        r.blocks = None
    Py_INCREF(data)
    result[0] = <PyObject *>data
    return PYGEN_RETURN


cdef Reading reading_of(Reader reader, Py_ssize_t n):
    cdef Reading r = reader.last
    # Held by the reader and by r alone, and over.
    if r is None or aio_references(<PyObject *>r) != 2 or r.reader is not None:
        r = reader.last = Reading.__new__(Reading)
    r.reader = reader
    r.n = n
    r.awaited = False
    return r


cdef void reading_close(PyObject *self) noexcept:
    (<Reading>self).awaited = True
    (<Reading>self).reader = None
    (<Reading>self).blocks = None
    (<Reading>self).ordinary = None


aio_complete_type(<PyTypeObject *>Reading, reading_send, reading_close)
