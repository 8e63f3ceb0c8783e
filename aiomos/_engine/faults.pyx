"""Functions that raise; see faults.pxd."""


cdef class Faults:
    """Failures of an app's functions, told to ``on_failure(flow, error, name)``."""

    def __init__(self, Core core not None, on_failure):
        self.core = core
        self.on_failure = on_failure

    cdef int failed(self, object flow, object error, object function) except -1:
        self.errors += 1
        if self.on_failure is not None:
            self.on_failure(flow, error, getattr(function, "__qualname__", repr(function)))
        return 0

    cdef int raised(self, object flow, object error, object function) except -1:
        if isinstance(error, Exception):
            return self.failed(flow, error, function)
        self.leaving = error
        self.core.state.full = True         # after this burst, not in the middle of it
        return 0

    cdef int leave(self) except -1:
        if self.leaving is not None:
            error, self.leaving = self.leaving, None
            raise error
        return 0
