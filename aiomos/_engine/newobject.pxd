"""An object of a class without its __init__, which refuses users: endpoints, flows."""

cdef extern from *:
    """
    static PyObject *aio_new_empty(PyObject *cls, PyObject *no_args)
    { return ((PyTypeObject *)cls)->tp_new((PyTypeObject *)cls, no_args, NULL); }
    """
    object new_empty "aio_new_empty"(object cls, tuple no_args)
